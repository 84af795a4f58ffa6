/* SPDX-License-Identifier: Apache-2.0 */
/* A record: its length from here on, length shared with the path before (0 in the first), u8 form,
 * the rest of the path, id[32], size, mode, time. A length is a LEB128 of at most two bytes; the
 * form says how many bytes each number takes. A search looks at the lengths alone of most records.
 */
#include "stage_leaf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "content.h"
#include "tree_node.h"

/* The memory of a leaf grows and shrinks in steps of this, malloc's own word included, which makes
 * each a whole number of its smallest pieces: half a step of each leaf is lost. */
#define STEP_BYTES   128
#define MALLOC_BYTES sizeof(size_t)

#define HEAD_BYTES_MAX   5
#define BODY_BYTES_MAX   (32 + 8 + 4 + 8)
#define RECORD_BYTES_MAX (HEAD_BYTES_MAX + PATH_BYTES_MAX + BODY_BYTES_MAX)

/* The form of a record. */
#define SIZE_MASK   0x07u /* bytes of the size; 7: eight */
#define MODE_SHIFT  3
#define MODE_MASK   0x03u /* MODE_FILE, MODE_PROGRAM, or in 2 or 4 bytes */
#define TIME_SHIFT  5
#define TIME_MASK   0x03u /* none, whole seconds in 4 bytes, nanoseconds in 8 */
#define FORM_RECIPE 0x80u /* the kind is CONTENT_RECIPE, else CONTENT_CHUNK */

#define MODE_FILE    0644
#define MODE_PROGRAM 0755

enum mode_form { MODE_IS_FILE, MODE_IS_PROGRAM, MODE_IN_2, MODE_IN_4 };
enum time_form { TIME_NONE, TIME_IN_4, TIME_IN_8 };

#define SECOND_NS 1000000000

_Static_assert(RECORD_BYTES_MAX < 1 << 14, "a length takes at most two bytes");
_Static_assert(STAGE_LEAF_ENTRIES_MAX <= UINT16_MAX, "a leaf can count its entries");

struct record {
	size_t shared; /* bytes of the path before */
	const uint8_t *next;
	uint8_t form;
	const uint8_t *rest;
	size_t rest_len;
	const uint8_t *body; /* the id, then the numbers */
};

/* ---- numbers ---- */

static inline size_t
read_length(const uint8_t **p)
{
	size_t v = *(*p)++;

	if (v >= 0x80) {
		v = (v & 0x7f) | (size_t) * *p << 7;
		++*p;
	}
	return v;
}

static size_t
length_bytes(size_t v)
{
	return v < 0x80 ? 1 : 2;
}

static uint8_t *
write_length(uint8_t *p, size_t v)
{
	if (v >= 0x80) {
		*p++ = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	return p;
}

static uint64_t
read_number(const uint8_t *p, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = bytes; i > 0; i--)
		v = v << 8 | p[i - 1];
	return v;
}

static uint8_t *
write_number(uint8_t *p, uint64_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++, v >>= 8)
		*p++ = (uint8_t)v;
	return p;
}

static size_t
size_bytes(uint8_t form)
{
	size_t code = form & SIZE_MASK;

	return code == SIZE_MASK ? 8 : code;
}

static size_t
mode_bytes(uint8_t form)
{
	size_t code = form >> MODE_SHIFT & MODE_MASK;

	return code < MODE_IN_2 ? 0 : code == MODE_IN_2 ? 2 : 4;
}

static size_t
time_bytes(uint8_t form)
{
	return 4 * (size_t)(form >> TIME_SHIFT & TIME_MASK);
}

static size_t
body_bytes(uint8_t form)
{
	return sizeof(struct sha256) + size_bytes(form) + mode_bytes(form) + time_bytes(form);
}

