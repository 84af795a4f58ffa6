/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_GUARD_H
#define DG_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "request.h"

/* guard: is this request line and header list something two programs cannot read differently?
 *
 * The HTTP library is lenient where leniency lets a request be smuggled past a proxy (it takes the
 * first of two Content-Length, prefers chunked over a length, takes any version 1.x). The guard
 * decides from what the library hands over. After a refusal the connection must be closed, since
 * nobody knows where the next request begins. A pure function: no state, no memory.
 *
 * What it cannot see, because the library drops it: bare LF as line end, NUL and what follows it
 * in a line, folded header lines (their names are often caught as no token). */

#define GUARD_TARGET_BYTES_MAX 4096
#define GUARD_HEADERS_MAX      64
#define GUARD_HEADER_BYTES_MAX 16384 /* names, values and four bytes a line, together */

struct guard_header {
	const char *name; /* need not end in NUL; neither does value */
	size_t name_len;
	const char *value;
	size_t value_len;
};

struct guard_input {
	const char *method;
	const char *version;
	const char *target;
	const struct guard_header *headers;
	size_t header_count;
};

/* What the request line and the headers say, once they are trusted. */
struct guard_facts {
	enum method method; /* METHOD_COUNT: a method we have no name for */
	bool http_1_0;
	bool chunked;
	bool has_length;
	uint64_t length;
	bool expect_continue;
};

/* RC_OK and *out filled; or RC_INVALID, RC_TOO_LARGE with the kind of the problem
 * ("malformed-request", "uri-too-long", "headers-too-large", "not-implemented",
 * "expectation-failed") and a text for the client. */
enum rc guard_check(const struct guard_input *in, struct guard_facts *out, struct err *err);

/* "GET" for METHOD_GET and so on; "?" for METHOD_COUNT. */
const char *guard_method_name(enum method method);

#endif
