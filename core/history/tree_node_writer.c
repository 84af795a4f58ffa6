/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_node_writer.h"

#include <assert.h>

#include "checksum.h"

_Static_assert(TREE_NODE_HEAD_BYTES_MAX + TREE_NODE_COUNT_MAX * TREE_NODE_ITEM_BYTES_MAX +
			       TREE_NODE_KEY_BYTES_MAX + TREE_KEY_BYTES_MAX <=
		       TREE_NODE_BYTES_MAX,
	"the fullest node fits into its limit");

void
tree_node_writer_init(struct tree_node_writer *w, uint8_t level)
{
	*w = (struct tree_node_writer){.level = level};
	buf_init(&w->bytes, TREE_NODE_BYTES_MAX);
}

void
tree_node_writer_done(struct tree_node_writer *w)
{
	buf_done(&w->bytes);
	tree_node_writer_clear(w);
}

void
tree_node_writer_clear(struct tree_node_writer *w)
{
	w->is_full = false;
	w->count = 0;
	w->totals = (struct tree_totals){0};
	w->key_bytes = 0;
	w->last_len = 0;
	buf_clear(&w->bytes);
}

static uint8_t *
write_varint(uint8_t *p, uint64_t v)
{
	while (v >= 0x80) {
		*p++ = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	return p;
}

static uint8_t *
write_bytes(uint8_t *p, const void *data, size_t len)
{
	memcpy(p, data, len);
	return p + len;
}

static size_t
shared_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t max = a_len < b_len ? a_len : b_len;
	size_t n = 0;

	while (n < max && a[n] == b[n])
		n++;
	return n;
}

static bool
ends_after(const struct tree_node_writer *w, const char *key, size_t key_len)
{
	if (w->count >= TREE_NODE_COUNT_MAX || w->key_bytes >= TREE_NODE_KEY_BYTES_MAX)
		return true;
	if (w->count < TREE_NODE_COUNT_MIN && w->key_bytes < TREE_NODE_KEY_BYTES_MIN)
		return false;
	return checksum64_seeded(key, key_len, w->level) < TREE_NODE_CUT_BELOW;
}

/* Write the key and note it; NULL without memory. The caller writes the rest of the item there and
 * gives the place after it to end_item(). */
static uint8_t *
begin_item(struct tree_node_writer *w, const char *key, size_t key_len)
{
	assert(!w->is_full && key_len >= 1 && key_len <= TREE_KEY_BYTES_MAX);
	assert(w->count == 0 || tree_key_cmp(w->last, w->last_len, key, key_len) < 0);
	size_t head = w->count == 0 ? TREE_NODE_HEAD_BYTES_MAX : 0;
	if (!buf_reserve(&w->bytes, head + TREE_NODE_ITEM_BYTES_MAX + key_len))
		return NULL;
	w->bytes.len += head;
	size_t shared = shared_bytes(w->last, w->last_len, key, key_len);
	size_t more = key_len - shared;
	uint8_t *p = w->bytes.data + w->bytes.len;
	p = write_varint(p, shared);
	p = write_varint(p, more);
	p = write_bytes(p, key + shared, more);
	memcpy(w->last + shared, key + shared, more);
	w->last_len = key_len;
	w->key_bytes += more;
	w->count++;
	return p;
}

static void
end_item(struct tree_node_writer *w, const uint8_t *end)
{
	w->bytes.len = (size_t)(end - w->bytes.data);
	w->is_full = ends_after(w, w->last, w->last_len);
}

static enum rc
no_memory(struct err *err)
{
	return err_set(err, RC_NOMEM, "no-memory", "out of memory while writing a snapshot");
}

static enum rc
too_large(struct err *err)
{
	return err_set(err, RC_TOO_LARGE, "tree-too-large",
		"the files of the snapshot have more than 2^64 bytes together");
}

enum rc
tree_node_writer_add_entry(
	struct tree_node_writer *w, const struct tree_entry *entry, struct err *err)
{
	const struct tree_totals own = {.entries = 1, .bytes = entry->content.size};

	assert(w->level == 0);
	if (!tree_totals_add(&w->totals, &own))
		return too_large(err);
	uint8_t *p = begin_item(w, entry->path, entry->path_len);
	if (p == NULL)
		return no_memory(err);
	*p++ = entry->content.kind;
	p = write_bytes(p, entry->content.id.b, sizeof entry->content.id.b);
	p = write_varint(p, entry->content.size);
	p = write_varint(p, entry->mode);
	put_u64(p, (uint64_t)entry->mtime_ns);
	end_item(w, p + 8);
	return RC_OK;
}

enum rc
tree_node_writer_add_child(
	struct tree_node_writer *w, const struct tree_child *child, struct err *err)
{
	assert(w->level > 0 && child->below.entries > 0);
	if (!tree_totals_add(&w->totals, &child->below))
		return too_large(err);
	uint8_t *p = begin_item(w, child->key, child->key_len);
	if (p == NULL)
		return no_memory(err);
	p = write_bytes(p, child->hash.b, sizeof child->hash.b);
	p = write_varint(p, child->below.entries);
	p = write_varint(p, child->below.bytes);
	w->last_child = child->hash;
	end_item(w, p);
	return RC_OK;
}

enum rc
tree_node_writer_finish(struct tree_node_writer *w, const uint8_t **bytes, size_t *len,
	struct tree_child *out, struct err *err)
{
	assert(w->count > 0 || w->level == 0);
	if (w->bytes.len == 0 && buf_grow(&w->bytes, TREE_NODE_HEAD_BYTES_MAX) == NULL)
		return no_memory(err);
	/* the count is known only now: the head stands against the items, what is left of its
	 * room before it */
	uint8_t head[TREE_NODE_HEAD_BYTES_MAX] = {TREE_NODE_MAGIC, TREE_NODE_VERSION, w->level};
	size_t head_len = (size_t)(write_varint(head + 3, w->count) - head);
	size_t start = TREE_NODE_HEAD_BYTES_MAX - head_len;
	memcpy(w->bytes.data + start, head, head_len);
	*bytes = w->bytes.data + start;
	*len = w->bytes.len - start;
	sha256_of(*bytes, *len, &out->hash);
	out->key = w->last;
	out->key_len = w->last_len;
	out->below = w->totals;
	return RC_OK;
}
