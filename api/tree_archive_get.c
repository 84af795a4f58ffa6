/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive_out.h"
#include "ops.h"
#include "parse.h"
#include "path.h"
#include "problem.h"
#include "services.h"
#include "stream.h"

#define NAME_BYTES 128

struct format {
	enum archive_format format;
	const char *type;
};

/* In the order of the words of ?format=. */
static const char *const words[] = {"tar", "tar.gz", "tar.zst", "zip", NULL};
static const struct format formats[] = {
	{ARCHIVE_TAR, "application/x-tar"},
	{ARCHIVE_TAR_GZ, "application/gzip"},
	{ARCHIVE_TAR_ZST, "application/zstd"},
	{ARCHIVE_ZIP, "application/zip"},
};

/* The archive, and the nodes it reads the tree through. */
struct archive_source {
	struct history_nodes nodes;
	struct archive_out *archive;
};

static enum rc
fill(void *arg, struct buf *out, size_t want, struct err *err)
{
	struct archive_source *s = arg;

	return archive_out_more(s->archive, out, want, err);
}

static void
release(void *arg)
{
	struct archive_source *s = arg;

	if (s != NULL && s->archive != NULL)
		archive_out_free(s->archive);
	free(s);
}

/* Revision and repository as a file name: slashes of a ref would be folders. */
static void
add_headers(struct request *rq, const struct commit *c, const char *word)
{
	char name[NAME_BYTES];
	char hex[SHA256_HEX_BYTES];

	snprintf(name, sizeof name, "%s-%.*s", request_param(rq, "repo")->value,
		(int)(NAME_BYTES / 2), request_param(rq, "rev")->value);
	for (char *p = name; *p != '\0'; p++)
		if (*p == '/')
			*p = '-';
	sha256_hex(&c->id, hex);
	reply_header(rq, "Digstore-Commit", "%s", hex);
	reply_header(rq, "Content-Disposition", "attachment; filename=\"%s.%s\"", name, word);
}

static enum rc
check_prefix(struct request *rq, const struct tree_store *store, const struct commit *c,
	const char *prefix, struct err *err)
{
	struct tree_totals below;
	char shown[PATH_SHOW_BYTES];
	size_t len = strlen(prefix);

	if (len == 0)
		return RC_OK;
	enum rc rc = tree_totals_prefix(store, &c->tree, prefix, len, &below, err);
	if (rc != RC_OK || below.entries > 0)
		return rc;
	return err_set(err, RC_NOT_FOUND, "path-not-found",
		"revision \"%s\" has no path that begins with \"%s\"",
		request_param(rq, "rev")->value, path_show(shown, prefix, len));
}

/* *out is given also on failure, to be released. */
static enum rc
open_source(struct request *rq, struct repo *repo, const struct commit *c, const char *prefix,
	enum archive_format format, struct archive_source **out, struct err *err)
{
	struct archive_source *s = *out = calloc(1, sizeof *s);

	if (s == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	const struct tree_store *store = &s->nodes.view.store;
	history_nodes_init(&s->nodes, &rq->srv->history, repo);
	enum rc rc = check_prefix(rq, store, c, prefix, err);
	if (rc == RC_OK)
		rc = archive_out_open(
			rq->srv->reads, repo, store, &c->tree, prefix, format, &s->archive, err);
	if (rc == RC_OK) {
		archive_out_whole_paths(s->archive);
		archive_out_default_mtime(s->archive, c->created_us * 1000);
	}
	return rc;
}

/* The head of an archive that a HEAD does not want. */
static ssize_t
no_body(void *source, uint8_t *out, size_t max)
{
	(void)source;
	(void)out;
	(void)max;
	return SOURCE_END;
}

static enum rc
send_archive(struct request *rq, struct repo *repo, const struct commit *c, const char *prefix,
	unsigned which, struct err *err)
{
	struct archive_source *s;
	const char *type = formats[which].type;

	enum rc rc = open_source(rq, repo, c, prefix, formats[which].format, &s, err);
	if (rc != RC_OK || rq->method == METHOD_HEAD) {
		release(s);
		if (rc == RC_OK)
			reply_stream(rq, 200, type, UINT64_MAX, no_body, NULL, NULL);
		return rc;
	}
	const struct stream_options o = {
		.fill = fill, .release = release, .arg = s, .bytes = UINT64_MAX};
	return stream_reply(rq, 200, type, &o, err);
}

static void
answer(struct request *rq)
{
	struct repo *repo;
	struct commit c;
	const char *prefix;
	size_t prefix_len;
	unsigned which = 0;
	struct err err = ERR_INIT;

	if (!parse_choice(rq, "format", words, &which) || !parse_prefix(rq, &prefix, &prefix_len) ||
		!parse_repo(rq, &repo) || !parse_rev(rq, repo, request_param(rq, "rev")->value, &c))
		return;
	enum rc rc = send_archive(rq, repo, &c, prefix, which, &err);
	if (rc == RC_OK)
		add_headers(rq, &c, words[which]);
	else if (rc == RC_NOT_FOUND)
		reply_problem_with(rq, &err, json_pack("{s:s}", "path", prefix));
	else
		reply_problem(rq, &err);
	commit_done(&c);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

static const char *const query[] = {"format", "prefix", NULL};

const struct op op_tree_archive_get = {
	.id = "tree_archive_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/trees/{rev}/archive",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
