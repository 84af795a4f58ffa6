/* SPDX-License-Identifier: Apache-2.0 */
#include "show_commit.h"

#include "show_entry.h"

/* An object that we wrote ourselves, kept under the commit's id. */
static json_t *
load(const char *text)
{
	return json_loads(text, 0, NULL);
}

json_t *
show_commit(const struct repo *repo, const struct commit *c)
{
	return json_pack("{s:o, s:s, s:s, s:o, s:o, s:s, s:s, s:o, s:o, s:I, s:I, s:o}", "id",
		show_hash(&c->id), "repo", repo->name, "ref", c->ref, "parent",
		c->has_parent ? show_hash(&c->parent) : json_null(), "tree", show_hash(&c->tree),
		"author", c->author, "message", c->message, "created_at", show_time(c->created_us),
		"metadata", load(c->metadata), "files", (json_int_t)c->files, "bytes",
		(json_int_t)c->bytes, "receipt", load(c->receipt));
}

json_t *
show_ref(const struct ref_row *row)
{
	return json_pack("{s:s, s:o, s:o}", "name", row->name, "commit", show_hash(&row->commit_id),
		"updated_at", show_time(row->updated_us));
}
