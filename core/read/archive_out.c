/* SPDX-License-Identifier: Apache-2.0 */
/* libarchive writes names in the character set of the locale. The server runs in the "C" locale, so
 * a UTF-8 one is put on for the thread while libarchive works: then pax names are plain UTF-8 and a
 * zip says that its names are. Without such a locale the bytes are the same, labelled as binary. */
#include "archive_out.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "archive_squeeze.h"
#include "codec.h"
#include "tree_iter.h"

/* Read and written at once. */
#define PIECE_BYTES ((size_t)128 << 10)

/* Entries are taken from the tree in batches, so that the places of many small files cost one
 * query. The first batch is small: someone waits for the first byte. */
#define AHEAD_MIN 16
#define AHEAD_MAX READER_EXPECT_MAX

struct ahead {
	struct content content;
	uint32_t mode;
	int64_t mtime_ns;
	size_t path_at; /* in paths */
	size_t path_len;
};

struct archive_out {
	struct read_service *rs;
	const struct repo *repo;
	struct tree_store store;
	char prefix[PATH_BYTES_MAX + 1];
	size_t prefix_len;
	size_t strip; /* bytes taken off the front of every path */
	enum archive_format format;
	int64_t mtime_ns; /* of entries that have none */

	locale_t locale; /* 0: there is none */
	struct tree_iter *iter;
	struct ahead ahead[AHEAD_MAX];
	size_t ahead_count;
	size_t ahead_next;
	size_t ahead_want;
	struct buf paths;
	bool all_seen;
	struct reader *reader; /* opened for the first file with content */
	struct archive *a;
	struct archive_entry *entry;
	uint8_t *piece;
	uint64_t left; /* of the entry at hand */

	struct archive_squeeze *squeeze; /* NULL: as it is */

	struct buf *out; /* during archive_out_more */
	bool ended;
	struct buf rest; /* what libarchive wrote at the end: a zip's directory, all at once */
	size_t rest_at;  /* given out so far */
	bool given_up;
	struct err failed;
};

/* libarchive does not survive a failed write without leaking: failures of ours are kept and told
 * later. Only a tar that is given up is stopped by one, or its closing would first write zeros for
 * all that is missing; a zip does not do that, and has to be left to close in peace. */
static la_ssize_t
on_write(struct archive *a, void *arg, const void *data, size_t len)
{
	struct archive_out *o = arg;

	(void)a;
	if (o->given_up)
		return o->format == ARCHIVE_ZIP ? (la_ssize_t)len : -1;
	if (o->failed.rc != RC_OK)
		return (la_ssize_t)len;
	struct buf *to = o->ended && o->squeeze == NULL ? &o->rest : o->out;
	if (o->squeeze != NULL)
		archive_squeeze_add(o->squeeze, data, len, false, to, &o->failed);
	else
		buf_add(to, data, len);
	if (!buf_ok(to))
		err_set(&o->failed, RC_NOMEM, "no-memory", "out of memory");
	return (la_ssize_t)len;
}

static enum rc
broken(struct archive *a, struct err *err)
{
	const char *why = archive_error_string(a);

	if (archive_errno(a) == ENOMEM)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	err_set(err, RC_BUG, NULL, "the archive could not be written");
	return err_detail(err, "libarchive: %s", why != NULL ? why : "no reason given");
}

/* ---- opening ---- */

