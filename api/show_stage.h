/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHOW_STAGE_H
#define DG_SHOW_STAGE_H

#include <jansson.h>
#include <stdint.h>

#include "buf.h"
#include "ingest.h"
#include "request.h"
#include "stage.h"

/* show_stage: stages, receipts and what an upload left behind, as JSON. Threads: any. */

#define RECEIPT_BYTES_MAX 1024

/* What everything that came into a stage has cost so far. */
void stage_receipt(struct stage *s, struct ingest_receipt *out);

/* Append a receipt as canonical JSON: sorted keys, no white space, at most RECEIPT_BYTES_MAX bytes.
 * total_ns is wall-clock time. Does not allocate but through out. */
void show_receipt_text(struct buf *out, const struct ingest_receipt *r, uint64_t total_ns);
/* The same of what a stage has cost since it was opened, as a commit keeps it. */
void show_stage_receipt(struct stage *s, struct buf *out);
/* The same as a value. A new reference; NULL: no memory. */
json_t *show_receipt(const struct ingest_receipt *r, uint64_t total_ns);

/* The stage object. A new reference; NULL: no memory. */
json_t *show_stage(struct stage *s);
/* What an archive or a form put into a stage. */
struct batch_result {
	uint64_t files;
	uint64_t bytes; /* of the files */
	uint64_t skipped;
	struct ingest_receipt receipt;
	uint64_t total_ns;
};
json_t *show_batch(struct stage *s, const struct batch_result *b);

/* Answer with an error about a stage: a committed one names its commit. */
void reply_stage_problem(struct request *rq, struct stage *s, const struct err *err);
/* Answer 200 or 201 with the stage. */
void reply_stage(struct request *rq, struct stage *s, bool created);

#endif
