/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_METRICS_HISTOGRAM_H
#define DG_METRICS_HISTOGRAM_H

#include "buf.h"
#include "histogram.h"

/* metrics_histogram: a histogram of microseconds as lines of Prometheus text, in seconds. */

/* Append the head: once for all histograms of a name, which differ in their labels. Names, labels
 * and help are ours and need no escaping. */
void metrics_histogram_head(struct buf *out, const char *name, const char *help);
/* Append the lines of one. labels: "" or like `kind="read"`. */
void metrics_histogram(
	struct buf *out, const char *name, const char *labels, const struct histogram_view *v);

#endif
