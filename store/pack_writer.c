/* SPDX-License-Identifier: Apache-2.0 */
/* The buffer holds the file's bytes from buffer_offset on, always a multiple of a block. A frame is
 * put together in it, whole, so that its payload is contiguous for the checksum; when buffer_bytes
 * are gathered, all whole blocks are written and the rest moves to the front.
 *
 * Two locks. mtx guards the buffer; who fills it writes it out while holding it. sync_mtx is for
 * those who sync: they take a few bytes out of the buffer and write them without mtx, so that
 * appends go on. So writes may overtake each other, but each has returned before the sync that is
 * to cover it begins. Order: sync_mtx, then mtx. */
#include "pack_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "buf.h"
#include "checksum.h"
#include "clock.h"

/* beyond buffer_bytes, so that a usual frame (256 KiB raw) fits without growing the buffer */
#define BUFFER_SPARE_BYTES (512u << 10)
#define BUFFER_BYTES_LIMIT (64u << 20)

enum writer_state {
	WRITER_OPEN,
	WRITER_SEALED,
	WRITER_ABANDONED,
};

struct pack_writer {
	/* immutable after open */
	struct pack_dir *dir;
	uint64_t pack_id;
	uint8_t repo_uuid[PACK_UUID_BYTES];
	uint64_t bytes_max;
	size_t buffer_bytes;

	/* guarded by mtx */
	pthread_mutex_t mtx;
	uint8_t *buffer;
	size_t buffer_len;
	size_t buffer_cap;
	uint64_t buffer_offset;
	uint64_t sealed_bytes;
	uint32_t frame_count;
	uint64_t chunk_count;
	struct buf footer; /* room for the footer header, then the frame table */
	struct buf chunk_table;

	/* any thread */
	atomic_bool direct;
	atomic_bool no_durable_write; /* the file system has none */
	atomic_int poison;            /* errno of the first failed write or sync, or 0 */
	_Atomic uint64_t given_bytes; /* handed to the kernel */

	/* Guards the rest; fd and state are written only by who seals or abandons. Held over syncs,
	 * and that on purpose: the kernel reports a failed write-back to one sync only, and no
	 * other sync of this file may come back with success before that failure has poisoned the
	 * writer. */
	pthread_mutex_t sync_mtx;
	enum writer_state state;
	int fd;
	int shard_fd; /* -1 once the directory entry is durable */
	uint64_t synced_bytes;
	uint8_t *at_once; /* PACK_WRITER_AT_ONCE_BYTES, once they were needed */
};

static enum rc
poisoned(struct pack_writer *w, struct err *err)
{
	return pack_dir_errno(
		w->dir, w->pack_id, atomic_load(&w->poison), "go on after a failed write", err);
}

static enum rc
poison(struct pack_writer *w, int errnum, const char *doing, struct err *err)
{
	int none = 0;

	atomic_compare_exchange_strong(&w->poison, &none, errnum);
	return pack_dir_errno(w->dir, w->pack_id, errnum, doing, err);
}

/* What every call asks first. */
static enum rc
check_open(struct pack_writer *w, struct err *err)
{
	if (w->state != WRITER_OPEN)
		return err_set(err, RC_CONFLICT, NULL, "the pack is closed");
	if (atomic_load(&w->poison) != 0)
		return poisoned(w, err);
	return RC_OK;
}

static void
leave_direct(struct pack_writer *w)
{
	int flags = fcntl(w->fd, F_GETFL);

	atomic_store(&w->direct, false);
	if (flags >= 0)
		fcntl(w->fd, F_SETFL, flags & ~O_DIRECT);
}

/* Bytes for the file, a multiple of a block. */
struct blocks {
	const uint8_t *data;
	size_t len;
	uint64_t offset;
	bool durable; /* on the disk when the write returns, if the file system can do that */
};

