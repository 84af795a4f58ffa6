/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_zip_end.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>
#define ZLIB_CONST /* pointers to input are const */
#include <zlib.h>

#include "buf.h"

#define SIG_RECORD  0x02014b50u
#define SIG_END     0x06054b50u
#define SIG_END64   0x06064b50u
#define SIG_LOCATOR 0x07064b50u

#define RECORD_BYTES    46
#define END_BYTES       22
#define END64_BYTES     56
#define LOCATOR_BYTES   20
#define END64_BYTES_MAX (64u << 10) /* with extensions nobody has defined */

#define EXTRA_ZIP64    0x0001
#define EXTRA_TIME     0x5455
#define EXTRA_UTF8NAME 0x7075

#define HOST_UNIX      19 /* and 3: what Apple and Info-ZIP call it */
#define DOS_DIRECTORY  0x10
#define FLAG_ENCRYPTED 0x0041 /* weak and strong */
#define FLAG_HIDDEN    0x2000 /* names are encrypted too */

/* The bytes at hand: what was pulled out of the source and not yet taken. */
struct window {
	struct archive_source *source;
	const uint8_t *piece;
	size_t piece_len;
	struct buf bytes;
};

/* What the directory turned out to be, to compare with what its end says. */
struct seen {
	uint64_t position;
	uint64_t records;
	bool has64;
	uint64_t records64;
	uint64_t position64;
};

static enum rc
invalid(const char *what, struct err *err)
{
	return err_set(err, RC_INVALID, "invalid-archive", "%s", what);
}

static enum rc
pull(struct window *w, struct err *err)
{
	return w->piece_len > 0 ? RC_OK
				: archive_source_next(w->source, &w->piece, &w->piece_len, err);
}

