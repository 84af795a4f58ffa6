/* SPDX-License-Identifier: Apache-2.0 */
#include "pack_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "checksum.h"

/* An open file. Reads under way hold it by refs; once it has left the table (forgotten or evicted)
 * the last of them closes it. */
struct open_pack {
	uint64_t pack_id;
	int fd;
	unsigned refs;
	bool in_table;
	struct open_pack *next; /* in its bucket; once out of the table, of those to close */
	struct open_pack *newer;
	struct open_pack *older;
};

struct pack_readers {
	/* immutable after open */
	struct pack_dir *dir;
	size_t fds_max;
	size_t bucket_count; /* a power of two */

	/* guarded by mtx */
	pthread_mutex_t mtx;
	struct open_pack **buckets;
	struct open_pack *newest;
	struct open_pack *oldest;
	size_t count;
};

static struct open_pack **
bucket_of(struct pack_readers *r, uint64_t pack_id)
{
	return &r->buckets[pack_id & (r->bucket_count - 1)];
}

static struct open_pack *
find_open(struct pack_readers *r, uint64_t pack_id)
{
	struct open_pack *p = *bucket_of(r, pack_id);

	while (p != NULL && p->pack_id != pack_id)
		p = p->next;
	return p;
}

static void
lru_remove(struct pack_readers *r, struct open_pack *p)
{
	*(p->newer != NULL ? &p->newer->older : &r->newest) = p->older;
	*(p->older != NULL ? &p->older->newer : &r->oldest) = p->newer;
}

static void
lru_push(struct pack_readers *r, struct open_pack *p)
{
	p->newer = NULL;
	p->older = r->newest;
	*(r->newest != NULL ? &r->newest->newer : &r->oldest) = p;
	r->newest = p;
}

static void
table_add(struct pack_readers *r, struct open_pack *p)
{
	struct open_pack **bucket = bucket_of(r, p->pack_id);

	p->next = *bucket;
	*bucket = p;
	p->in_table = true;
	lru_push(r, p);
	r->count++;
}

/* Take p out. If nobody reads from it, it joins the list at *idle, to be closed without the lock.
 */
static void
table_remove(struct pack_readers *r, struct open_pack *p, struct open_pack **idle)
{
	struct open_pack **at = bucket_of(r, p->pack_id);

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	p->in_table = false;
	lru_remove(r, p);
	r->count--;
	if (p->refs == 0) {
		p->next = *idle;
		*idle = p;
	}
}

static void
close_idle(struct open_pack *p)
{
	while (p != NULL) {
		struct open_pack *next = p->next;
		close(p->fd);
		free(p);
		p = next;
	}
}

/* Evict files nobody reads from until only `keep` are left, or none of that kind. */
static struct open_pack *
evict(struct pack_readers *r, size_t keep)
{
	struct open_pack *idle = NULL;
	struct open_pack *p = r->oldest;

	while (p != NULL && r->count > keep) {
		struct open_pack *newer = p->newer;
		if (p->refs == 0)
			table_remove(r, p, &idle);
		p = newer;
	}
	return idle;
}

static struct open_pack *
take_open(struct pack_readers *r, uint64_t pack_id)
{
	pthread_mutex_lock(&r->mtx);
	struct open_pack *p = find_open(r, pack_id);
	if (p != NULL) {
		p->refs++;
		lru_remove(r, p);
		lru_push(r, p);
	}
	pthread_mutex_unlock(&r->mtx);
	return p;
}

/* Make mine known, or find that another thread was faster: then mine is closed. */
static struct open_pack *
share_open(struct pack_readers *r, struct open_pack *mine)
{
	struct open_pack *idle = NULL;

	pthread_mutex_lock(&r->mtx);
	struct open_pack *p = find_open(r, mine->pack_id);
	if (p == NULL) {
		p = mine;
		table_add(r, p);
	} else {
		mine->next = NULL;
		idle = mine;
	}
	p->refs++;
	if (idle == NULL)
		idle = evict(r, r->fds_max);
	pthread_mutex_unlock(&r->mtx);
	close_idle(idle);
	return p;
}

static void
release(struct pack_readers *r, struct open_pack *p)
{
	pthread_mutex_lock(&r->mtx);
	p->refs--;
	bool last = p->refs == 0 && !p->in_table;
	pthread_mutex_unlock(&r->mtx);
	if (last) {
		p->next = NULL;
		close_idle(p);
	}
}

