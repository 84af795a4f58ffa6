/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PARSE_H
#define DG_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "commit.h"
#include "err.h"
#include "repo.h"
#include "request.h"
#include "services.h"
#include "sha256.h"
#include "stage.h"

/* parse: path parameters and query values, checked; and what they name, looked up.
 *
 * Functions that take a request answer it themselves (400, 404, …) when they return false; then the
 * operation has nothing left to say. Queries of wrong form are "invalid-query" with the name of the
 * parameter as "field". Out-parameters are filled only on true.
 * Threads: whichever runs the request's phase; those that say "blocks" only on an op worker. */

#define PARSE_LIMIT_DEFAULT 100
#define PARSE_LIMIT_MAX     1000
#define PARSE_MODE_DEFAULT  0644u

/* ---- names: every parameter of the path ---- */

/* Check the form of all path parameters the request has: {repo}, {stage}, {ref}, {path}, {id} (8 to
 * 64 hex digits), {import} (a number from 1 to INT64_MAX), {a} and {b}, and {rev}, which for GET
 * and HEAD may be a ref or a revision, for other methods a ref. 400 "invalid-name" or
 * "invalid-path". */
bool parse_names(struct request *rq);
/* The same as the admission of an operation that has nothing else to look at then. */
void parse_admit(struct request *rq);
/* For op.admit_fast. */
bool parse_admit_fast(struct request *rq);

/* ---- things: 404 with the kind of what is missing, or what the database says. All block. ---- */

bool parse_repo(struct request *rq, struct repo **out);
/* To be given back with stage_unref. A stage that was deleted while uploads ran is not found. */
bool parse_stage(struct request *rq, struct repo *repo, struct stage **out);
/* The number that names an import. Does not block: it need not exist. */
uint64_t parse_import_id(struct request *rq);
/* Resolve path parameter or query value `rev`, of which hex digits may be of either case.
 * *out: commit_done. */
bool parse_rev(struct request *rq, struct repo *repo, const char *rev, struct commit *out);
/* The same without an answer: what rev_resolve returns. */
enum rc parse_rev_find(struct server_ctx *srv, struct repo *repo, const char *rev,
	struct commit *out, struct err *err);
/* As parse_rev, for those who only read files: from memory if it is there. */
bool parse_rev_head(struct request *rq, struct repo *repo, const char *rev, struct rev_head *out);
/* The same without waiting and without an answer; false: it is not in memory. */
bool parse_rev_head_now(
	struct request *rq, struct repo *repo, const char *rev, struct rev_head *out);

/* ---- query values ---- */

/* Answer 400 "invalid-query" about one parameter. */
void parse_refuse_query(struct request *rq, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* ?limit=, 1 to PARSE_LIMIT_MAX; PARSE_LIMIT_DEFAULT if not given. */
bool parse_limit(struct request *rq, size_t *out);
/* A whole number from min to max; *out keeps its value and *given (may be NULL) is false if the
 * parameter is not there. */
bool parse_number(struct request *rq, const char *name, uint64_t min, uint64_t max, uint64_t *out,
	bool *given);
/* One of the words (NULL-terminated); *out is its index, or keeps its value if not given. */
bool parse_choice(struct request *rq, const char *name, const char *const *words, unsigned *out);
/* ?prefix=, at most PATH_BYTES_MAX bytes; "" if not given. Borrowed until close. */
bool parse_prefix(struct request *rq, const char **out, size_t *len);
/* A commit id of 64 lower-case digits. */
bool parse_hash(struct request *rq, const char *name, struct sha256 *out, bool *given);
/* ?file_mode=, octal permission bits; PARSE_MODE_DEFAULT if not given. */
bool parse_mode(struct request *rq, uint32_t *out);
/* ?mtime=, nanoseconds since 1970; 0 if not given, which stands for "nobody said it". */
bool parse_mtime(struct request *rq, int64_t *out);

/* ---- pure forms of the above ---- */

/* RC_INVALID kind "invalid-name": neither a ref nor 8 to 64 hex digits. */
enum rc parse_rev_check(const char *rev, size_t len, struct err *err);

/* 64 lower-case hex digits. */
bool hash_from_text(const char *text, size_t len, struct sha256 *out);
/* "755" or "0755". */
bool mode_from_text(const char *text, uint32_t *out);
/* RFC 3339 with any offset, or decimal seconds since 1970 (perhaps negative) with up to 9 decimals;
 * years 1678 to 2261. */
bool mtime_from_text(const char *text, int64_t *out);

#endif
