/* SPDX-License-Identifier: Apache-2.0 */
#include "pack_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"

#define WINDOW_BYTES (1u << 20)

/* Some bytes of the file in memory. */
struct window {
	uint8_t *data;
	size_t cap;
	size_t len;
	uint64_t offset;
	uint64_t unreadable_end; /* what lies before it is counted */
};

/* Bytes since the last right thing that are none. */
struct gap {
	uint64_t known_bad_bytes; /* frames with bad payloads, and what came before them */
	uint64_t start;           /* of what is not known yet */
	uint64_t zeros_end;       /* from start to here are only zeros */
	uint64_t other_end;       /* end of the last unit that is not all zeros, or start */
};

struct scan {
	struct pack_dir *dir;
	uint64_t pack_id;
	int fd;
	pack_scan_fn *fn;
	void *arg;
	struct pack_scan_stats *stats;
	struct err *err;
	struct window window;
	struct gap gap;
	uint64_t offset;
};

static size_t
at_most(uint64_t n, size_t limit)
{
	return n < limit ? (size_t)n : limit;
}

/* Read block by block what could not be read at once. What the disk does not give becomes 0xff,
 * which is no frame and no padding. */
static enum rc
read_around(struct scan *s, uint8_t *data, size_t len, uint64_t offset)
{
	for (size_t done = 0; done < len;) {
		uint64_t at = offset + done;
		size_t got = 0;
		size_t n = at_most(len - done, PACK_BLOCK_BYTES - (size_t)(at % PACK_BLOCK_BYTES));
		int errnum = pack_dir_pread(s->fd, data + done, n, at, &got);
		if (errnum != 0 && errnum != EIO)
			return pack_dir_errno(s->dir, s->pack_id, errnum, "scan a pack", s->err);
		if (errnum == EIO) {
			memset(data + done, 0xff, n);
			if (at >= s->window.unreadable_end) {
				s->stats->unreadable_bytes += n;
				s->window.unreadable_end = at + n;
			}
		} else {
			memset(data + done + got, 0, n - got);
		}
		done += n;
	}
	return RC_OK;
}

/* Have at least n bytes from offset on in the window; the file has them. */
static enum rc
window_fill(struct scan *s, uint64_t offset, size_t n)
{
	struct window *w = &s->window;
	size_t got = 0;

	if (n > w->cap) {
		uint8_t *data = realloc(w->data, n);
		if (data == NULL)
			return pack_dir_errno(s->dir, s->pack_id, ENOMEM, "scan a pack", s->err);
		w->data = data;
		w->cap = n;
	}
	w->offset = offset;
	w->len = at_most(s->stats->file_bytes - offset, w->cap);
	int errnum = pack_dir_pread(s->fd, w->data, w->len, offset, &got);
	if (errnum == EIO)
		return read_around(s, w->data, w->len, offset);
	if (errnum != 0)
		return pack_dir_errno(s->dir, s->pack_id, errnum, "scan a pack", s->err);
	/* a pack that is sealed meanwhile gets shorter */
	memset(w->data + got, 0, w->len - got);
	return RC_OK;
}

/* *out: n bytes of the file at offset, until the next call. */
static enum rc
window_get(struct scan *s, uint64_t offset, size_t n, const uint8_t **out)
{
	struct window *w = &s->window;

	if (offset < w->offset || offset + n > w->offset + w->len) {
		enum rc rc = window_fill(s, offset, n);
		if (rc != RC_OK)
			return rc;
	}
	*out = w->data + (offset - w->offset);
	return RC_OK;
}

static void
gap_begin(struct scan *s)
{
	s->gap.start = s->offset;
	s->gap.zeros_end = s->offset;
	s->gap.other_end = s->offset;
}

/* The n bytes at the scan's offset are nothing. */
static void
gap_add(struct scan *s, const uint8_t *p, size_t n)
{
	struct gap *gap = &s->gap;
	bool zeros = true;

	for (size_t i = 0; i < n; i++)
		zeros = zeros && p[i] == 0;
	if (!zeros)
		gap->other_end = s->offset + n;
	else if (gap->zeros_end == s->offset)
		gap->zeros_end = s->offset + n;
	s->offset += n;
}

