/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ROUTER_H
#define DG_ROUTER_H

#include <stddef.h>

#include "err.h"
#include "request.h"

/* router: which operation a method and a request target mean, and with what parameters.
 *
 * A path template has literal segments, {name} for one segment and, last only, {name...} for the
 * rest with its slashes. The raw path is split at '/' first and each parameter is percent-decoded
 * once after that: "%2F" in a {ref} stays in it, and in a {path...} becomes a slash. Literal
 * segments match byte by byte, undecoded, so that no spelling of a route slips past a proxy's
 * rules. No segment is empty, and there are no redirects: "/v1/repos/" is not "/v1/repos".
 * Of several templates that match, a literal segment wins over a parameter, from the left.
 *
 * A query is name=value pairs joined by '&', percent-decoded once, where '+' is a space; empty
 * pairs are skipped, a name without '=' has the value "". Names must be in op->query, once each.
 * Parameters and values are valid UTF-8 without NUL. A pure function of its arguments. */

#define ROUTER_QUERY_MAX   16
#define ROUTER_ALLOW_BYTES 64
#define ROUTER_NAME_BYTES  24
#define ROUTER_FIELD_BYTES 68

/* Not to be copied: params[].name points into names. */
struct route {
	const struct op *op; /* NULL: OPTIONS of a path that exists */
	struct request_param params[REQUEST_PARAMS_MAX];
	size_t param_count;
	struct request_param query[ROUTER_QUERY_MAX];
	size_t query_count;
	char names[REQUEST_PARAMS_MAX][ROUTER_NAME_BYTES];
	char allow[ROUTER_ALLOW_BYTES]; /* "GET, HEAD, OPTIONS": filled if the path exists */
	char field[ROUTER_FIELD_BYTES]; /* "invalid-query": name of the parameter, cut; else "" */
};

/* Find the operation for method and target. ops ends with NULL. target is written to: the
 * parameters and query values of *out point into it and live as long as it does.
 * A HEAD without an operation of its own gets that of GET; METHOD_COUNT means a method without
 * name. out->allow is also filled when the method is what fails, and out->field when a query
 * parameter is.
 * RC_NOT_FOUND "route-not-found"; RC_DENIED "method-not-allowed"; RC_INVALID "invalid-path",
 * "invalid-query". */
enum rc router_find(const struct op *const *ops, enum method method, char *target,
	struct route *out, struct err *err);

#endif
