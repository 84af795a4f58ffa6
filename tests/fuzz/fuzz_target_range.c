/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "range.h"

/* Eight bytes are the size of a file, the rest is a header: whatever it says, what comes out of it
 * as ranges lies in the file and goes up, and an entity tag that matches strongly matches weakly.
 */

#define HEADER_BYTES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
require(int condition)
{
	if (!condition)
		abort();
}

static void
check_ranges(const char *header, uint64_t size)
{
	struct range out[RANGES_MAX];
	size_t count = 99;
	enum range_kind kind = range_parse(header, size, out, &count);

	require(count <= RANGES_MAX);
	require((kind == RANGE_PARTS) == (count > 0) || kind == RANGE_WHOLE);
	for (size_t i = 0; kind == RANGE_PARTS && i < count; i++) {
		require(out[i].first <= out[i].last && out[i].last < size);
		require(i == 0 || out[i].first > out[i - 1].last);
	}
}

static void
check_conditions(const char *header)
{
	static const struct range_validators now = {.etag = "\"chunk:ab\"", .modified_s = 1000};
	const struct range_conditions match = {.if_match = header};
	const struct range_conditions none = {.if_none_match = header};
	const struct range_conditions since = {.if_modified_since = header};
	const struct range_conditions until = {.if_unmodified_since = header};
	bool strong = range_check_conditions(&match, &now) == RANGE_GO_ON;
	bool weak = range_check_conditions(&none, &now) == RANGE_NOT_MODIFIED;
	bool not_since = range_check_conditions(&since, &now) == RANGE_NOT_MODIFIED;
	bool too_late = range_check_conditions(&until, &now) == RANGE_PRECONDITION_FAILED;

	require(!strong || weak);
	require(!not_since || !too_late);
	require(!range_if_range_holds(header, &now) || strong || not_since);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char header[HEADER_BYTES_MAX + 1];

	if (len < 8 || len - 8 > HEADER_BYTES_MAX)
		return 0;
	memcpy(header, data + 8, len - 8);
	header[len - 8] = '\0';
	check_ranges(header, get_u64(data));
	check_conditions(header);
	return 0;
}