/* As pack_dir_openat, giving up our own spare files if the process has no more descriptors. */
static int
open_file(struct pack_readers *r, uint64_t pack_id)
{
	int fd = pack_dir_openat(r->dir, pack_id, O_RDONLY);

	if (fd >= 0 || (errno != EMFILE && errno != ENFILE))
		return fd;
	pthread_mutex_lock(&r->mtx);
	struct open_pack *idle = evict(r, 0);
	pthread_mutex_unlock(&r->mtx);
	close_idle(idle);
	return pack_dir_openat(r->dir, pack_id, O_RDONLY);
}

static enum rc
open_failed(struct pack_readers *r, uint64_t pack_id, int errnum, struct err *err)
{
	if (errnum == ENOENT)
		return pack_dir_corrupt(r->dir, pack_id, 0, "the file is missing", err);
	if (errnum == EMFILE || errnum == ENFILE)
		err_set(err, RC_AGAIN, "overloaded", "too many files are open");
	return pack_dir_errno(r->dir, pack_id, errnum, "open a pack", err);
}

static enum rc
acquire(struct pack_readers *r, uint64_t pack_id, struct open_pack **out, struct err *err)
{
	*out = take_open(r, pack_id);
	if (*out != NULL)
		return RC_OK;
	struct open_pack *p = calloc(1, sizeof *p);
	if (p == NULL)
		return pack_dir_errno(r->dir, pack_id, ENOMEM, "open a pack", err);
	p->pack_id = pack_id;
	p->fd = open_file(r, pack_id);
	if (p->fd < 0) {
		int errnum = errno;
		free(p);
		return open_failed(r, pack_id, errnum, err);
	}
	*out = share_open(r, p);
	return RC_OK;
}

enum rc
pack_readers_open(struct pack_dir *dir, size_t fds_max, struct pack_readers **out, struct err *err)
{
	*out = NULL;
	if (fds_max == 0)
		return err_set(err, RC_INVALID, NULL, "a pack reader needs at least one file");
	struct pack_readers *r = calloc(1, sizeof *r);
	if (r == NULL)
		return err_errno(err, ENOMEM, "open the pack reader", NULL);
	r->dir = dir;
	r->fds_max = fds_max;
	r->bucket_count = 16;
	while (r->bucket_count < fds_max && r->bucket_count < 65536)
		r->bucket_count *= 2;
	r->buckets = calloc(r->bucket_count, sizeof(struct open_pack *));
	if (r->buckets == NULL) {
		free(r);
		return err_errno(err, ENOMEM, "open the pack reader", NULL);
	}
	pthread_mutex_init(&r->mtx, NULL);
	*out = r;
	return RC_OK;
}

void
pack_readers_free(struct pack_readers *r)
{
	if (r == NULL)
		return;
	close_idle(evict(r, 0));
	pthread_mutex_destroy(&r->mtx);
	free(r->buckets);
	free(r);
}

void
pack_readers_forget(struct pack_readers *r, uint64_t pack_id)
{
	struct open_pack *idle = NULL;

	pthread_mutex_lock(&r->mtx);
	struct open_pack *p = find_open(r, pack_id);
	if (p != NULL)
		table_remove(r, p, &idle);
	pthread_mutex_unlock(&r->mtx);
	close_idle(idle);
}

/* Some bytes of a pack, to be read into data. */
struct extent {
	uint64_t pack_id;
	uint64_t offset;
	uint8_t *data;
	size_t len;
	struct pack_wait *wait;
};

/* Bytes that are in the page cache, up to the first that is not. A file system that cannot tell
 * says nothing. */
