/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "commit_fields.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "reply_commit.h"
#include "show_stage.h"

#define BODY_BYTES_MAX      ((size_t)256 << 10)
#define IDEMPOTENCY_KEY_MAX 128

/* What one request is made from. */
struct body {
	json_t *root;
	char *metadata; /* canonical, owned */
};

static bool
take_body(struct request *rq, struct body *b, struct commit_request *q)
{
	struct json_field fields[COMMIT_FIELDS];

	memcpy(fields, commit_fields, sizeof fields);
	return json_body_take(rq, fields, COMMIT_FIELDS, &b->root) &&
	       commit_fields_take(rq, fields, q, &b->metadata);
}

/* ---- the key ---- */

static bool
check_key(struct request *rq, const char *key)
{
	struct err err = ERR_INIT;
	size_t len = strlen(key);
	bool ok = len > 0 && len <= IDEMPOTENCY_KEY_MAX;

	for (size_t i = 0; ok && i < len; i++)
		ok = key[i] > 0x20 && key[i] < 0x7f;
	if (ok)
		return true;
	err_set(&err, RC_INVALID, "invalid-header",
		"Idempotency-Key must be 1 to %d printable ASCII characters without spaces",
		IDEMPOTENCY_KEY_MAX);
	reply_problem_with(rq, &err, json_pack("{s:s}", "field", "Idempotency-Key"));
	return false;
}

/* A hash over what the client said, however it was written. false: no memory. */
static bool
hash_request(struct request *rq, const struct body *b, struct sha256 *out)
{
	static const char op[] = "stage_commit";
	const struct request_param *stage = request_param(rq, "stage");
	char *text = json_dumps(b->root, JSON_COMPACT | JSON_SORT_KEYS);
	struct sha256_stream s;

	if (text == NULL)
		return false;
	sha256_stream_init(&s);
	sha256_stream_update(&s, op, sizeof op);
	sha256_stream_update(&s, stage->value, stage->len + 1);
	sha256_stream_update(&s, text, strlen(text));
	sha256_stream_final(&s, out);
	free(text);
	return true;
}

/* ---- the operation ---- */

static void
admit(struct request *rq)
{
	const char *key = request_header(rq, "Idempotency-Key");

	if (parse_names(rq) && key != NULL)
		check_key(rq, key);
}

static void
commit(struct request *rq, struct repo *repo, struct commit_request *q)
{
	struct stage *s;

	reply_header(rq, "Digstore-Stage", "%s", request_param(rq, "stage")->value);
	if (q->key != NULL && reply_replayed(rq, repo, q->key, &q->request))
		return;
	if (!parse_stage(rq, repo, &s))
		return;
	q->stage = s;
	reply_commit(rq, q);
	stage_unref(s);
}

static void
answer(struct request *rq, struct body *b)
{
	struct commit_request q = {.key = request_header(rq, "Idempotency-Key")};
	struct err err = ERR_INIT;
	struct repo *repo;

	if (!take_body(rq, b, &q) || !parse_repo(rq, &repo))
		return;
	if (q.key != NULL && !hash_request(rq, b, &q.request)) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
		return;
	}
	commit(rq, repo, &q);
}

static void
run(struct request *rq)
{
	struct body b = {.root = NULL};

	answer(rq, &b);
	free(b.metadata);
	json_decref(b.root);
	request_complete(rq);
}

const struct op op_stage_commit = {
	.id = "stage_commit",
	.method = METHOD_POST,
	.path = "/v1/repos/{repo}/stages/{stage}/commit",
	.body = BODY_JSON,
	.body_bytes_max = BODY_BYTES_MAX,
	.body_optional = true,
	.admit = admit,
	.run = run,
};
