/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <string.h>

#include "json_body.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_commit.h"
#include "show_entry.h"

#define BODY_BYTES_MAX ((size_t)256 << 10)

/* The path of a ref: slashes in its name are written %2F, all else a name may hold stands as it is.
 */
static void
add_location(struct request *rq, const struct repo *repo, const char *ref)
{
	char escaped[3 * REF_NAME_BYTES_MAX + 1];
	size_t len = 0;

	for (const char *p = ref; *p != '\0' && len + 4 < sizeof escaped; p++) {
		if (*p == '/') {
			memcpy(escaped + len, "%2F", 3);
			len += 3;
		} else {
			escaped[len++] = *p;
		}
	}
	escaped[len] = '\0';
	reply_header(rq, "Location", "/v1/repos/%s/refs/%s", repo->name, escaped);
}

static void
move(struct request *rq, struct repo *repo, const struct ref_change *change)
{
	struct ref_row row;
	struct sha256 head;
	bool has_head = false;
	struct err err = ERR_INIT;
	char hex[SHA256_HEX_BYTES];

	enum rc rc = ref_move(&rq->srv->history, repo, change, &row, &head, &has_head, &err);
	if (rc == RC_CONFLICT) {
		reply_problem_with(rq, &err,
			json_pack("{s:o}", "head", has_head ? show_hash(&head) : json_null()));
		return;
	}
	if (rc != RC_OK) {
		reply_problem(rq, &err);
		return;
	}
	bool is_new = change->expected == NULL;
	sha256_hex(&row.commit_id, hex);
	reply_header(rq, "ETag", "\"%s\"", hex);
	if (is_new)
		add_location(rq, repo, change->name);
	reply_json(rq, is_new ? 201 : 200, show_ref(&row));
}

static bool
take_hash(struct request *rq, const struct json_field *f, struct sha256 *out)
{
	if (f->is_null || hash_from_text(f->text, f->text_len, out))
		return true;
	json_body_refuse(
		rq, f->name, "%s must be a commit id: 64 lower-case hexadecimal digits", f->name);
	return false;
}

static void
answer(struct request *rq)
{
	struct json_field fields[] = {
		{.name = "commit", .kind = JSON_KIND_TEXT, .required = true},
		{.name = "expected", .kind = JSON_KIND_TEXT, .required = true, .nullable = true},
	};
	json_t *root;
	struct repo *repo;
	struct sha256 target, expected;

	if (!json_body_take(rq, fields, sizeof fields / sizeof fields[0], &root))
		return;
	const struct ref_change change = {
		.name = request_param(rq, "ref")->value,
		.expected = fields[1].is_null ? NULL : &expected,
		.target = &target,
	};
	if (take_hash(rq, &fields[0], &target) && take_hash(rq, &fields[1], &expected) &&
		parse_repo(rq, &repo))
		move(rq, repo, &change);
	json_decref(root);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_ref_put = {
	.id = "ref_put",
	.method = METHOD_PUT,
	.path = "/v1/repos/{repo}/refs/{ref}",
	.body = BODY_JSON,
	.body_bytes_max = BODY_BYTES_MAX,
	.admit = parse_admit,
	.run = run,
};