/* Zeros up to the next block are padding, if they are all there. Returns where the gap goes on. */
static uint64_t
count_padding(struct scan *s)
{
	uint64_t end = pack_round_up(s->gap.start, PACK_BLOCK_BYTES);

	end = end < s->offset ? end : s->offset;
	if (s->gap.zeros_end < end)
		return s->gap.start;
	s->stats->padding_bytes += end - s->gap.start;
	return end;
}

/* Something right of that many bytes begins at the scan's offset: go past it. */
static void
pass(struct scan *s, uint64_t bytes)
{
	s->offset += bytes;
	s->stats->end_bytes = s->offset;
	s->stats->ends_with_footer = false;
	gap_begin(s);
}

/* Something right begins at the scan's offset. */
static void
gap_close(struct scan *s)
{
	uint64_t damaged = s->gap.known_bad_bytes + s->offset - count_padding(s);

	if (damaged > 0)
		s->stats->damaged_places++;
	s->stats->damaged_bytes += damaged;
	s->gap.known_bad_bytes = 0;
}

static void
gap_close_at_end(struct scan *s)
{
	uint64_t start = count_padding(s);
	uint64_t written_end = s->gap.other_end > start ? s->gap.other_end : start;

	s->stats->torn_bytes = s->gap.known_bad_bytes + written_end - start;
	s->stats->unwritten_bytes = s->offset - written_end;
}

static enum rc
take_frame(struct scan *s, const struct pack_frame_view *f)
{
	gap_close(s);
	s->stats->frames++;
	s->stats->chunks += f->chunk_count;
	s->stats->raw_bytes += f->raw_bytes;
	s->stats->frame_bytes += f->place.bytes;
	pass(s, f->place.bytes);
	return s->fn == NULL ? RC_OK : s->fn(s->arg, f, s->err);
}

/* The header is right, so where the next frame may begin is known: what looks like frames inside
 * the payload is not tried. */
static void
pass_bad_payload(struct scan *s, const struct pack_frame_view *f)
{
	s->gap.known_bad_bytes += s->offset + f->place.bytes - count_padding(s);
	s->stats->damaged_frames++;
	s->offset += f->place.bytes;
	gap_begin(s);
}

/* If there is a frame at the scan's offset, go past it. */
static enum rc
try_frame(struct scan *s, uint64_t left)
{
	struct pack_place place = {.pack_id = s->pack_id, .offset = s->offset};
	struct pack_frame_view view;
	const uint8_t *p = NULL;

	enum rc rc = window_get(s, s->offset, PACK_FRAME_HEAD_BYTES, &p);
	if (rc != RC_OK || !pack_frame_peek(p, &place.bytes) || place.bytes > left)
		return rc;
	rc = window_get(s, s->offset, place.bytes, &p);
	if (rc != RC_OK || pack_frame_decode_head(&place, p, place.bytes, &view) != NULL)
		return rc;
	if (pack_frame_payload_ok(&view))
		return take_frame(s, &view);
	pass_bad_payload(s, &view);
	return RC_OK;
}

/* Does data hold a footer with its trailer, both right, as h says? */
static bool
footer_is_right(const struct pack_footer_head *h, const uint8_t *data, size_t footer_bytes)
{
	struct pack_trailer t;

	return pack_trailer_decode(data + footer_bytes, h->pack_id, &t) == NULL &&
	       t.footer_offset == h->offset && t.footer_bytes == footer_bytes &&
	       t.footer_checksum == checksum64(data, footer_bytes);
}

/* If there is a right footer at the scan's offset, go past it. Nothing else trusts it: a damaged
 * one counts as damage, and what lies behind it is scanned all the same. */
