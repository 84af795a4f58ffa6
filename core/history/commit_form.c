/* SPDX-License-Identifier: Apache-2.0 */
#include "commit_form.h"

#include <string.h>

#define MAGIC          "DGSTCMT"
#define VERSION        1
#define FORM_BYTES_MAX ((size_t)1 << 20)

static void
add_text(struct buf *b, const char *text)
{
	buf_add_u32(b, (uint32_t)strlen(text));
	buf_add_str(b, text);
}

static enum rc
nomem(struct commit *c, struct err *err)
{
	commit_done(c);
	return err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

static enum rc
corrupt(struct commit *c, struct err *err)
{
	commit_done(c);
	return err_set(err, RC_CORRUPT, "corrupt-data", "this commit's record is damaged");
}

void
commit_done(struct commit *c)
{
	buf_done(&c->canonical);
	buf_done(&c->text);
}

enum rc
commit_form_encode(const struct commit_fields *f, struct commit *out, struct err *err)
{
	struct buf b;

	buf_init(&b, FORM_BYTES_MAX);
	buf_add(&b, MAGIC, sizeof MAGIC - 1);
	buf_add_u8(&b, VERSION);
	buf_add(&b, f->tree.b, sizeof f->tree.b);
	buf_add_u8(&b, f->parent != NULL);
	if (f->parent != NULL)
		buf_add(&b, f->parent->b, sizeof f->parent->b);
	buf_add_u64(&b, (uint64_t)f->created_us);
	buf_add_u64(&b, f->files);
	buf_add_u64(&b, f->bytes);
	add_text(&b, f->ref);
	add_text(&b, f->author);
	add_text(&b, f->message);
	add_text(&b, f->metadata);
	add_text(&b, f->receipt);
	if (!buf_ok(&b)) {
		buf_done(&b);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	struct sha256 id;
	sha256_of(b.data, b.len, &id);
	enum rc rc = commit_form_decode(&id, b.data, b.len, out, err);
	buf_done(&b);
	return rc;
}

/* One text, NUL-terminated, behind the others; where it begins. A NUL inside would show another
 * text than was hashed. */
static size_t
take_text(struct cur *c, struct buf *text)
{
	size_t at = text->len;
	uint32_t len = cur_u32(c);
	const uint8_t *bytes = cur_bytes(c, len);

	if (bytes != NULL && memchr(bytes, '\0', len) != NULL)
		c->failed = true;
	if (bytes != NULL) {
		buf_add(text, bytes, len);
		buf_add_u8(text, 0);
	}
	return at;
}

enum rc
commit_form_decode(const struct sha256 *id, const uint8_t *data, size_t len, struct commit *out,
	struct err *err)
{
	struct sha256 actual;
	struct cur c;
	size_t at[5];

	memset(out, 0, sizeof *out);
	buf_init(&out->canonical, FORM_BYTES_MAX);
	buf_init(&out->text, FORM_BYTES_MAX);
	sha256_of(data, len, &actual);
	if (!sha256_equal(id, &actual))
		return corrupt(out, err);
	out->id = *id;
	cur_init(&c, data, len);
	const uint8_t *magic = cur_bytes(&c, sizeof MAGIC - 1);
	if (magic == NULL || memcmp(magic, MAGIC, sizeof MAGIC - 1) != 0 || cur_u8(&c) != VERSION)
		return corrupt(out, err);
	const uint8_t *tree = cur_bytes(&c, 32);
	if (tree != NULL)
		memcpy(out->tree.b, tree, 32);
	uint8_t parents = cur_u8(&c);
	if (parents > 1)
		return corrupt(out, err);
	out->has_parent = parents == 1;
	const uint8_t *parent = parents == 1 ? cur_bytes(&c, 32) : NULL;
	if (parent != NULL)
		memcpy(out->parent.b, parent, 32);
	out->created_us = (int64_t)cur_u64(&c);
	out->files = cur_u64(&c);
	out->bytes = cur_u64(&c);
	for (int i = 0; i < 5; i++)
		at[i] = take_text(&c, &out->text);
	if (!cur_ok(&c) || cur_left(&c) != 0)
		return corrupt(out, err);
	buf_add(&out->canonical, data, len);
	if (!buf_ok(&out->canonical) || !buf_ok(&out->text))
		return nomem(out, err);
	const char *text = (const char *)out->text.data;
	out->ref = text + at[0];
	out->author = text + at[1];
	out->message = text + at[2];
	out->metadata = text + at[3];
	out->receipt = text + at[4];
	return RC_OK;
}
