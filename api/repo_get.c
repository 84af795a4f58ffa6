/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_repo.h"

#define REF_PAGE 500

/* Sums the sizes of what refs point at, a page of refs at a time: the callback runs within the
 * listing and must not ask the database. */
struct heads {
	size_t count;
	struct ref_row rows[REF_PAGE];
};

static void
keep(void *arg, const struct ref_row *row)
{
	struct heads *h = arg;

	if (h->count < REF_PAGE)
		h->rows[h->count++] = *row;
}

static enum rc
add_heads(struct history *h, const struct repo *repo, const struct heads *heads, uint64_t *bytes,
	struct err *err)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < heads->count; i++) {
		struct commit c;
		rc = commit_find(h, repo, &heads->rows[i].commit_id, &c, err);
		if (rc != RC_OK)
			break;
		*bytes += c.bytes;
		commit_done(&c);
	}
	return rc;
}

/* Bytes of all files of the heads of all refs. */
static enum rc
count_logical(struct history *h, const struct repo *repo, uint64_t *bytes, struct err *err)
{
	struct heads *heads = calloc(1, sizeof *heads);
	char after[REF_NAME_BYTES_MAX + 1] = "";
	enum rc rc;

	*bytes = 0;
	if (heads == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	do {
		heads->count = 0;
		rc = ref_list(h, repo, "", after, REF_PAGE, keep, heads, err);
		if (rc == RC_OK)
			rc = add_heads(h, repo, heads, bytes, err);
		if (heads->count > 0)
			snprintf(after, sizeof after, "%s", heads->rows[heads->count - 1].name);
	} while (rc == RC_OK && heads->count == REF_PAGE);
	free(heads);
	return rc;
}

static json_t *
show(const struct repo *repo, const struct repo_statistics *s, uint64_t logical)
{
	json_t *body = show_repo(repo);
	json_t *statistics = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "refs",
		(json_int_t)s->refs, "commits", (json_int_t)s->commits, "stages",
		(json_int_t)s->stages, "packs", (json_int_t)s->packs, "chunks",
		(json_int_t)s->chunks, "logical_bytes", (json_int_t)logical, "unique_bytes",
		(json_int_t)s->chunk_bytes, "stored_bytes", (json_int_t)s->pack_bytes);

	json_object_set_new(body, "statistics", statistics);
	return body;
}

static void
answer(struct request *rq)
{
	struct repo_statistics s;
	struct repo *repo;
	struct err err = ERR_INIT;
	uint64_t logical;

	if (!parse_repo(rq, &repo))
		return;
	enum rc rc = repo_statistics(rq->srv->repos, repo, &s, &err);
	if (rc == RC_OK)
		rc = count_logical(&rq->srv->history, repo, &logical, &err);
	s.pack_bytes += rc == RC_OK ? ingest_open_bytes(rq->srv->ingest, repo->id) : 0;
	if (rc == RC_OK)
		reply_json(rq, 200, show(repo, &s, logical));
	else
		reply_problem(rq, &err);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_repo_get = {
	.id = "repo_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}",
	.admit = parse_admit,
	.run = run,
};
