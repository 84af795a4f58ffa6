/* SPDX-License-Identifier: Apache-2.0 */
/* libarchive walks the entries and unpacks them; what it lets pass is looked at here: what stands
 * behind the end of the archive, and for a zip the directory at its end, which alone knows links
 * and modes. Names: in the "C" locale libarchive gives those of a tar as the bytes they are (in a
 * UTF-8 locale it would normalise them), and those of a zip come from its directory. */
#include "archive_in.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "archive_feed.h"
#include "archive_list.h"
#include "archive_source.h"
#include "archive_zip_end.h"
#include "archive_zip_locals.h"
#include "path.h"
#include "utf8.h"

#define TAR_BLOCK_BYTES   512
#define MODE_DEFAULT      0644
#define MTIME_SECONDS_MAX (INT64_MAX / 1000000000 - 1)

struct unpack {
	const struct archive_in_options *o;
	struct archive *a;
	struct archive_source *source;
	struct archive_feed *feed;
	struct archive_list list;
	struct archive_zip_locals locals;
	bool zip;
	uint64_t entries;
	uint64_t expanded_bytes;
	uint64_t skipped;
	char name[PATH_BYTES_MAX]; /* the beginning of that of the entry at hand */
	size_t name_len;           /* 0: not known */
};

/* ---- saying no ---- */

static enum rc
invalid(const char *what, struct err *err)
{
	return err_set(err, RC_INVALID, "invalid-archive", "%s", what);
}