static enum rc
try_footer(struct scan *s, uint64_t left)
{
	struct pack_place place = {.pack_id = s->pack_id, .offset = s->offset};
	struct pack_footer_head h;
	const uint8_t *p = NULL;

	enum rc rc = window_get(s, s->offset, PACK_FOOTER_HEAD_BYTES, &p);
	if (rc != RC_OK || pack_footer_decode_head(p, &place, &h) != NULL)
		return rc;
	uint64_t footer_bytes = pack_footer_bytes(h.frame_count, h.chunk_count);
	if (footer_bytes > PACK_BYTES_MAX || footer_bytes + PACK_TRAILER_BYTES > left)
		return RC_OK;
	rc = window_get(s, s->offset, footer_bytes + PACK_TRAILER_BYTES, &p);
	if (rc != RC_OK || !footer_is_right(&h, p, footer_bytes))
		return rc;
	gap_close(s);
	s->stats->footer_bytes += footer_bytes + PACK_TRAILER_BYTES;
	pass(s, footer_bytes + PACK_TRAILER_BYTES);
	s->stats->ends_with_footer = true;
	return RC_OK;
}

static enum rc
scan_step(struct scan *s)
{
	const uint8_t *p = NULL;
	uint64_t left = s->stats->file_bytes - s->offset;
	uint64_t was = s->offset;

	enum rc rc = RC_OK;
	if (left >= PACK_FRAME_HEAD_BYTES)
		rc = try_frame(s, left);
	if (rc == RC_OK && s->offset == was && s->offset % PACK_BLOCK_BYTES == 0 &&
		left >= PACK_FOOTER_HEAD_BYTES + PACK_TRAILER_BYTES)
		rc = try_footer(s, left);
	if (rc != RC_OK || s->offset != was)
		return rc;
	size_t n = at_most(left, PACK_ALIGN_BYTES);
	rc = window_get(s, s->offset, n, &p);
	if (rc == RC_OK)
		gap_add(s, p, n);
	return rc;
}

static enum rc
scan_header(struct scan *s)
{
	const uint8_t *p = NULL;

	s->offset = PACK_BLOCK_BYTES;
	if (s->stats->file_bytes < PACK_BLOCK_BYTES) {
		s->offset = s->stats->file_bytes;
		gap_begin(s);
		return RC_OK;
	}
	gap_begin(s);
	enum rc rc = window_get(s, 0, PACK_BLOCK_BYTES, &p);
	if (rc == RC_OK)
		s->stats->header_ok = pack_header_decode(p, s->pack_id, &s->stats->header) == NULL;
	if (s->stats->header_ok)
		s->stats->end_bytes = PACK_BLOCK_BYTES;
	return rc;
}

static enum rc
scan_file(struct scan *s)
{
	struct stat st;

	if (fstat(s->fd, &st) != 0)
		return pack_dir_errno(s->dir, s->pack_id, errno, "scan a pack", s->err);
	s->stats->file_bytes = (uint64_t)st.st_size;
	s->window.cap = at_most(s->stats->file_bytes + 1, WINDOW_BYTES);
	s->window.data = malloc(s->window.cap);
	if (s->window.data == NULL)
		return pack_dir_errno(s->dir, s->pack_id, ENOMEM, "scan a pack", s->err);
	enum rc rc = scan_header(s);
	while (rc == RC_OK && s->offset < s->stats->file_bytes)
		rc = scan_step(s);
	if (rc == RC_OK)
		gap_close_at_end(s);
	return rc;
}

enum rc
pack_scan(struct pack_dir *dir, uint64_t pack_id, pack_scan_fn *fn, void *arg,
	struct pack_scan_stats *stats, struct err *err)
{
	struct scan s = {
		.dir = dir,
		.pack_id = pack_id,
		.fn = fn,
		.arg = arg,
		.stats = stats,
		.err = err,
	};

	memset(stats, 0, sizeof *stats);
	s.fd = pack_dir_openat(dir, pack_id, O_RDONLY);
	if (s.fd < 0 && errno == ENOENT)
		return err_set(err, RC_NOT_FOUND, NULL, "there is no such pack");
	if (s.fd < 0)
		return pack_dir_errno(dir, pack_id, errno, "scan a pack", err);
	enum rc rc = scan_file(&s);
	free(s.window.data);
	close(s.fd);
	return rc;
}