static ssize_t
write_some(struct pack_writer *w, const struct blocks *b, size_t done)
{
	off_t at = (off_t)(b->offset + done);
	struct iovec from = {(void *)(uintptr_t)(b->data + done), b->len - done};

	if (b->durable && !atomic_load(&w->no_durable_write))
		return pwritev2(w->fd, &from, 1, at, RWF_DSYNC);
	return pwrite(w->fd, from.iov_base, from.iov_len, at);
}

static void
note_given(struct pack_writer *w, uint64_t end)
{
	uint64_t old = atomic_load(&w->given_bytes);

	while (old < end && !atomic_compare_exchange_weak(&w->given_bytes, &old, end))
		;
}

static enum rc
write_out(struct pack_writer *w, const struct blocks *b, struct err *err)
{
	size_t done = 0;

	while (done < b->len) {
		ssize_t n = write_some(w, b, done);
		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno == EOPNOTSUPP && b->durable &&
			 !atomic_exchange(&w->no_durable_write, true))
			continue;
		else if (n < 0 && errno == EINVAL && atomic_load(&w->direct))
			leave_direct(w);
		else if (n == 0 || errno != EINTR)
			return poison(w, n == 0 ? EIO : errno, "write a pack", err);
	}
	note_given(w, b->offset + b->len);
	return RC_OK;
}

/* Take the first len bytes out of the buffer. mtx is held. */
static void
drop_front(struct pack_writer *w, size_t len)
{
	memmove(w->buffer, w->buffer + len, w->buffer_len - len);
	w->buffer_len -= len;
	w->buffer_offset += len;
}

/* Write the first len bytes of the buffer, a multiple of a block. mtx is held. */
static enum rc
write_front(struct pack_writer *w, size_t len, struct err *err)
{
	const struct blocks b = {w->buffer, len, w->buffer_offset, false};
	enum rc rc = write_out(w, &b, err);

	if (rc == RC_OK)
		drop_front(w, len);
	return rc;
}

static enum rc
write_blocks(struct pack_writer *w, struct err *err)
{
	return write_front(w, w->buffer_len / PACK_BLOCK_BYTES * PACK_BLOCK_BYTES, err);
}

/* The buffer has room for whole blocks. mtx is held. */
static size_t
pad_buffer(struct pack_writer *w)
{
	size_t len = pack_round_up(w->buffer_len, PACK_BLOCK_BYTES);

	memset(w->buffer + w->buffer_len, 0, len - w->buffer_len);
	w->buffer_len = len;
	return len;
}

static enum rc
write_padded(struct pack_writer *w, struct err *err)
{
	size_t len = pad_buffer(w);

	return len > 0 ? write_front(w, len, err) : RC_OK;
}

/* Give the buffer room for cap bytes, keeping what it holds. */
static enum rc
grow_buffer(struct pack_writer *w, size_t cap, struct err *err)
{
	void *data = NULL;

	cap = pack_round_up(cap, PACK_BLOCK_BYTES);
	if (posix_memalign(&data, PACK_BLOCK_BYTES, cap) != 0)
		return pack_dir_errno(w->dir, w->pack_id, ENOMEM, "get a pack buffer", err);
	if (w->buffer_len > 0)
		memcpy(data, w->buffer, w->buffer_len);
	free(w->buffer);
	w->buffer = data;
	w->buffer_cap = cap;
	return RC_OK;
}

static enum rc
make_room(struct pack_writer *w, size_t len, struct err *err)
{
	if (w->buffer_len + len > w->buffer_cap) {
		enum rc rc = write_blocks(w, err);
		if (rc != RC_OK)
			return rc;
	}
	if (w->buffer_len + len > w->buffer_cap)
		return grow_buffer(w, w->buffer_len + len, err);
	return RC_OK;
}

/* Allocate all blocks at once and set the size: a full disk shows here rather than in the middle of
 * a pack, and appends change neither size nor block map. posix_fallocate would write zeros where
 * the file system cannot; there we go without. */
static int
preallocate(int fd, uint64_t bytes)
{
	while (fallocate(fd, 0, 0, (off_t)bytes) != 0) {
		if (errno == EOPNOTSUPP || errno == ENOSYS)
			return 0;
		if (errno != EINTR)
			return -1;
	}
	return 0;
}

