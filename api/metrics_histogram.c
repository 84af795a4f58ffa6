/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics_histogram.h"

#include <inttypes.h>
#include <stdbool.h>

/* Buckets at powers of two: a quarter of a millisecond to half a minute. */
#define OCTAVE_MIN 8
#define OCTAVE_MAX 25

void
metrics_histogram_head(struct buf *out, const char *name, const char *help)
{
	buf_addf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
}

void
metrics_histogram(
	struct buf *out, const char *name, const char *labels, const struct histogram_view *v)
{
	bool none = labels[0] == '\0';
	const char *comma = none ? "" : ",";
	const char *open = none ? "" : "{";
	const char *close = none ? "" : "}";

	for (unsigned octave = OCTAVE_MIN; octave <= OCTAVE_MAX; octave++)
		buf_addf(out, "%s_bucket{%s%sle=\"%.6f\"} %" PRIu64 "\n", name, labels, comma,
			(double)((UINT64_C(1) << octave) - 1) / 1e6, histogram_below(v, octave));
	buf_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, v->count);
	buf_addf(out, "%s_sum%s%s%s %.6f\n", name, open, labels, close, (double)v->sum / 1e6);
	buf_addf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, v->count);
}
