/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_FAKE_REQUEST_H
#define DG_FAKE_REQUEST_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "request.h"
#include "services.h"

/* fake_request: request.h without HTTP, for tests of operations.
 *
 * The test plays the HTTP thread: fake_body pulls a streamed answer as the server would, waiting
 * for request_wake where the source says later. request_defer runs jobs on FAKE_WORKERS threads
 * that start with the first job and end with fake_stop. */

#define FAKE_WORKERS 2
#define FAKE_PAIRS   24
#define FAKE_QUEUE   64

struct fake_pair {
	const char *name;
	char value[2048];
};

struct fake {
	struct request rq; /* first; rq.http points back */
	struct server_ctx srv;
	struct fake_pair headers[FAKE_PAIRS]; /* of the request */
	size_t header_count;
	struct fake_pair query[FAKE_PAIRS];
	size_t query_count;
	/* the answer */
	int replies; /* how often one was offered */
	int status;
	char type[256];
	uint8_t *data;
	size_t len;
	bool is_stream;
	uint64_t stream_len;
	source_read_fn *read;
	source_free_fn *release;
	void *source;
	struct fake_pair answer[FAKE_PAIRS];
	size_t answer_count;
	/* guarded by mtx */
	pthread_mutex_t mtx;
	pthread_cond_t woken;
	unsigned wakes;
	int completions;
	void *blocks[64];
	size_t block_count;
};

void fake_init(struct fake *f, enum method method);
/* Release the source, free everything. */
void fake_done(struct fake *f);
void fake_param(struct fake *f, const char *name, const char *value);
void fake_query(struct fake *f, const char *name, const char *value);
void fake_header(struct fake *f, const char *name, const char *value);
/* A header of the answer, or NULL. */
const char *fake_answer_header(const struct fake *f, const char *name);

/* Pull up to max bytes of a streamed answer in reads of at most piece bytes, waiting at most 10 s
 * for each. Returns how many came; *last is what the source said at the end: SOURCE_END,
 * SOURCE_ABORT, or 0 (max was reached), SOURCE_LATER (nothing came in wait_ms). An answer that is
 * no stream is copied. */
size_t fake_pull(
	struct fake *f, uint8_t *out, size_t max, size_t piece, int wait_ms, ssize_t *last);
/* Wait until request_complete was called; false: not within 10 s. */
bool fake_wait_complete(struct fake *f);
/* The answer as JSON, owned by the caller. */
json_t *fake_json(const struct fake *f);
/* "path-not-found" of a problem; valid until the next call. */
const char *fake_kind(const struct fake *f);

/* The next n request_defer calls answer RC_AGAIN. */
void fake_refuse_jobs(int n);
/* Jobs queued or running now. */
int fake_jobs(void);
/* Wait until there are none; false: not within 10 s. */
bool fake_wait_idle(void);
/* End the workers. */
void fake_stop(void);

#endif