static enum rc
create_file(struct pack_writer *w, bool direct, struct err *err)
{
	uint64_t pack_id = w->pack_id;

	w->shard_fd = pack_dir_open_shard(w->dir, pack_id);
	if (w->shard_fd < 0)
		return pack_dir_errno(w->dir, pack_id, errno, "create a pack", err);
	w->fd = pack_dir_openat(w->dir, pack_id, O_RDWR | O_CREAT | O_EXCL);
	if (w->fd < 0 && errno == EEXIST) {
		err_set(err, RC_EXISTS, NULL, "the pack exists already");
		return pack_dir_errno(w->dir, pack_id, EEXIST, "create a pack", err);
	}
	if (w->fd < 0)
		return pack_dir_errno(w->dir, pack_id, errno, "create a pack", err);
	if (preallocate(w->fd, w->bytes_max) != 0) {
		enum rc rc = pack_dir_errno(w->dir, pack_id, errno, "allocate a pack", err);
		pack_dir_unlinkat(w->dir, pack_id);
		return rc;
	}
	/* not in the open: some file systems refuse the flag only after they made the file */
	int flags = fcntl(w->fd, F_GETFL);
	atomic_store(
		&w->direct, direct && flags >= 0 && fcntl(w->fd, F_SETFL, flags | O_DIRECT) == 0);
	return RC_OK;
}

static enum rc
check_options(const struct pack_writer_options *o, struct err *err)
{
	if (o->bytes_max < 2 * PACK_BLOCK_BYTES || o->bytes_max > PACK_BYTES_MAX)
		return err_set(err, RC_INVALID, NULL, "pack size out of range");
	if (o->buffer_bytes < PACK_BLOCK_BYTES || o->buffer_bytes > BUFFER_BYTES_LIMIT)
		return err_set(err, RC_INVALID, NULL, "pack buffer size out of range");
	return RC_OK;
}

static void
begin_file(struct pack_writer *w)
{
	struct pack_header h = {.pack_id = w->pack_id, .created_us = clock_wall_us()};

	memcpy(h.repo_uuid, w->repo_uuid, sizeof h.repo_uuid);
	pack_header_encode(&h, w->buffer);
	w->buffer_len = PACK_BLOCK_BYTES;
}

enum rc
pack_writer_open(struct pack_dir *dir, uint64_t pack_id, const uint8_t *repo_uuid,
	const struct pack_writer_options *options, struct pack_writer **out, struct err *err)
{
	*out = NULL;
	enum rc rc = check_options(options, err);
	if (rc != RC_OK)
		return rc;
	struct pack_writer *w = calloc(1, sizeof *w);
	if (w == NULL)
		return pack_dir_errno(dir, pack_id, ENOMEM, "create a pack", err);
	w->dir = dir;
	w->pack_id = pack_id;
	memcpy(w->repo_uuid, repo_uuid, sizeof w->repo_uuid);
	w->bytes_max = options->bytes_max - options->bytes_max % PACK_BLOCK_BYTES;
	w->buffer_bytes = options->buffer_bytes;
	w->fd = -1;
	w->shard_fd = -1;
	pthread_mutex_init(&w->mtx, NULL);
	pthread_mutex_init(&w->sync_mtx, NULL);
	buf_init(&w->footer, PACK_BYTES_MAX);
	buf_init(&w->chunk_table, PACK_BYTES_MAX);
	rc = grow_buffer(w, w->buffer_bytes + BUFFER_SPARE_BYTES, err);
	if (rc == RC_OK)
		rc = create_file(w, options->direct, err);
	if (rc != RC_OK) {
		pack_writer_free(w);
		return rc;
	}
	begin_file(w);
	*out = w;
	return RC_OK;
}

uint64_t
pack_frame_bytes(const struct pack_frame *frame)
{
	return pack_frame_bytes_of(frame->chunk_count, frame->stored_bytes);
}

