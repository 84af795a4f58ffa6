/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_RANGE_H
#define DG_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* range: what the conditional headers and Range of a request mean for one file (RFC 9110, sections
 * 13 and 14). Pure functions of their arguments; header values are borrowed, NULL if not sent.
 * Threads: any. */

#define RANGES_MAX 16

/* What the file is now. */
struct range_validators {
	const char *etag;   /* strong, with its quotes */
	int64_t modified_s; /* Last-Modified, seconds since 1970 */
};

struct range_conditions {
	const char *if_match;
	const char *if_none_match;
	const char *if_modified_since;
	const char *if_unmodified_since;
};

enum range_verdict {
	RANGE_GO_ON,
	RANGE_NOT_MODIFIED,        /* 304 */
	RANGE_PRECONDITION_FAILED, /* 412 */
};

/* Evaluate the conditions of a GET or HEAD in the order of RFC 9110, 13.2.2. A date that cannot be
 * read and an entity tag that is not well-formed (with all behind it) are passed over. */
enum range_verdict range_check_conditions(
	const struct range_conditions *c, const struct range_validators *now);

/* Whether Range counts, by If-Range: not sent, a strong entity tag that is the file's, or exactly
 * its Last-Modified. */
bool range_if_range_holds(const char *if_range, const struct range_validators *now);

/* Bytes first to last, both included. */
struct range {
	uint64_t first;
	uint64_t last;
};

enum range_kind {
	RANGE_WHOLE,         /* no Range, or one to be passed over: 200 */
	RANGE_PARTS,         /* 206 */
	RANGE_UNSATISFIABLE, /* 416 */
};

/* What a Range header means for a file of size bytes. Passed over are: other units, what is not
 * well-formed, more than RANGES_MAX ranges, ranges that are not ascending or overlap. Of several
 * ranges those beyond the end are left out. With RANGE_PARTS out holds *count (1 to RANGES_MAX)
 * ranges, all within the file. */
enum range_kind range_parse(
	const char *header, uint64_t size, struct range out[RANGES_MAX], size_t *count);

#endif