static uint8_t
form_of(const struct stage_entry *e)
{
	unsigned size = 0, mode = MODE_IN_4, time = TIME_IN_8;

	while (size < SIZE_MASK && e->size >> 8 * size != 0)
		size++;
	if (e->mode == MODE_FILE)
		mode = MODE_IS_FILE;
	else if (e->mode == MODE_PROGRAM)
		mode = MODE_IS_PROGRAM;
	else if (e->mode <= UINT16_MAX)
		mode = MODE_IN_2;
	if (e->mtime_ns == 0)
		time = TIME_NONE;
	else if (e->mtime_ns > 0 && e->mtime_ns % SECOND_NS == 0 &&
		 e->mtime_ns / SECOND_NS <= UINT32_MAX)
		time = TIME_IN_4;
	return (uint8_t)(size | mode << MODE_SHIFT | time << TIME_SHIFT |
			 (e->kind == CONTENT_RECIPE ? FORM_RECIPE : 0));
}

/* ---- records ---- */

/* Its lengths; returns where it goes on. */
static inline const uint8_t *
read_lengths(const uint8_t *p, struct record *r)
{
	size_t len = read_length(&p);

	r->next = p + len;
	r->shared = read_length(&p);
	return p;
}

static inline void
read_path(const uint8_t *p, struct record *r)
{
	r->form = *p++;
	r->rest = p;
	r->body = r->next - body_bytes(r->form);
	r->rest_len = (size_t)(r->body - p);
}

static void
read_record(const struct stage_leaf *l, uint32_t at, struct record *r)
{
	read_path(read_lengths(l->bytes + at, r), r);
}

static uint32_t
offset_of(const struct stage_leaf *l, const uint8_t *p)
{
	return (uint32_t)(p - l->bytes);
}

static void
read_body(const struct record *r, struct stage_entry *out)
{
	const uint8_t *p = r->body;

	memcpy(out->id.b, p, sizeof out->id.b);
	p += sizeof out->id.b;
	out->kind = r->form & FORM_RECIPE ? CONTENT_RECIPE : CONTENT_CHUNK;
	out->size = read_number(p, size_bytes(r->form));
	p += size_bytes(r->form);
	switch ((enum mode_form)(r->form >> MODE_SHIFT & MODE_MASK)) {
	case MODE_IS_FILE:
		out->mode = MODE_FILE;
		break;
	case MODE_IS_PROGRAM:
		out->mode = MODE_PROGRAM;
		break;
	case MODE_IN_2:
	case MODE_IN_4:
		out->mode = (uint32_t)read_number(p, mode_bytes(r->form));
		break;
	}
	p += mode_bytes(r->form);
	out->mtime_ns = (int64_t)read_number(p, time_bytes(r->form));
	if (time_bytes(r->form) == 4)
		out->mtime_ns *= SECOND_NS;
}

static uint8_t *
write_head(uint8_t *p, uint8_t form, size_t shared, size_t rest_len)
{
	p = write_length(p, length_bytes(shared) + 1 + rest_len + body_bytes(form));
	p = write_length(p, shared);
	*p++ = form;
	return p;
}

static uint8_t *
write_record(uint8_t *p, const struct stage_entry *e, size_t shared)
{
	uint8_t form = form_of(e);
	size_t rest_len = e->path_len - shared;

	assert(e->path_len <= PATH_BYTES_MAX && content_kind_known(e->kind));
	p = write_head(p, form, shared, rest_len);
	memcpy(p, e->path + shared, rest_len);
	p += rest_len;
	memcpy(p, e->id.b, sizeof e->id.b);
	p += sizeof e->id.b;
	p = write_number(p, e->size, size_bytes(form));
	p = write_number(p, e->mode, mode_bytes(form));
	if (time_bytes(form) == 4)
		return write_number(p, (uint64_t)(e->mtime_ns / SECOND_NS), 4);
	return write_number(p, (uint64_t)e->mtime_ns, time_bytes(form));
}

/* ---- memory ---- */