static bool
frame_adds_up(const struct pack_frame *f)
{
	uint64_t raw_left = f->raw_bytes;
	uint64_t stored_left = f->stored_bytes;

	for (uint32_t i = 0; i < f->chunk_count; i++) {
		if (f->chunks[i].length == 0 || f->chunks[i].length > raw_left)
			return false;
		raw_left -= f->chunks[i].length;
	}
	for (int i = 0; i < f->stored_count; i++) {
		if (f->stored[i].iov_len > stored_left)
			return false;
		stored_left -= f->stored[i].iov_len;
	}
	return raw_left == 0 && stored_left == 0;
}

static enum rc
check_frame(const struct pack_frame *f, struct err *err)
{
	bool sizes_ok = f->chunk_count >= 1 && f->chunk_count <= PACK_FRAME_CHUNKS_MAX &&
			f->raw_bytes <= PACK_FRAME_RAW_BYTES_MAX && f->stored_bytes >= 1 &&
			f->stored_bytes <= PACK_FRAME_STORED_BYTES_MAX;
	bool codec_ok = f->codec == CODEC_ZSTD ||
			(f->codec == CODEC_RAW && f->stored_bytes == f->raw_bytes);

	if (!sizes_ok || !codec_ok || !frame_adds_up(f))
		return err_set(err, RC_INVALID, NULL, "a frame contradicts itself or a limit");
	return RC_OK;
}

/* Room in the footer's tables for one more frame, so that noting it cannot fail. */
static enum rc
reserve_index(struct pack_writer *w, const struct pack_frame *f, struct err *err)
{
	if (w->footer.len == 0 && buf_grow(&w->footer, PACK_FOOTER_HEAD_BYTES) == NULL)
		goto nomem;
	if (buf_reserve(&w->footer, PACK_FOOTER_FRAME_BYTES) &&
		buf_reserve(&w->chunk_table, (size_t)f->chunk_count * PACK_CHUNK_ENTRY_BYTES))
		return RC_OK;
nomem:
	/* a failed buf stays failed, but what it holds is still right */
	w->footer.failed = false;
	w->chunk_table.failed = false;
	return pack_dir_errno(w->dir, w->pack_id, ENOMEM, "index a frame", err);
}

static void
note_frame(struct pack_writer *w, const struct pack_frame *f, uint64_t offset, const uint8_t *table)
{
	struct pack_footer_frame entry = {
		.offset = offset,
		.raw_bytes = f->raw_bytes,
		.stored_bytes = f->stored_bytes,
		.chunk_count = f->chunk_count,
		.codec = f->codec,
	};

	pack_footer_encode_frame(&entry, buf_grow(&w->footer, PACK_FOOTER_FRAME_BYTES));
	buf_add(&w->chunk_table, table, (size_t)f->chunk_count * PACK_CHUNK_ENTRY_BYTES);
	w->frame_count++;
	w->chunk_count += f->chunk_count;
}

/* Put the frame together at the end of the buffer, which has room for it. */
static void
build_frame(struct pack_writer *w, const struct pack_frame *f, const struct pack_place *place)
{
	uint8_t *head = w->buffer + w->buffer_len;
	uint8_t *table = head + PACK_FRAME_HEAD_BYTES;
	uint8_t *payload = table + (size_t)f->chunk_count * PACK_CHUNK_ENTRY_BYTES;
	uint8_t *p = payload;

	for (uint32_t i = 0; i < f->chunk_count; i++)
		pack_chunk_encode(&f->chunks[i], table + (size_t)i * PACK_CHUNK_ENTRY_BYTES);
	for (int i = 0; i < f->stored_count; i++) {
		if (f->stored[i].iov_len > 0)
			memcpy(p, f->stored[i].iov_base, f->stored[i].iov_len);
		p += f->stored[i].iov_len;
	}
	memset(p, 0, (size_t)(head + place->bytes - p));
	struct pack_frame_head h = {
		.codec = f->codec,
		.chunk_count = f->chunk_count,
		.raw_bytes = f->raw_bytes,
		.stored_bytes = f->stored_bytes,
		.payload_checksum = checksum64(payload, f->stored_bytes),
	};
	pack_frame_encode_head(place, &h, head);
	note_frame(w, f, place->offset, table);
	w->buffer_len += place->bytes;
}

