/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_BODY_PIPE_H
#define DG_BODY_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* body_pipe: body bytes on their way from the HTTP thread, which never waits, to one reader thread,
 * which does.
 *
 * A ring of BODY_PIPE_BYTES that is allocated when the reader comes: a pipe that nobody reads yet
 * takes nothing, and so holds its client back. The end of the body and a cut are told apart: a
 * reader never takes a part for the whole.
 * Threads: write, end and cut on one thread at a time (the writer), read on another (the reader);
 * attach and stop belong to the reader. The lock is held for a few instructions, and while wake is
 * called: so after body_pipe_deafen wake is not running and will not be called. wake must not call
 * back. */

#define BODY_PIPE_BYTES      ((size_t)1 << 20)
#define BODY_PIPE_SPAN_BYTES ((size_t)256 << 10) /* most bytes of one read */

struct body_pipe;

/* wake(arg) is called, on the reader, when a write that was short would take more. RC_NOMEM. */
enum rc body_pipe_open(void (*wake)(void *arg), void *arg, struct body_pipe **out, struct err *err);
/* Neither side uses it any more. NULL is allowed. */
void body_pipe_free(struct body_pipe *p);

/* ---- the writer ---- */

/* Copy in up to len bytes; returns how many. Fewer: no room now, wake will be called. After
 * body_pipe_stop everything is taken and dropped. Does not block. */
size_t body_pipe_write(struct body_pipe *p, const uint8_t *data, size_t len);
/* That was all of the body. */
void body_pipe_end(struct body_pipe *p);
/* No more will come, and it was not all: the reader gets err (copied) once it has read what is
 * there. Not after body_pipe_end. Any thread. */
void body_pipe_cut(struct body_pipe *p, const struct err *err);
/* Call wake no more. */
void body_pipe_deafen(struct body_pipe *p);

/* ---- the reader ---- */

/* Allocate the ring and let the writer begin. RC_NOMEM. */
enum rc body_pipe_attach(struct body_pipe *p, struct err *err);
/* The next bytes: > 0 how many are at *data (borrowed until the next call of the reader), 0 at the
 * end of the body, -1 if it was cut (err filled). Waits for the writer. */
ssize_t body_pipe_read(struct body_pipe *p, const uint8_t **data, struct err *err);
/* Nothing more is wanted: let the writer run dry. */
void body_pipe_stop(struct body_pipe *p);

#endif