static size_t
memory_for(size_t used)
{
	size_t bytes = sizeof(struct stage_leaf) + used + MALLOC_BYTES;

	return (bytes + STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES;
}

size_t
stage_leaf_memory(const struct stage_leaf *l)
{
	return memory_for(l->used);
}

/* Less memory never fails: what is left of more is used up later. */
static bool
resize(struct stage_leaf **l, size_t used)
{
	size_t now = memory_for((*l)->used), then = memory_for(used);

	if (then == now)
		return true;
	struct stage_leaf *moved = realloc(*l, then - MALLOC_BYTES);
	if (moved != NULL)
		*l = moved;
	return moved != NULL || then < now;
}

/* Put data where old_len bytes were. */
static bool
splice(struct stage_leaf **l, uint32_t at, size_t old_len, const uint8_t *data, size_t len)
{
	size_t used = (*l)->used - old_len + len;
	size_t behind = (*l)->used - at - old_len;

	if (len > old_len && !resize(l, used))
		return false;
	uint8_t *to = (*l)->bytes + at;
	memmove(to + len, to + old_len, behind);
	memcpy(to, data, len);
	if (len < old_len)
		resize(l, used);
	(*l)->used = (uint32_t)used;
	return true;
}

static struct stage_leaf *
leaf_alloc(size_t used)
{
	struct stage_leaf *l = malloc(memory_for(used) - MALLOC_BYTES);

	if (l != NULL)
		l->used = (uint32_t)used;
	return l;
}

struct stage_leaf *
stage_leaf_new(const struct stage_entry *e)
{
	uint8_t data[RECORD_BYTES_MAX];

	size_t len = (size_t)(write_record(data, e, 0) - data);
	struct stage_leaf *l = leaf_alloc(len);
	if (l != NULL) {
		memcpy(l->bytes, data, len);
		l->count = 1;
	}
	return l;
}

/* ---- looking ---- */

static size_t
common(const char *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	size_t n = 0, most = a_len < b_len ? a_len : b_len;

	while (n < most && (uint8_t)a[n] == b[n])
		n++;
	return n;
}

int
stage_leaf_compare(const struct stage_leaf *l, const char *path, size_t path_len)
{
	struct record r;

	read_record(l, 0, &r);
	return tree_key_cmp(path, path_len, (const char *)r.rest, r.rest_len);
}

void
stage_leaf_seek(
	const struct stage_leaf *l, const char *path, size_t path_len, struct stage_leaf_place *out)
{
	struct record r;
	size_t same = 0; /* bytes the path shares with the one before, which sorts before it */
	const uint8_t *p = l->bytes, *end = l->bytes + l->used;

	*out = (struct stage_leaf_place){.found = false};
	for (; p < end; p = r.next) {
		const uint8_t *path_at = read_lengths(p, &r);
		/* it differs from the path where the one before does */
		if (r.shared > same)
			continue;
		/* it is larger than the one before where that one is still like the path */
		out->like_after = (uint16_t)r.shared;
		if (r.shared < same)
			break;
		read_path(path_at, &r);
		size_t n = common(path + same, path_len - same, r.rest, r.rest_len);
		out->like_after = (uint16_t)(same + n);
		if (n == r.rest_len && same + n == path_len) {
			out->found = true;
			break;
		}
		if (n < r.rest_len && (same + n == path_len || r.rest[n] > (uint8_t)path[same + n]))
			break;
		same += n;
	}
	out->at = offset_of(l, p);
	out->like_before = (uint16_t)same;
}

uint32_t
stage_leaf_read(const struct stage_leaf *l, uint32_t at, char *path, struct stage_entry *out)
{
	struct record r;

	read_record(l, at, &r);
	memcpy(path + r.shared, r.rest, r.rest_len);
	path[r.shared + r.rest_len] = '\0';
	out->path = path;
	out->path_len = (uint16_t)(r.shared + r.rest_len);
	read_body(&r, out);
	return offset_of(l, r.next);
}

void
stage_leaf_get(
	const struct stage_leaf *l, const struct stage_leaf_place *place, struct stage_entry *out)
{
	struct record r;

	read_record(l, place->at, &r);
	read_body(&r, out);
}

/* ---- changing ---- */

/* The record behind a new one may share more with it than it did with the one before. */
static bool
insert(struct stage_leaf **l, const struct stage_leaf_place *place, const struct stage_entry *e)
{
	uint8_t data[RECORD_BYTES_MAX + HEAD_BYTES_MAX];
	uint8_t *end = write_record(data, e, place->like_before);
	size_t old_len = 0;
	struct record next;

	if (place->at < (*l)->used) {
		read_record(*l, place->at, &next);
		size_t more = place->like_after - next.shared;
		end = write_head(end, next.form, place->like_after, next.rest_len - more);
		old_len = offset_of(*l, next.rest) - place->at + more;
	}
	if (!splice(l, place->at, old_len, data, (size_t)(end - data)))
		return false;
	(*l)->count++;
	return true;
}

bool
stage_leaf_put(
	struct stage_leaf **l, const struct stage_leaf_place *place, const struct stage_entry *e)
{
	uint8_t data[RECORD_BYTES_MAX];
	struct record old;

	if (!place->found)
		return insert(l, place, e);
	read_record(*l, place->at, &old);
	size_t len = (size_t)(write_record(data, e, old.shared) - data);
	return splice(l, place->at, offset_of(*l, old.next) - place->at, data, len);
}

/* The record behind gets back what it shared with this one alone, which is part of the rest here:
 * both together never become longer. */
void
stage_leaf_remove(struct stage_leaf **l, const struct stage_leaf_place *place)
{
	uint8_t data[HEAD_BYTES_MAX + PATH_BYTES_MAX];
	uint8_t *end = data;
	struct record old, next;

	read_record(*l, place->at, &old);
	uint32_t behind = offset_of(*l, old.next);
	size_t old_len = behind - place->at;
	if (behind < (*l)->used) {
		read_record(*l, behind, &next);
		size_t shared = next.shared < old.shared ? next.shared : old.shared;
		size_t back = next.shared - shared;
		end = write_head(data, next.form, shared, next.rest_len + back);
		memcpy(end, old.rest, back);
		end += back;
		old_len = offset_of(*l, next.rest) - place->at;
	}
	splice(l, place->at, old_len, data, (size_t)(end - data));
	(*l)->count--;
}

/* ---- halves ---- */

/* Go over the first count records; path becomes that of the last. */
static uint32_t
walk(const struct stage_leaf *l, unsigned count, char *path, size_t *path_len)
{
	struct record r = {.next = l->bytes};

	for (unsigned i = 0; i < count; i++) {
		read_record(l, offset_of(l, r.next), &r);
		memcpy(path + r.shared, r.rest, r.rest_len);
	}
	*path_len = r.shared + r.rest_len;
	return offset_of(l, r.next);
}

bool
stage_leaf_split(struct stage_leaf **l, struct stage_leaf **out)
{
	char path[PATH_BYTES_MAX];
	uint8_t head[HEAD_BYTES_MAX];
	struct record first;
	size_t len;

	unsigned stay = (*l)->count / 2;
	uint32_t at = walk(*l, stay, path, &len);
	read_record(*l, at, &first);
	size_t head_len =
		(size_t)(write_head(head, first.form, 0, first.shared + first.rest_len) - head);
	size_t rest = (size_t)((*l)->bytes + (*l)->used - first.rest);
	struct stage_leaf *right = leaf_alloc(head_len + first.shared + rest);
	if (right == NULL)
		return false;
	memcpy(right->bytes, head, head_len);
	memcpy(right->bytes + head_len, path, first.shared);
	memcpy(right->bytes + head_len + first.shared, first.rest, rest);
	right->count = (uint16_t)((*l)->count - stay);
	resize(l, at);
	(*l)->used = at;
	(*l)->count = (uint16_t)stay;
	*out = right;
	return true;
}

bool
stage_leaf_join(struct stage_leaf **l, const struct stage_leaf *right)
{
	char path[PATH_BYTES_MAX];
	uint8_t head[HEAD_BYTES_MAX];
	struct record first;
	size_t len;

	uint32_t at = walk(*l, (*l)->count, path, &len);
	read_record(right, 0, &first);
	size_t shared = common(path, len, first.rest, first.rest_len);
	size_t head_len =
		(size_t)(write_head(head, first.form, shared, first.rest_len - shared) - head);
	const uint8_t *from = first.rest + shared;
	size_t rest = (size_t)(right->bytes + right->used - from);
	if (!resize(l, at + head_len + rest))
		return false;
	memcpy((*l)->bytes + at, head, head_len);
	memcpy((*l)->bytes + at + head_len, from, rest);
	(*l)->used = (uint32_t)(at + head_len + rest);
	(*l)->count = (uint16_t)((*l)->count + right->count);
	return true;
}