/* mtx is held. */
static bool
has_room(const struct pack_writer *w, uint64_t frame_bytes)
{
	uint64_t used = w->buffer_offset + w->buffer_len;

	return used <= w->bytes_max && frame_bytes <= w->bytes_max - used;
}

/* mtx is held. */
static enum rc
append(struct pack_writer *w, const struct pack_frame *frame, struct pack_place *place,
	struct err *err)
{
	enum rc rc = check_open(w, err);

	if (rc == RC_OK)
		rc = check_frame(frame, err);
	if (rc != RC_OK)
		return rc;
	place->bytes = pack_frame_bytes(frame);
	if (!has_room(w, place->bytes))
		return err_set(err, RC_TOO_LARGE, NULL, "no room for a frame in this pack");
	rc = reserve_index(w, frame, err);
	if (rc == RC_OK)
		rc = make_room(w, place->bytes, err);
	if (rc != RC_OK)
		return rc;
	place->offset = w->buffer_offset + w->buffer_len;
	build_frame(w, frame, place);
	return w->buffer_len >= w->buffer_bytes ? write_blocks(w, err) : RC_OK;
}

enum rc
pack_writer_append(struct pack_writer *w, const struct pack_frame *frame, uint64_t *offset,
	uint64_t *bytes, struct err *err)
{
	struct pack_place place = {.pack_id = w->pack_id};

	pthread_mutex_lock(&w->mtx);
	enum rc rc = append(w, frame, &place, err);
	pthread_mutex_unlock(&w->mtx);
	if (rc == RC_OK) {
		*offset = place.offset;
		*bytes = place.bytes;
	}
	return rc;
}

static enum rc
flush(struct pack_writer *w, struct err *err)
{
	pthread_mutex_lock(&w->mtx);
	enum rc rc = write_padded(w, err);
	pthread_mutex_unlock(&w->mtx);
	return rc;
}

enum rc
pack_writer_flush(struct pack_writer *w, struct err *err)
{
	enum rc rc = check_open(w, err);

	return rc == RC_OK ? flush(w, err) : rc;
}

/* sync_mtx is held. */
static enum rc
sync_entry(struct pack_writer *w, struct err *err)
{
	if (w->shard_fd < 0)
		return RC_OK;
	if (fsync(w->shard_fd) != 0)
		return poison(w, errno, "sync a pack's directory", err);
	close(w->shard_fd);
	w->shard_fd = -1;
	return RC_OK;
}

/* sync_mtx is held and the file open. */
static enum rc
sync_given(struct pack_writer *w, struct err *err)
{
	uint64_t given_bytes = atomic_load(&w->given_bytes);

	if (atomic_load(&w->poison) != 0)
		return poisoned(w, err);
	if (w->synced_bytes == given_bytes)
		return RC_OK;
	if (fdatasync(w->fd) != 0)
		return poison(w, errno, "sync a pack", err);
	enum rc rc = sync_entry(w, err);
	if (rc == RC_OK)
		w->synced_bytes = given_bytes;
	return rc;
}

static bool
have_at_once(struct pack_writer *w)
{
	void *data = NULL;

	if (w->at_once == NULL &&
		posix_memalign(&data, PACK_BLOCK_BYTES, PACK_WRITER_AT_ONCE_BYTES) == 0)
		w->at_once = data;
	return w->at_once != NULL;
}

/* Take what is in the buffer out of it, if it is little and all before it is durable; b->len is 0
 * if not. sync_mtx is held. */
