/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "multipart.h"

/* The first byte says how the rest is cut into pieces: what comes out is the same as if it came in
 * one, and so is the failure. Corpus files use the boundary "b". */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define LOG_BYTES ((size_t)64 << 20)

struct sink {
	struct buf log;
	size_t at_once;
	bool in_part;
};

static void
require(int condition)
{
	if (!condition)
		abort();
}

static enum rc
on_begin(void *arg, const struct multipart_part *part, struct err *err)
{
	struct sink *s = arg;

	(void)err;
	require(!s->in_part);
	s->in_part = true;
	buf_add_u8(&s->log, part->filename != NULL);
	if (part->filename != NULL) {
		require(part->filename[part->filename_len] == '\0');
		require(memchr(part->filename, 0, part->filename_len) == NULL);
		buf_add(&s->log, part->filename, part->filename_len + 1);
	}
	return RC_OK;
}

static size_t
on_data(void *arg, const uint8_t *data, size_t len)
{
	struct sink *s = arg;
	size_t n = len < s->at_once ? len : s->at_once;

	require(s->in_part && len > 0);
	buf_add(&s->log, data, n);
	return n;
}

static enum rc
on_end(void *arg, struct err *err)
{
	struct sink *s = arg;

	(void)err;
	require(s->in_part);
	s->in_part = false;
	buf_add_str(&s->log, "|");
	return RC_OK;
}

static enum rc
run(struct sink *s, const uint8_t *data, size_t len, size_t step, size_t at_once, struct err *err)
{
	static const struct multipart_ops ops = {on_begin, on_data, on_end};
	struct multipart *m = NULL;

	*s = (struct sink){.at_once = at_once};
	buf_init(&s->log, LOG_BYTES);
	enum rc rc = multipart_open("b", &ops, s, &m, err);
	for (size_t at = 0, taken; rc == RC_OK && at < len; at += taken) {
		size_t n = step < len - at ? step : len - at;
		rc = multipart_push(m, data + at, n, &taken, err);
		require(rc != RC_OK || taken == n || (at_once != SIZE_MAX && taken < n));
	}
	if (rc == RC_OK)
		rc = multipart_finish(m, err);
	multipart_free(m);
	require(buf_ok(&s->log));
	return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct err whole_err = ERR_INIT;
	struct err err = ERR_INIT;
	struct sink whole, pieces;

	if (len == 0)
		return 0;
	enum rc whole_rc = run(&whole, data + 1, len - 1, len, SIZE_MAX, &whole_err);
	enum rc rc =
		run(&pieces, data + 1, len - 1, 1 + data[0] % 13u, 1 + data[0] / 13u % 5u, &err);
	require(rc == whole_rc && strcmp(err.text, whole_err.text) == 0);
	require(rc == RC_OK || strcmp(err.kind, "form-invalid") == 0);
	require(rc != RC_OK || !whole.in_part);
	require(pieces.log.len == whole.log.len);
	require(whole.log.len == 0 || memcmp(pieces.log.data, whole.log.data, whole.log.len) == 0);
	buf_done(&pieces.log);
	buf_done(&whole.log);
	return 0;
}