/* n bytes or more at w->bytes.data. */
static enum rc
need(struct window *w, size_t n, struct err *err)
{
	while (w->bytes.len < n) {
		enum rc rc = pull(w, err);
		if (rc != RC_OK)
			return rc;
		if (w->piece_len == 0)
			return invalid("the zip archive ends in the middle of its directory", err);
		size_t take = n - w->bytes.len < w->piece_len ? n - w->bytes.len : w->piece_len;
		buf_add(&w->bytes, w->piece, take);
		w->piece += take;
		w->piece_len -= take;
		if (!buf_ok(&w->bytes))
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	return RC_OK;
}

static int64_t
dos_time_ns(uint16_t time, uint16_t date)
{
	struct tm tm = {
		.tm_year = 80 + (date >> 9),
		.tm_mon = (date >> 5 & 15) - 1,
		.tm_mday = date & 31,
		.tm_hour = time >> 11,
		.tm_min = time >> 5 & 63,
		.tm_sec = (time & 31) * 2,
	};

	if (tm.tm_mon < 0 || tm.tm_mon > 11 || tm.tm_mday < 1)
		return 0;
	return (int64_t)timegm(&tm) * 1000000000;
}

/* The 64-bit values stand for those fields only that are all ones, in this order. */
static bool
read_zip64(struct cur *c, const uint8_t *fixed, struct archive_zip_record *r)
{
	if (get_u32(fixed + 24) == UINT32_MAX)
		r->bytes = cur_u64(c);
	if (get_u32(fixed + 20) == UINT32_MAX)
		cur_u64(c);
	if (get_u32(fixed + 42) == UINT32_MAX)
		r->offset = cur_u64(c);
	return cur_ok(c);
}

/* Info-ZIP puts a name here that its plain field could not hold, with a checksum of the latter. */
static void
read_utf8_name(struct cur *c, struct archive_zip_record *r)
{
	uint8_t version = cur_u8(c);
	uint32_t checksum = cur_u32(c);
	const uint8_t *plain = (const uint8_t *)r->name;

	if (!cur_ok(c) || version != 1 || checksum != crc32(0, plain, (uInt)r->name_len))
		return;
	r->name_len = cur_left(c);
	r->name = (const char *)cur_bytes(c, r->name_len);
}

static bool
read_extra(const uint8_t *fixed, const uint8_t *data, size_t len, struct archive_zip_record *r)
{
	struct cur all;

	cur_init(&all, data, len);
	/* fewer than 4 bytes are padding that some tools leave */
	while (cur_left(&all) >= 4) {
		uint16_t id = cur_u16(&all);
		uint16_t n = cur_u16(&all);
		const uint8_t *field = cur_bytes(&all, n);
		struct cur c;
		if (field == NULL)
			return false;
		cur_init(&c, field, n);
		if (id == EXTRA_ZIP64 && !read_zip64(&c, fixed, r))
			return false;
		if (id == EXTRA_TIME && n >= 5 && (cur_u8(&c) & 1) != 0)
			r->mtime_ns = (int64_t)(int32_t)cur_u32(&c) * 1000000000;
		if (id == EXTRA_UTF8NAME)
			read_utf8_name(&c, r);
	}
	return true;
}

static void
read_type(const uint8_t *fixed, struct archive_zip_record *r)
{
	uint8_t host = fixed[5];
	uint32_t attributes = get_u32(fixed + 38);
	uint32_t mode = host == 3 || host == HOST_UNIX ? attributes >> 16 : 0;

	r->type = ARCHIVE_ZIP_FILE;
	r->has_mode = mode != 0;
	r->mode = mode & 07777;
	if (S_ISLNK(mode))
		r->type = ARCHIVE_ZIP_LINK;
	else if (S_ISDIR(mode) || (r->name_len > 0 && r->name[r->name_len - 1] == '/') ||
		 (mode == 0 && (attributes & DOS_DIRECTORY) != 0))
		r->type = ARCHIVE_ZIP_DIR;
	else if ((mode & S_IFMT) != 0 && !S_ISREG(mode))
		r->type = ARCHIVE_ZIP_OTHER;
}

static enum rc
read_record(struct window *w, archive_zip_record_fn *fn, void *arg, struct err *err)
{
	enum rc rc = need(w, RECORD_BYTES, err);
	if (rc != RC_OK)
		return rc;
	size_t name_len = get_u16(w->bytes.data + 28);
	size_t extra_len = get_u16(w->bytes.data + 30);
	size_t comment_len = get_u16(w->bytes.data + 32);
	rc = need(w, RECORD_BYTES + name_len + extra_len + comment_len, err);
	if (rc != RC_OK)
		return rc;
	const uint8_t *fixed = w->bytes.data;
	uint16_t flags = get_u16(fixed + 8);
	struct archive_zip_record r = {
		.name = (const char *)fixed + RECORD_BYTES,
		.name_len = name_len,
		.encrypted = (flags & (FLAG_ENCRYPTED | FLAG_HIDDEN)) != 0,
		.bytes = get_u32(fixed + 24),
		.offset = get_u32(fixed + 42),
		.mtime_ns = dos_time_ns(get_u16(fixed + 12), get_u16(fixed + 14)),
	};
	if (!read_extra(fixed, fixed + RECORD_BYTES + name_len, extra_len, &r))
		return invalid("the directory of the zip archive is damaged", err);
	read_type(fixed, &r);
	rc = fn(arg, &r, err);
	buf_clear(&w->bytes);
	return rc;
}

static enum rc
read_end64(struct window *w, struct seen *seen, struct err *err)
{
	enum rc rc = need(w, END64_BYTES, err);
	if (rc != RC_OK)
		return rc;
	uint64_t bytes = get_u64(w->bytes.data + 4);
	if (seen->has64 || bytes < END64_BYTES - 12 || bytes > END64_BYTES_MAX)
		return invalid("the directory of the zip archive is damaged", err);
	seen->has64 = true;
	seen->records64 = get_u64(w->bytes.data + 32);
	seen->position64 = get_u64(w->bytes.data + 48);
	rc = need(w, (size_t)bytes + 12 + LOCATOR_BYTES, err);
	if (rc != RC_OK)
		return rc;
	if (get_u32(w->bytes.data + bytes + 12) != SIG_LOCATOR)
		return invalid("the directory of the zip archive is damaged", err);
	buf_clear(&w->bytes);
	return RC_OK;
}

static enum rc
read_end(struct window *w, const struct seen *seen, struct err *err)
{
	enum rc rc = need(w, END_BYTES, err);
	if (rc != RC_OK)
		return rc;
	uint16_t records = get_u16(w->bytes.data + 10);
	uint32_t position = get_u32(w->bytes.data + 16);
	size_t comment_len = get_u16(w->bytes.data + 20);
	/* old tools let the number of records wrap */
	bool agrees = records == (uint16_t)seen->records || (seen->has64 && records == UINT16_MAX);
	agrees = agrees && (position == seen->position || (seen->has64 && position == UINT32_MAX));
	if (seen->has64)
		agrees = agrees && seen->records64 == seen->records &&
			 seen->position64 == seen->position;
	if (!agrees)
		return invalid("the directory of the zip archive does not agree with its end", err);
	rc = need(w, END_BYTES + comment_len, err);
	if (rc == RC_OK)
		rc = pull(w, err);
	if (rc == RC_OK && w->piece_len > 0)
		return invalid("something else follows the zip archive", err);
	return rc;
}

static enum rc
read_directory(
	struct window *w, struct seen *seen, archive_zip_record_fn *fn, void *arg, struct err *err)
{
	for (;;) {
		enum rc rc = need(w, 4, err);
		if (rc != RC_OK)
			return rc;
		switch (get_u32(w->bytes.data)) {
		case SIG_RECORD:
			seen->records++;
			rc = seen->has64
				     ? invalid("the directory of the zip archive is damaged", err)
				     : read_record(w, fn, arg, err);
			break;
		case SIG_END64:
			rc = read_end64(w, seen, err);
			break;
		case SIG_END:
			return read_end(w, seen, err);
		default:
			return invalid("the directory of the zip archive is damaged", err);
		}
		if (rc != RC_OK)
			return rc;
	}
}

enum rc
archive_zip_end_read(struct archive_source *source, uint64_t position, archive_zip_record_fn *fn,
	void *arg, struct err *err)
{
	struct window w = {.source = source};
	struct seen seen = {.position = position};

	buf_init(&w.bytes, RECORD_BYTES + 3 * (size_t)UINT16_MAX);
	enum rc rc = read_directory(&w, &seen, fn, arg, err);
	buf_done(&w.bytes);
	return rc;
}