static void
tell_refused(const struct unpack *u, const char *name, size_t len)
{
	char shown[PATH_SHOW_BYTES];

	if (u->o->refused == NULL)
		return;
	if (!utf8_valid(name, len)) {
		name = path_show(shown, name, len);
		len = strlen(name);
	}
	if (len > PATH_BYTES_MAX) {
		len = PATH_BYTES_MAX;
		while (len > 0 && ((unsigned char)name[len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(u->o->refused, name, len);
	u->o->refused[len] = '\0';
}

static enum rc
refuse(const struct unpack *u, const char *name, size_t len, const char *why, struct err *err)
{
	char shown[PATH_SHOW_BYTES];

	tell_refused(u, name, len);
	return err_set(err, RC_INVALID, "archive-entry-refused", "entry \"%s\": %s",
		path_show(shown, name, len), why);
}

/* An entry that is neither file nor directory. */
static enum rc
special(struct unpack *u, const char *name, size_t len, const char *what, struct err *err)
{
	char why[128];

	if (u->o->skip_special) {
		u->skipped++;
		return RC_OK;
	}
	snprintf(why, sizeof why, "it is %s; only files and directories can be taken", what);
	return refuse(u, name, len, why, err);
}

static enum rc
unknown_format(const struct unpack *u, struct err *err)
{
	const char *what = u->o->allow_tar && u->o->allow_zip ? "tar or zip"
			   : u->o->allow_tar                  ? "tar"
							      : "zip";

	return err_set(err, RC_INVALID, "invalid-archive",
		"this is no %s archive; tar and zip are understood, plain or compressed with gzip "
		"or"
		" zstd, as far as that agrees with what was declared",
		what);
}

/* libarchive tells a cut archive from a damaged one by its words alone; -5 is zlib's Z_BUF_ERROR.
 */
static bool
is_cut(const struct unpack *u, const char *why)
{
	return archive_source_ended(u->source) &&
	       (why == NULL || strstr(why, "runcated") != NULL || strstr(why, "(-5)") != NULL);
}

/* What libarchive could not do, after it said so; where is in relation to the entry at hand. */
static enum rc
broken(const struct unpack *u, const char *where, struct err *err)
{
	const char *why = archive_error_string(u->a);
	bool cut = is_cut(u, why);
	char shown[PATH_SHOW_BYTES];

	if (archive_source_failed(u->source, err))
		return err->rc;
	if (archive_errno(u->a) == ENOMEM)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	if (archive_format(u->a) == 0)
		unknown_format(u, err);
	else if (u->name_len > 0)
		err_set(err, RC_INVALID, "invalid-archive", "the archive %s %s \"%s\"",
			cut ? "ends" : "is damaged", where, path_show(shown, u->name, u->name_len));
	else
		invalid(cut ? "the archive is cut off" : "the archive is damaged", err);
	return err_detail(err, "libarchive: %s", why != NULL ? why : "no reason given");
}

/* ---- entries ---- */

static enum rc
name_item(struct unpack *u, size_t index, const char *name, size_t len, struct err *err)
{
	struct err why = ERR_INIT;
	size_t other;

	const char *full = name;
	size_t full_len = len;
	if (len >= 2 && name[0] == '.' && name[1] == '/') {
		name += 2;
		len -= 2;
	}
	if (path_check(name, len, &why) != RC_OK)
		return refuse(u, full, full_len, why.text, err);
	if (strlen(u->o->prefix) + len > PATH_BYTES_MAX)
		return refuse(u, full, full_len, "with the prefix its name is too long", err);
	enum rc rc = archive_list_name(&u->list, index, u->o->prefix, name, len, &other, err);
	if (rc == RC_OK && other != SIZE_MAX && !u->o->last_wins)
		return refuse(u, full, full_len, "the archive has another entry of this name", err);
	return rc;
}

static enum rc
copy_data(struct unpack *u, uint64_t *bytes, struct err *err)
{
	const void *data;
	size_t len;
	la_int64_t offset;

	*bytes = 0;
	for (;;) {
		int r = archive_read_data_block(u->a, &data, &len, &offset);
		if (r == ARCHIVE_EOF)
			return RC_OK;
		if (r != ARCHIVE_OK || offset < 0 || (uint64_t)offset != *bytes)
			return broken(u, "in the middle of", err);
		*bytes += len;
		if (len > u->o->expanded_bytes_max - u->expanded_bytes)
			return err_set(err, RC_TOO_LARGE, "archive-too-large",
				"the archive unpacks to more than %" PRIu64 " bytes",
				u->o->expanded_bytes_max);
		u->expanded_bytes += len;
		enum rc rc = archive_source_check_ratio(u->source, u->expanded_bytes, err);
		if (rc == RC_OK)
			rc = archive_feed_write(u->feed, data, len, err);
		if (rc != RC_OK)
			return rc;
	}
}

/* A file of the archive goes to ingest; *index is its item in the list. */
static enum rc
take_file(struct unpack *u, struct archive_entry *entry, size_t *index, uint64_t *bytes,
	struct err *err)
{
	bool sized = archive_entry_size_is_set(entry) != 0 && archive_entry_size(entry) >= 0;
	uint64_t size = sized ? (uint64_t)archive_entry_size(entry) : UINT64_MAX;

	enum rc rc = archive_feed_begin(u->feed, size, index, err);
	if (rc != RC_OK)
		return rc;
	rc = copy_data(u, bytes, err);
	if (rc == RC_OK && sized && !u->zip && *bytes != size)
		rc = broken(u, "in the middle of", err);
	if (rc == RC_OK)
		archive_feed_finish(u->feed);
	else
		archive_feed_abort(u->feed, err);
	return rc;
}

static int64_t
entry_mtime_ns(struct archive_entry *entry)
{
	int64_t seconds = archive_entry_mtime_is_set(entry) ? archive_entry_mtime(entry) : 0;
	int64_t ns = archive_entry_mtime_is_set(entry) ? archive_entry_mtime_nsec(entry) : 0;

	if (seconds > MTIME_SECONDS_MAX || seconds < -MTIME_SECONDS_MAX || ns < 0 ||
		ns >= 1000000000)
		return 0;
	return seconds * 1000000000 + ns;
}

/* NULL: a file or a directory. */
static const char *
special_kind(struct archive_entry *entry)
{
	if (archive_entry_hardlink(entry) != NULL)
		return "a hard link";
	switch (archive_entry_filetype(entry)) {
	case AE_IFDIR:
		return NULL;
	case AE_IFREG:
		return archive_entry_sparse_count(entry) > 0 ? "a sparse file" : NULL;
	case AE_IFLNK:
		return "a symbolic link";
	case AE_IFCHR:
	case AE_IFBLK:
		return "a device";
	case AE_IFIFO:
		return "a fifo";
	default:
		return "of an unknown type";
	}
}

static enum rc
take_tar_entry(struct unpack *u, struct archive_entry *entry, struct err *err)
{
	const char *name = archive_entry_pathname(entry);
	uint64_t bytes;
	size_t index;

	if (name == NULL)
		return refuse(u, "", 0, "it has no name", err);
	const char *kind = special_kind(entry);
	if (kind != NULL)
		return special(u, name, strlen(name), kind, err);
	if (archive_entry_filetype(entry) == AE_IFDIR)
		return RC_OK;
	enum rc rc = take_file(u, entry, &index, &bytes, err);
	if (rc != RC_OK)
		return rc;
	u->list.items[index].mode = archive_entry_perm(entry) & 0777;
	u->list.items[index].mtime_ns = entry_mtime_ns(entry);
	return name_item(u, index, name, strlen(name), err);
}

/* ---- zip ---- */

/* Other methods would need other libraries, some of them hundreds of MiB of memory. */
static bool
method_is_known(struct archive *a)
{
	const char *format = archive_format_name(a);

	return format != NULL &&
	       (strstr(format, "(deflation)") != NULL || strstr(format, "(uncompressed)") != NULL);
}

static enum rc
take_zip_entry(struct unpack *u, struct archive_entry *entry, struct err *err)
{
	const char *name = archive_entry_pathname(entry);
	struct archive_zip_local local = {
		.begin = (uint64_t)archive_read_header_position(u->a),
		.data = (uint64_t)archive_filter_bytes(u->a, 0),
		.index = SIZE_MAX,
	};
	enum rc rc = RC_OK;

	if (archive_entry_is_encrypted(entry))
		return refuse(u, name != NULL ? name : "", name != NULL ? strlen(name) : 0,
			"it is encrypted", err);
	if (archive_entry_filetype(entry) == AE_IFREG) {
		if (!method_is_known(u->a))
			return invalid(
				"an entry of the zip archive is neither stored nor deflated", err);
		rc = take_file(u, entry, &local.index, &local.bytes, err);
	}
	return rc == RC_OK ? archive_zip_locals_add(&u->locals, &local, err) : rc;
}

static enum rc
on_zip_record(void *arg, const struct archive_zip_record *r, struct err *err)
{
	static const char disagree[] =
		"the entries of the zip archive and its directory do not agree";
	struct unpack *u = arg;
	struct archive_zip_local *local = archive_zip_locals_claim(&u->locals, r->offset);

	if (local == NULL)
		return invalid(disagree, err);
	if (r->encrypted)
		return refuse(u, r->name, r->name_len, "it is encrypted", err);
	switch (r->type) {
	case ARCHIVE_ZIP_LINK:
		return special(u, r->name, r->name_len, "a symbolic link", err);
	case ARCHIVE_ZIP_OTHER:
		return special(u, r->name, r->name_len, "a device or the like", err);
	case ARCHIVE_ZIP_DIR:
		return r->bytes == 0 && local->bytes == 0 ? RC_OK : invalid(disagree, err);
	case ARCHIVE_ZIP_FILE:
		break;
	}
	if (local->index == SIZE_MAX || r->bytes != local->bytes)
		return invalid(disagree, err);
	u->list.items[local->index].mode = r->has_mode ? r->mode & 0777 : MODE_DEFAULT;
	u->list.items[local->index].mtime_ns = r->mtime_ns;
	return name_item(u, local->index, r->name, r->name_len, err);
}

/* ---- the whole ---- */

static enum rc
check_tar_end(struct unpack *u, uint64_t position, struct err *err)
{
	const uint8_t *data;
	size_t len;

	if (position < (uint64_t)archive_read_header_position(u->a) + TAR_BLOCK_BYTES)
		return invalid("the archive is cut off: the zeros that end a tar are missing", err);
	for (;;) {
		enum rc rc = archive_source_next(u->source, &data, &len, err);
		if (rc != RC_OK || len == 0)
			return rc;
		if (data[0] != 0 || memcmp(data, data + 1, len - 1) != 0)
			return invalid("something else follows the tar archive", err);
	}
}

static enum rc
check_zip_end(struct unpack *u, uint64_t position, struct err *err)
{
	enum rc rc = archive_zip_end_read(u->source, position, on_zip_record, u, err);

	if (rc == RC_OK && u->locals.claimed < u->locals.count)
		return invalid("the directory of the zip archive lacks an entry", err);
	return rc;
}

static enum rc
check_end(struct unpack *u, struct err *err)
{
	uint64_t position = (uint64_t)archive_filter_bytes(u->a, 0);

	enum rc rc = archive_source_rewind(u->source, position, err);
	if (rc != RC_OK)
		return rc;
	return u->zip ? check_zip_end(u, position, err) : check_tar_end(u, position, err);
}

/* libarchive warns of names it cannot convert (and gives them as they are, which is what we want);
 * any other warning is of something that it left out. */
static bool
may_ignore(const char *warning)
{
	return warning != NULL && strstr(warning, "be converted from") != NULL;
}

static enum rc
take_entry(struct unpack *u, struct archive_entry *entry, struct err *err)
{
	const char *name = archive_entry_pathname(entry);

	if (++u->entries > u->o->entries_max)
		return err_set(err, RC_TOO_LARGE, "archive-too-large",
			"the archive has more than %" PRIu64 " entries", u->o->entries_max);
	u->name_len = name != NULL ? strnlen(name, sizeof u->name) : 0;
	if (u->name_len > 0)
		memcpy(u->name, name, u->name_len);
	return u->zip ? take_zip_entry(u, entry, err) : take_tar_entry(u, entry, err);
}

static enum rc
take_entries(struct unpack *u, struct err *err)
{
	struct archive_entry *entry;

	if (archive_read_open(u->a, u->source, NULL, archive_source_read, NULL) != ARCHIVE_OK)
		return broken(u, "behind", err);
	for (;;) {
		int r = archive_read_next_header(u->a, &entry);
		bool good = r == ARCHIVE_OK || r == ARCHIVE_EOF ||
			    (r == ARCHIVE_WARN && may_ignore(archive_error_string(u->a)));
		if (!good)
			return broken(u, "behind", err);
		u->zip = (archive_format(u->a) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_ZIP;
		if (u->entries == 0 && !u->zip)
			archive_source_keep(u->source, ARCHIVE_SOURCE_KEEP_TAR);
		if (r == ARCHIVE_EOF)
			return check_end(u, err);
		enum rc rc = take_entry(u, entry, err);
		if (rc != RC_OK)
			return rc;
	}
}

static enum rc
check_clashes(const struct unpack *u, struct err *err)
{
	char shown[PATH_SHOW_BYTES];
	char why[PATH_SHOW_BYTES + 64];
	size_t file;
	size_t below;

	if (!archive_list_find_clash(&u->list, &file, &below))
		return RC_OK;
	const struct stage_change *a = &u->list.items[file];
	const struct stage_change *b = &u->list.items[below];
	size_t prefix_len = strlen(u->o->prefix);
	path_show(shown, b->path + prefix_len, b->path_len - prefix_len);
	snprintf(why, sizeof why, "it is a file, and \"%s\" needs it to be a directory", shown);
	return refuse(u, a->path + prefix_len, a->path_len - prefix_len, why, err);
}

static enum rc
open_all(struct unpack *u, struct err *err)
{
	const struct archive_in_options *o = u->o;
	const struct archive_source_options so = {
		.filter = {!o->deny_plain, o->allow_gzip, o->allow_zstd, o->read, o->arg},
		.ratio_max = o->ratio_max,
	};
	const struct repo *repo = stage_repo(o->stage);

	enum rc rc = archive_source_open(&so, &u->source, err);
	if (rc != RC_OK)
		return rc;
	u->a = archive_read_new();
	if (u->a == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	if (o->allow_tar)
		archive_read_support_format_tar(u->a);
	if (o->allow_zip)
		archive_read_support_format_zip_streamable(u->a);
	return archive_feed_open(
		o->ingest, &repo->space, stage_meter(o->stage), &u->list, &u->feed, err);
}

/* Everything is durable but the entries. */
static enum rc
unpack(struct unpack *u, struct ingest_receipt *receipt, struct err *err)
{
	struct err late = ERR_INIT;

	enum rc rc = open_all(u, err);
	if (rc != RC_OK)
		return rc;
	rc = take_entries(u, err);
	archive_feed_flush(u->feed);
	if (rc == RC_OK) /* while the last files become durable */
		rc = check_clashes(u, err);
	enum rc settled = archive_feed_settle(u->feed, receipt, &late);
	if (rc == RC_OK && settled != RC_OK) {
		*err = late;
		return settled;
	}
	return rc;
}

static enum rc
stage_entries(struct unpack *u, const struct ingest_receipt *cost, struct err *err)
{
	archive_list_compact(&u->list);
	if (u->o->accept != NULL) {
		enum rc rc = u->o->accept(u->o->arg, err);
		if (rc != RC_OK)
			return rc;
	}
	if (u->list.count == 0)
		return RC_OK;
	return stage_apply_costly(u->o->stage, u->list.items, u->list.count, cost, err);
}

enum rc
archive_in_run(
	const struct archive_in_options *options, struct archive_in_result *out, struct err *err)
{
	struct unpack u = {.o = options};
	struct archive_in_result result = {.files = 0};

	if (options->refused != NULL)
		options->refused[0] = '\0';
	locale_t c = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
	if (c == (locale_t)0)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	locale_t before = uselocale(c);
	archive_list_init(&u.list);
	enum rc rc = unpack(&u, &result.receipt, err);
	if (rc == RC_OK)
		rc = stage_entries(&u, &result.receipt, err);
	if (rc == RC_OK) {
		result.files = u.list.count;
		result.skipped = u.skipped;
		*out = result;
	}
	archive_read_free(u.a);
	archive_source_free(u.source);
	archive_feed_free(u.feed);
	archive_list_done(&u.list);
	archive_zip_locals_done(&u.locals);
	uselocale(before);
	freelocale(c);
	return rc;
}