static void
take_pending(struct pack_writer *w, struct blocks *b)
{
	*b = (struct blocks){.durable = true};
	pthread_mutex_lock(&w->mtx);
	bool at_once = w->buffer_len > 0 && w->buffer_len <= PACK_WRITER_AT_ONCE_BYTES &&
		       w->shard_fd < 0 && w->synced_bytes == w->buffer_offset;
	if (at_once && have_at_once(w)) {
		b->len = pad_buffer(w);
		b->offset = w->buffer_offset;
		b->data = w->at_once;
		memcpy(w->at_once, w->buffer, b->len);
		drop_front(w, b->len);
	}
	pthread_mutex_unlock(&w->mtx);
}

/* sync_mtx is held and the file open. */
static enum rc
sync_all(struct pack_writer *w, struct err *err)
{
	struct blocks b;

	if (atomic_load(&w->poison) != 0)
		return poisoned(w, err);
	take_pending(w, &b);
	enum rc rc = b.len > 0 ? write_out(w, &b, err) : flush(w, err);
	if (rc != RC_OK)
		return rc;
	if (b.len > 0 && !atomic_load(&w->no_durable_write)) {
		w->synced_bytes = b.offset + b.len;
		return RC_OK;
	}
	return sync_given(w, err);
}

static enum rc
sync_open(struct pack_writer *w, enum rc (*sync)(struct pack_writer *w, struct err *err),
	struct err *err)
{
	enum rc rc = RC_OK;

	pthread_mutex_lock(&w->sync_mtx);
	if (w->state == WRITER_OPEN)
		rc = sync(w, err);
	else if (w->state == WRITER_ABANDONED)
		rc = err_set(err, RC_CONFLICT, NULL, "the pack is closed");
	pthread_mutex_unlock(&w->sync_mtx);
	return rc;
}

enum rc
pack_writer_sync(struct pack_writer *w, struct err *err)
{
	return sync_open(w, sync_given, err);
}

enum rc
pack_writer_sync_all(struct pack_writer *w, struct err *err)
{
	return sync_open(w, sync_all, err);
}

/* Pass bytes of any length through the buffer. */
static enum rc
put_bytes(struct pack_writer *w, const uint8_t *data, size_t len, struct err *err)
{
	while (len > 0) {
		size_t n = w->buffer_cap - w->buffer_len;
		n = n < len ? n : len;
		memcpy(w->buffer + w->buffer_len, data, n);
		w->buffer_len += n;
		data += n;
		len -= n;
		enum rc rc = w->buffer_len == w->buffer_cap ? write_blocks(w, err) : RC_OK;
		if (rc != RC_OK)
			return rc;
	}
	return RC_OK;
}

/* Complete the footer in memory; the frames before it are padded to a block. */
static enum rc
build_footer(struct pack_writer *w, struct err *err)
{
	struct pack_footer_head h = {
		.frame_count = w->frame_count,
		.chunk_count = w->chunk_count,
		.pack_id = w->pack_id,
		.offset = w->buffer_offset,
	};

	memcpy(h.repo_uuid, w->repo_uuid, sizeof h.repo_uuid);
	if (w->footer.len == 0)
		buf_grow(&w->footer, PACK_FOOTER_HEAD_BYTES);
	buf_add(&w->footer, w->chunk_table.data, w->chunk_table.len);
	buf_done(&w->chunk_table);
	if (!buf_ok(&w->footer))
		return poison(w, ENOMEM, "build a pack's footer", err);
	pack_footer_encode_head(&h, w->footer.data);
	return RC_OK;
}

static enum rc
write_footer(struct pack_writer *w, struct err *err)
{
	uint8_t trailer[PACK_TRAILER_BYTES];

	enum rc rc = build_footer(w, err);
	if (rc != RC_OK)
		return rc;
	struct pack_trailer t = {
		.pack_id = w->pack_id,
		.footer_offset = w->buffer_offset,
		.footer_bytes = w->footer.len,
		.footer_checksum = checksum64(w->footer.data, w->footer.len),
	};
	pack_trailer_encode(&t, trailer);
	w->sealed_bytes = t.footer_offset + t.footer_bytes + sizeof trailer;
	rc = put_bytes(w, w->footer.data, w->footer.len, err);
	if (rc == RC_OK)
		rc = put_bytes(w, trailer, sizeof trailer, err);
	return rc == RC_OK ? write_padded(w, err) : rc;
}