static size_t
pread_cached(int fd, const struct extent *e)
{
	size_t got = 0;

	while (got < e->len) {
		struct iovec to = {e->data + got, e->len - got};
		ssize_t n = preadv2(fd, &to, 1, (off_t)(e->offset + got), RWF_NOWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

static enum rc
would_wait(struct err *err)
{
	return err_set(err, RC_AGAIN, NULL, "not without waiting for the disk");
}

static enum rc
read_cached(struct pack_readers *r, const struct extent *e, struct err *err)
{
	struct open_pack *p = take_open(r, e->pack_id);

	if (p == NULL)
		return would_wait(err);
	size_t got = pread_cached(p->fd, e);
	release(r, p);
	return got == e->len ? RC_OK : would_wait(err);
}

static int
pread_extent(int fd, const struct extent *e, size_t *got)
{
	size_t more = 0;

	*got = e->wait != NULL ? pread_cached(fd, e) : 0;
	if (*got == e->len)
		return 0;
	if (e->wait != NULL)
		e->wait->waited = true;
	int errnum = pack_dir_pread(fd, e->data + *got, e->len - *got, e->offset + *got, &more);
	*got += more;
	return errnum;
}

static enum rc
read_extent(struct pack_readers *r, const struct extent *e, struct err *err)
{
	struct open_pack *p = NULL;
	size_t got = 0;
	int errnum = EIO;

	if (e->wait != NULL && e->wait->never)
		return read_cached(r, e, err);
	for (int attempt = 0; attempt < 2 && errnum == EIO; attempt++) {
		if (attempt > 0)
			pack_readers_forget(r, e->pack_id);
		enum rc rc = acquire(r, e->pack_id, &p, err);
		if (rc != RC_OK)
			return rc;
		errnum = pread_extent(p->fd, e, &got);
		release(r, p);
	}
	if (errnum != 0)
		return pack_dir_errno(r->dir, e->pack_id, errnum, "read a pack", err);
	if (got < e->len)
		return pack_dir_corrupt(
			r->dir, e->pack_id, e->offset, "the file ends too early", err);
	return RC_OK;
}

static const char *
decode_frame(const struct pack_place *place, const struct buf *buf, struct pack_frame_view *view)
{
	const char *wrong = pack_frame_decode_head(place, buf->data, buf->len, view);

	if (wrong != NULL)
		return wrong;
	if (view->place.bytes != place->bytes)
		return "frame: not of the size it should have";
	return pack_frame_payload_ok(view) ? NULL : "frame: payload checksum";
}

static enum rc
check_place(struct pack_readers *r, const struct pack_place *place, struct err *err)
{
	if (place->bytes >= PACK_FRAME_HEAD_BYTES && place->bytes <= PACK_FRAME_BYTES_MAX &&
		place->offset <= INT64_MAX - PACK_FRAME_BYTES_MAX)
		return RC_OK;
	return pack_dir_corrupt(
		r->dir, place->pack_id, place->offset, "frame: impossible place", err);
}

enum rc
pack_read_frame(struct pack_readers *r, const struct pack_place *place, struct pack_wait *wait,
	struct buf *buf, struct pack_frame_view *out, struct err *err)
{
	struct pack_frame_view view;

	buf_clear(buf);
	enum rc rc = check_place(r, place, err);
	if (rc != RC_OK)
		return rc;
	uint8_t *data = buf_grow(buf, place->bytes);
	if (data == NULL)
		return pack_dir_errno(r->dir, place->pack_id, ENOMEM, "read a frame", err);
	struct extent e = {place->pack_id, place->offset, data, place->bytes, wait};
	rc = read_extent(r, &e, err);
	if (rc != RC_OK)
		return rc;
	const char *wrong = decode_frame(place, buf, &view);
	if (wrong != NULL)
		return pack_dir_corrupt(r->dir, place->pack_id, place->offset, wrong, err);
	*out = view;
	return RC_OK;
}

/* Header and table of most frames are in here. */
#define SHAPE_BYTES 2048u

/* *head_bytes: what header and table take, SHAPE_BYTES at most until all of it is at data. */
static enum rc
read_head(struct pack_readers *r, const struct extent *e, size_t *head_bytes, struct err *err)
{
	uint64_t frame_bytes;

	enum rc rc = read_extent(r, e, err);
	*head_bytes = PACK_FRAME_HEAD_BYTES;
	if (rc == RC_OK && pack_frame_peek(e->data, &frame_bytes))
		*head_bytes += (size_t)get_u32(e->data + 8) * PACK_CHUNK_ENTRY_BYTES;
	return rc;
}

enum rc
pack_read_shape(struct pack_readers *r, const struct pack_place *place, struct pack_wait *wait,
	struct pack_frame_shape *out, struct err *err)
{
	uint8_t small[SHAPE_BYTES];
	uint8_t *large = NULL;
	size_t head_bytes = 0;
	struct pack_frame_view view;

	enum rc rc = check_place(r, place, err);
	if (rc != RC_OK)
		return rc;
	struct extent e = {place->pack_id, place->offset, small,
		place->bytes < sizeof small ? place->bytes : sizeof small, wait};
	rc = read_head(r, &e, &head_bytes, err);
	if (rc == RC_OK && head_bytes > e.len && head_bytes <= place->bytes) {
		large = malloc(head_bytes);
		if (large == NULL)
			return pack_dir_errno(r->dir, place->pack_id, ENOMEM, "read a frame", err);
		e.data = large;
		e.len = head_bytes;
		rc = read_extent(r, &e, err);
	}
	if (rc != RC_OK)
		goto out;
	const char *wrong = pack_frame_decode_head(place, e.data, e.len, &view);
	if (wrong == NULL && view.place.bytes != place->bytes)
		wrong = "frame: not of the size it should have";
	if (wrong != NULL)
		rc = pack_dir_corrupt(r->dir, place->pack_id, place->offset, wrong, err);
	else
		*out = (struct pack_frame_shape){view.codec, view.chunk_count,
			(uint32_t)(view.stored - e.data), view.raw_bytes, view.stored_bytes};
out:
	free(large);
	return rc;
}

enum rc
pack_read_bytes(struct pack_readers *r, uint64_t pack_id, uint64_t offset, struct pack_wait *wait,
	uint8_t *data, size_t len, struct err *err)
{
	struct extent e = {pack_id, offset, data, len, wait};

	return read_extent(r, &e, err);
}

void
pack_readers_advise(struct pack_readers *r, const struct pack_place *place)
{
	struct open_pack *p = take_open(r, place->pack_id);

	if (p == NULL)
		return;
	posix_fadvise(p->fd, (off_t)place->offset, (off_t)place->bytes, POSIX_FADV_WILLNEED);
	release(r, p);
}

enum rc
pack_read_header(struct pack_readers *r, uint64_t pack_id, struct pack_header *out, struct err *err)
{
	uint8_t block[PACK_BLOCK_BYTES];
	struct extent e = {pack_id, 0, block, sizeof block, NULL};

	enum rc rc = read_extent(r, &e, err);
	if (rc != RC_OK)
		return rc;
	const char *wrong = pack_header_decode(block, pack_id, out);
	return wrong == NULL ? RC_OK : pack_dir_corrupt(r->dir, pack_id, 0, wrong, err);
}

static enum rc
file_bytes(struct pack_readers *r, uint64_t pack_id, uint64_t *out, struct err *err)
{
	struct open_pack *p = NULL;
	struct stat st;

	enum rc rc = acquire(r, pack_id, &p, err);
	if (rc != RC_OK)
		return rc;
	if (fstat(p->fd, &st) != 0)
		rc = pack_dir_errno(r->dir, pack_id, errno, "read a pack", err);
	else
		*out = (uint64_t)st.st_size;
	release(r, p);
	return rc;
}

/* RC_NOT_FOUND: the file of file_bytes does not end with a trailer. */
static enum rc
read_trailer(struct pack_readers *r, uint64_t pack_id, uint64_t file_bytes_now,
	struct pack_trailer *out, struct err *err)
{
	uint8_t data[PACK_TRAILER_BYTES];
	struct extent e = {pack_id, file_bytes_now - sizeof data, data, sizeof data, NULL};

	if (file_bytes_now < PACK_BLOCK_BYTES + PACK_FOOTER_HEAD_BYTES + PACK_TRAILER_BYTES)
		return err_set(err, RC_NOT_FOUND, NULL, "the pack has no footer");
	enum rc rc = read_extent(r, &e, err);
	if (rc != RC_OK)
		return rc;
	if (!pack_trailer_is_there(data))
		return err_set(err, RC_NOT_FOUND, NULL, "the pack has no footer");
	const char *wrong = pack_trailer_decode(data, pack_id, out);
	if (wrong == NULL &&
		(out->footer_offset < PACK_BLOCK_BYTES || out->footer_offset > e.offset ||
			out->footer_bytes < PACK_FOOTER_HEAD_BYTES ||
			out->footer_bytes != e.offset - out->footer_offset ||
			out->footer_bytes > PACK_BYTES_MAX))
		wrong = "trailer: impossible footer";
	return wrong == NULL ? RC_OK : pack_dir_corrupt(r->dir, pack_id, e.offset, wrong, err);
}

/* The tables agree with each other and with the file, so that whoever walks them needs no checks.
 */
static bool
tables_agree(const struct pack_index *index, uint64_t footer_offset)
{
	uint64_t end = PACK_BLOCK_BYTES;
	uint64_t next_chunk = 0;

	for (uint32_t i = 0; i < index->frame_count; i++) {
		struct pack_footer_frame f;
		pack_index_frame(index, i, &f);
		if (f.offset < end || f.offset > footer_offset || f.offset % PACK_ALIGN_BYTES != 0)
			return false;
		if (f.chunk_count == 0 || f.chunk_count > PACK_FRAME_CHUNKS_MAX ||
			f.chunk_count > index->chunk_count - next_chunk ||
			f.stored_bytes > PACK_FRAME_STORED_BYTES_MAX || f.codec > CODEC_ZSTD)
			return false;
		uint64_t raw_left = f.raw_bytes;
		for (uint32_t k = 0; k < f.chunk_count; k++) {
			struct pack_chunk c;
			pack_index_chunk(index, next_chunk++, &c);
			if (c.length == 0 || c.length > raw_left)
				return false;
			raw_left -= c.length;
		}
		end = f.offset + pack_frame_bytes_of(f.chunk_count, f.stored_bytes);
		if (raw_left != 0 || end > footer_offset)
			return false;
	}
	return next_chunk == index->chunk_count;
}

static const char *
decode_footer(const struct pack_trailer *t, struct pack_index *index)
{
	struct pack_place place = {t->pack_id, t->footer_offset, t->footer_bytes};
	struct pack_footer_head h;

	const char *wrong = pack_footer_decode_head(index->bytes.data, &place, &h);
	if (wrong != NULL)
		return wrong;
	if (checksum64(index->bytes.data, index->bytes.len) != t->footer_checksum)
		return "footer: checksum";
	if (pack_footer_bytes(h.frame_count, h.chunk_count) != t->footer_bytes)
		return "footer: not of the size it should have";
	index->pack_id = h.pack_id;
	memcpy(index->repo_uuid, h.repo_uuid, sizeof index->repo_uuid);
	index->frame_count = h.frame_count;
	index->chunk_count = h.chunk_count;
	return tables_agree(index, t->footer_offset) ? NULL : "footer: tables do not agree";
}

enum rc
pack_read_footer(struct pack_readers *r, uint64_t pack_id, struct pack_index *out, struct err *err)
{
	uint64_t size = 0;
	struct pack_trailer t;

	*out = (struct pack_index){.pack_id = pack_id};
	buf_init(&out->bytes, PACK_BYTES_MAX);
	enum rc rc = file_bytes(r, pack_id, &size, err);
	if (rc == RC_OK)
		rc = read_trailer(r, pack_id, size, &t, err);
	if (rc != RC_OK)
		return rc;
	uint8_t *data = buf_grow(&out->bytes, t.footer_bytes);
	if (data == NULL)
		return pack_dir_errno(r->dir, pack_id, ENOMEM, "read a pack's footer", err);
	struct extent e = {pack_id, t.footer_offset, data, t.footer_bytes, NULL};
	rc = read_extent(r, &e, err);
	if (rc != RC_OK)
		return rc;
	const char *wrong = decode_footer(&t, out);
	if (wrong == NULL)
		return RC_OK;
	out->frame_count = 0;
	out->chunk_count = 0;
	return pack_dir_corrupt(r->dir, pack_id, t.footer_offset, wrong, err);
}

void
pack_index_done(struct pack_index *index)
{
	if (index == NULL)
		return;
	buf_done(&index->bytes);
	index->frame_count = 0;
	index->chunk_count = 0;
}

void
pack_index_frame(const struct pack_index *index, uint32_t i, struct pack_footer_frame *out)
{
	const uint8_t *frames = index->bytes.data + PACK_FOOTER_HEAD_BYTES;

	pack_footer_decode_frame(frames + (size_t)i * PACK_FOOTER_FRAME_BYTES, out);
}

void
pack_index_chunk(const struct pack_index *index, uint64_t i, struct pack_chunk *out)
{
	const uint8_t *chunks = index->bytes.data + PACK_FOOTER_HEAD_BYTES +
				(size_t)index->frame_count * PACK_FOOTER_FRAME_BYTES;

	pack_chunk_decode(chunks + i * PACK_CHUNK_ENTRY_BYTES, out);
}