static enum rc
open_archive(struct archive_out *o, struct err *err)
{
	o->a = archive_write_new();
	o->entry = archive_entry_new();
	o->piece = malloc(PIECE_BYTES);
	if (o->a == NULL || o->entry == NULL || o->piece == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	int r = o->format == ARCHIVE_ZIP ? archive_write_set_format_zip(o->a)
					 : archive_write_set_format_pax(o->a);
	/* no blocks of 10 KiB, as for tapes: bytes go out as they come; opening writes nothing */
	if (r != ARCHIVE_OK || archive_write_set_bytes_per_block(o->a, 0) != ARCHIVE_OK ||
		archive_write_open(o->a, o, NULL, on_write, NULL) != ARCHIVE_OK)
		return broken(o->a, err);
	return RC_OK;
}

static enum rc
open_squeeze(struct archive_out *o, struct err *err)
{
	switch (o->format) {
	case ARCHIVE_TAR:
	case ARCHIVE_ZIP:
		break;
	case ARCHIVE_TAR_GZ:
		return archive_squeeze_open(ARCHIVE_SQUEEZE_GZIP, &o->squeeze, err);
	case ARCHIVE_TAR_ZST:
		return archive_squeeze_open(ARCHIVE_SQUEEZE_ZSTD, &o->squeeze, err);
	}
	return RC_OK;
}

static enum rc
open_all(struct archive_out *o, const struct sha256 *root, struct err *err)
{
	enum rc rc = tree_iter_open(&o->store, root, &o->iter, err);

	if (rc == RC_OK && o->prefix_len > 0)
		rc = tree_iter_seek(o->iter, o->prefix, o->prefix_len, err);
	if (rc == RC_OK)
		rc = open_squeeze(o, err);
	return rc == RC_OK ? open_archive(o, err) : rc;
}

enum rc
archive_out_open(struct read_service *rs, const struct repo *repo, const struct tree_store *store,
	const struct sha256 *root, const char *prefix, enum archive_format format,
	struct archive_out **out, struct err *err)
{
	const char *slash = strrchr(prefix, '/');
	size_t prefix_len = strlen(prefix);

	*out = NULL;
	if (prefix_len > PATH_BYTES_MAX)
		return err_set(err, RC_INVALID, NULL, "the prefix is too long");
	struct archive_out *o = calloc(1, sizeof *o);
	if (o == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	o->rs = rs;
	o->repo = repo;
	o->store = *store;
	memcpy(o->prefix, prefix, prefix_len + 1);
	o->prefix_len = prefix_len;
	o->strip = slash != NULL ? (size_t)(slash - prefix) + 1 : 0;
	o->format = format;
	o->ahead_want = AHEAD_MIN;
	buf_init(&o->paths, (size_t)AHEAD_MAX * PATH_BYTES_MAX);
	buf_init(&o->rest, SIZE_MAX);
	o->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	enum rc rc = open_all(o, root, err);
	if (rc != RC_OK) {
		archive_out_free(o);
		return rc;
	}
	*out = o;
	return RC_OK;
}

void
archive_out_whole_paths(struct archive_out *o)
{
	o->strip = 0;
}

void
archive_out_default_mtime(struct archive_out *o, int64_t mtime_ns)
{
	o->mtime_ns = mtime_ns;
}

void
archive_out_free(struct archive_out *o)
{
	if (o == NULL)
		return;
	o->given_up = true; /* closes what is open, which writes */
	archive_write_free(o->a);
	archive_entry_free(o->entry);
	archive_squeeze_free(o->squeeze);
	reader_free(o->reader);
	tree_iter_free(o->iter);
	buf_done(&o->paths);
	buf_done(&o->rest);
	if (o->locale != (locale_t)0)
		freelocale(o->locale);
	free(o->piece);
	free(o);
}

/* ---- writing ---- */

static enum rc
switch_reader(struct archive_out *o, const struct content *content, struct err *err)
{
	if (o->reader != NULL)
		return reader_switch(o->reader, content, 0, err);
	return reader_open(o->rs, o->repo, content, 0, &o->reader, err);
}

/* The next piece of the entry at hand into o->piece. */
static enum rc
read_piece(struct archive_out *o, size_t *len, struct err *err)
{
	size_t want = o->left < PIECE_BYTES ? (size_t)o->left : PIECE_BYTES;

	*len = 0;
	while (*len < want) {
		size_t got = 0;
		enum rc rc = reader_read(o->reader, o->piece + *len, want - *len, &got, err);
		if (rc != RC_OK)
			return rc;
		if (got == 0)
			return err_set(err, RC_CORRUPT, "corrupt-data",
				"a file of the archive is shorter than it should be");
		*len += got;
	}
	return RC_OK;
}

static enum rc
write_piece(struct archive_out *o, size_t len, struct err *err)
{
	la_ssize_t n = archive_write_data(o->a, o->piece, len);

	if (n < 0 || (size_t)n != len)
		return broken(o->a, err);
	o->left -= len;
	return RC_OK;
}

/* Cut to 1 ns exactness and rounded down, as struct timespec has it. */
static void
set_mtime(struct archive_out *o, int64_t mtime_ns)
{
	int64_t ns = mtime_ns % 1000000000;
	int64_t seconds = mtime_ns / 1000000000;

	if (ns < 0) {
		ns += 1000000000;
		seconds--;
	}
	archive_entry_set_mtime(o->entry, (time_t)seconds, (long)ns);
}

/* Whether a zip entry that starts with these bytes is worth deflating. */
static void
choose_method(struct archive_out *o, size_t len)
{
	if (len == 0 || !codec_probe_compressible(o->piece, len))
		archive_write_zip_set_compression_store(o->a);
	else
		archive_write_zip_set_compression_deflate(o->a);
}

static enum rc
write_header(struct archive_out *o, const struct ahead *e, struct err *err)
{
	char name[PATH_BYTES_MAX + 1];
	size_t len = e->path_len - o->strip;

	memcpy(name, o->paths.data + e->path_at + o->strip, len);
	name[len] = '\0';
	archive_entry_clear(o->entry);
	archive_entry_copy_pathname(o->entry, name);
	archive_entry_set_mode(o->entry, (mode_t)(S_IFREG | (e->mode & 07777)));
	archive_entry_set_size(o->entry, (la_int64_t)e->content.size);
	set_mtime(o, e->mtime_ns != 0 ? e->mtime_ns : o->mtime_ns);
	/* a warning is of a name that is not in the locale's character set: it is written all the
	 * same */
	if (archive_write_header(o->a, o->entry) < ARCHIVE_WARN)
		return broken(o->a, err);
	return RC_OK;
}

static enum rc
begin_entry(struct archive_out *o, const struct ahead *e, struct err *err)
{
	enum rc rc = RC_OK;
	size_t len = 0;

	o->left = e->content.size;
	if (o->left > 0)
		rc = switch_reader(o, &e->content, err);
	/* its first bytes say how a zip should hold it */
	if (rc == RC_OK && o->left > 0)
		rc = read_piece(o, &len, err);
	if (rc != RC_OK)
		return rc;
	if (o->format == ARCHIVE_ZIP)
		choose_method(o, len);
	rc = write_header(o, e, err);
	return rc == RC_OK && len > 0 ? write_piece(o, len, err) : rc;
}

static enum rc
end_archive(struct archive_out *o, struct err *err)
{
	o->ended = true;
	if (archive_write_close(o->a) != ARCHIVE_OK)
		return broken(o->a, err);
	return o->squeeze != NULL ? archive_squeeze_add(o->squeeze, NULL, 0, true, o->out, err)
				  : RC_OK;
}

static enum rc
add_ahead(struct archive_out *o, const struct tree_entry *e, struct err *err)
{
	if (e->path_len > PATH_BYTES_MAX)
		return err_set(err, RC_CORRUPT, "corrupt-tree", "a path is too long");
	o->ahead[o->ahead_count++] = (struct ahead){
		.content = e->content,
		.mode = e->mode,
		.mtime_ns = e->mtime_ns,
		.path_at = o->paths.len,
		.path_len = e->path_len,
	};
	buf_add(&o->paths, e->path, e->path_len);
	return buf_ok(&o->paths) ? RC_OK : err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

/* Tell the reader what will be asked of it. */
static enum rc
expect_ahead(struct archive_out *o, struct err *err)
{
	struct content contents[AHEAD_MAX];
	size_t count = 0;

	for (size_t i = 0; i < o->ahead_count; i++)
		if (o->ahead[i].content.size > 0)
			contents[count++] = o->ahead[i].content;
	if (count == 0)
		return RC_OK;
	enum rc rc = switch_reader(o, &contents[0], err);
	return rc == RC_OK ? reader_expect(o->reader, contents, count, err) : rc;
}

static enum rc
fill_ahead(struct archive_out *o, struct err *err)
{
	o->ahead_count = 0;
	o->ahead_next = 0;
	buf_clear(&o->paths);
	while (!o->all_seen && o->ahead_count < o->ahead_want) {
		const struct tree_entry *e = NULL;
		enum rc rc = tree_iter_next(o->iter, &e, err);
		o->all_seen = e == NULL || e->path_len < o->prefix_len ||
			      memcmp(e->path, o->prefix, o->prefix_len) != 0;
		if (rc == RC_OK && !o->all_seen)
			rc = add_ahead(o, e, err);
		if (rc != RC_OK)
			return rc;
	}
	o->ahead_want = AHEAD_MAX;
	return expect_ahead(o, err);
}

static enum rc
step(struct archive_out *o, struct err *err)
{
	size_t len = 0;
	enum rc rc = RC_OK;

	if (o->left > 0) {
		rc = read_piece(o, &len, err);
		return rc == RC_OK ? write_piece(o, len, err) : rc;
	}
	if (o->ahead_next == o->ahead_count)
		rc = fill_ahead(o, err);
	if (rc != RC_OK)
		return rc;
	if (o->ahead_next == o->ahead_count)
		return end_archive(o, err);
	return begin_entry(o, &o->ahead[o->ahead_next++], err);
}

/* true: something was left of the end. */
static bool
give_rest(struct archive_out *o, size_t want)
{
	size_t len = o->rest.len - o->rest_at;

	len = len < want ? len : want;
	buf_add(o->out, o->rest.data + o->rest_at, len);
	o->rest_at += len;
	if (!buf_ok(o->out))
		err_set(&o->failed, RC_NOMEM, "no-memory", "out of memory");
	return len > 0;
}

enum rc
archive_out_more(struct archive_out *o, struct buf *out, size_t want_bytes, struct err *err)
{
	size_t before = out->len;
	locale_t old = (locale_t)0;

	if (o->locale != (locale_t)0)
		old = uselocale(o->locale);
	o->out = out;
	bool more = true;
	while (more && o->failed.rc == RC_OK && out->len - before < want_bytes) {
		if (o->ended)
			more = give_rest(o, want_bytes - (out->len - before));
		else
			step(o, &o->failed);
	}
	o->out = NULL;
	if (old != (locale_t)0)
		uselocale(old);
	if (o->failed.rc != RC_OK)
		*err = o->failed;
	return o->failed.rc;
}