/* sync_mtx is held. The cut comes after the first sync: a pack that ends with a trailer has all
 * that the trailer speaks of. */
static enum rc
close_sealed(struct pack_writer *w, struct err *err)
{
	enum rc rc = sync_given(w, err);

	if (rc != RC_OK)
		return rc;
	if (ftruncate(w->fd, (off_t)w->sealed_bytes) != 0 || fchmod(w->fd, 0440) != 0)
		return poison(w, errno, "seal a pack", err);
	if (fsync(w->fd) != 0)
		return poison(w, errno, "sync a sealed pack", err);
	w->state = WRITER_SEALED;
	int fd = w->fd;
	w->fd = -1;
	return close(fd) == 0 ? RC_OK : poison(w, errno, "close a pack", err);
}

enum rc
pack_writer_seal(struct pack_writer *w, struct err *err)
{
	enum rc rc = pack_writer_flush(w, err);

	pthread_mutex_lock(&w->sync_mtx);
	if (rc == RC_OK)
		rc = write_footer(w, err);
	if (rc == RC_OK)
		rc = close_sealed(w, err);
	pthread_mutex_unlock(&w->sync_mtx);
	if (rc == RC_OK)
		buf_done(&w->footer);
	return rc;
}

/* What lies behind the bytes that were handed over is space never used, or part of a failed write.
 * Giving it back is worth a try; that it fails changes nothing. */
static void
close_abandoned(struct pack_writer *w)
{
	if (w->fd < 0)
		return;
	int ignored = ftruncate(w->fd, (off_t)atomic_load(&w->given_bytes));
	(void)ignored;
	close(w->fd);
	w->fd = -1;
}

void
pack_writer_abandon(struct pack_writer *w)
{
	pthread_mutex_lock(&w->sync_mtx);
	if (w->state == WRITER_OPEN) {
		w->state = WRITER_ABANDONED;
		close_abandoned(w);
	}
	if (w->shard_fd >= 0)
		close(w->shard_fd);
	w->shard_fd = -1;
	pthread_mutex_unlock(&w->sync_mtx);
}

void
pack_writer_free(struct pack_writer *w)
{
	if (w == NULL)
		return;
	pack_writer_abandon(w);
	pthread_mutex_destroy(&w->sync_mtx);
	pthread_mutex_destroy(&w->mtx);
	free(w->at_once);
	buf_done(&w->footer);
	buf_done(&w->chunk_table);
	free(w->buffer);
	free(w);
}

uint64_t
pack_writer_id(const struct pack_writer *w)
{
	return w->pack_id;
}

/* The getters take mtx: appends of other threads may be under way. */
static void
look(const struct pack_writer *w)
{
	pthread_mutex_lock(&((struct pack_writer *)(uintptr_t)w)->mtx);
}

static void
looked(const struct pack_writer *w)
{
	pthread_mutex_unlock(&((struct pack_writer *)(uintptr_t)w)->mtx);
}

uint64_t
pack_writer_bytes(const struct pack_writer *w)
{
	look(w);
	uint64_t bytes =
		w->state == WRITER_SEALED ? w->sealed_bytes : w->buffer_offset + w->buffer_len;
	looked(w);
	return bytes;
}

uint32_t
pack_writer_frames(const struct pack_writer *w)
{
	look(w);
	uint32_t frames = w->frame_count;
	looked(w);
	return frames;
}

size_t
pack_writer_pending_bytes(const struct pack_writer *w)
{
	look(w);
	size_t bytes = w->buffer_len;
	looked(w);
	return bytes;
}

bool
pack_writer_has_room(const struct pack_writer *w, uint64_t frame_bytes)
{
	look(w);
	bool room = has_room(w, frame_bytes);
	looked(w);
	return room;
}

bool
pack_writer_is_direct(const struct pack_writer *w)
{
	return atomic_load(&((struct pack_writer *)(uintptr_t)w)->direct);
}
