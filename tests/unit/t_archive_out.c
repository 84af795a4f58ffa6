/* SPDX-License-Identifier: Apache-2.0 */
/* Archives of trees in memory, read back with libarchive. The bytes of a file come from a double of
 * the reader, which makes them of its id. */
#include "archive_out.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tree_fixture.h"

#define OUT_BYTES_MAX ((size_t)64 << 20)

/* ---- the reader ---- */

struct reader {
	struct content content;
	uint64_t offset;
};

static struct {
	int open;
	int opened;
	uint64_t fail_after; /* bytes read in all; 0: never */
	uint64_t cut_after;  /* as if a content were shorter than it says; 0: never */
	uint64_t read;
	size_t expected;
} fake;

/* Ids that begin with an odd byte have bytes that do not compress. */
static uint8_t
byte_at(const struct sha256 *id, uint64_t i)
{
	uint64_t x = (i + get_u64(id->b)) * 0x9e3779b97f4a7c15u;

	return id->b[0] % 2 == 1 ? (uint8_t)((x ^ x >> 29) * 0xbf58476d1ce4e5b9u >> 56)
				 : (uint8_t)("abcd"[i / 100 % 4] + id->b[1] % 4);
}

enum rc
reader_switch(struct reader *r, const struct content *content, uint64_t offset, struct err *err)
{
	(void)err;
	r->content = *content;
	r->offset = offset;
	return RC_OK;
}

enum rc
reader_open(struct read_service *rs, const struct repo *repo, const struct content *content,
	uint64_t offset, struct reader **out, struct err *err)
{
	(void)rs;
	(void)repo;
	*out = calloc(1, sizeof **out);
	fake.open++;
	fake.opened++;
	return reader_switch(*out, content, offset, err);
}

enum rc
reader_read(struct reader *r, uint8_t *out, size_t max, size_t *got, struct err *err)
{
	uint64_t left = r->content.size - r->offset;

	*got = 0;
	if (fake.fail_after > 0 && fake.read >= fake.fail_after)
		return err_set(err, RC_CORRUPT, "corrupt-data", "as told");
	if (fake.cut_after > 0 && fake.read >= fake.cut_after)
		return RC_OK;
	if (max > left)
		max = (size_t)left;
	if (max > 50000) /* a reader may give less than there is */
		max = 50000;
	for (size_t i = 0; i < max; i++)
		out[i] = byte_at(&r->content.id, r->offset + i);
	r->offset += max;
	fake.read += max;
	*got = max;
	return RC_OK;
}

enum rc
reader_expect(struct reader *r, const struct content *contents, size_t count, struct err *err)
{
	(void)err;
	assert_non_null(r);
	assert_true(count <= READER_EXPECT_MAX);
	for (size_t i = 0; i < count; i++)
		assert_true(contents[i].size > 0);
	fake.expected += count;
	return RC_OK;
}

void
reader_free(struct reader *r)
{
	if (r == NULL)
		return;
	fake.open--;
	free(r);
}

/* ---- trees ---- */

#define LONG_NAME                                                                                  \
	"d0123456789012345678901234567890123456789/d0123456789012345678901234567890123456789/"     \
	"d0123456789012345678901234567890123456789/"                                               \
	"f0123456789012345678901234567890123456789\xc3\xa4"

static const struct {
	const char *path;
	uint64_t size;
	uint32_t mode;
	int64_t mtime_ns;
} files[] = {
	{"a", 10, 0644, INT64_C(1700000000000000000)},
	{"big", 1000000, 0600, INT64_C(1700000000123456789)},
	{"docs/a.txt", 513, 0100755, INT64_C(1600000000000000000)},
	{"docs/empty", 0, 0644, 0},
	{"docs/noise", 300001, 04711, INT64_C(-5000000001)},
	{"docsx", 1, 0644, 7000000000},
	{LONG_NAME, 5, 0644, 7000000000},
	{"nfd-a\xcc\x88", 6, 0644, 7000000000},
	{"\xc3\xa4/\xe4\xb8\xad", 7, 0644, 7000000000},
	{"\xf0\x9f\x98\x80", 8, 0644, 7000000000},
};
#define FILES (sizeof files / sizeof *files)

static struct mem_store store;
static struct sha256 root;

static struct sha256
id_of(size_t i)
{
	struct sha256 id;

	sha256_of(files[i].path, strlen(files[i].path), &id);
	id.b[0] = strcmp(files[i].path, "docs/noise") == 0 ? 1 : 2;
	return id;
}

static int
setup(void **state)
{
	struct model m = {NULL, 0, 0};

	(void)state;
	memset(&fake, 0, sizeof fake);
	mem_store_init(&store);
	for (size_t i = 0; i < FILES; i++) {
		struct tree_entry e = entry_of(files[i].path, strlen(files[i].path), i);
		e.content = (struct content){CONTENT_RECIPE, id_of(i), files[i].size};
		e.mode = files[i].mode;
		e.mtime_ns = files[i].mtime_ns;
		model_put(&m, &e);
	}
	root = model_build(&m, &store);
	model_done(&m);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	mem_store_done(&store);
	assert_int_equal(fake.open, 0);
	return 0;
}

static struct archive_out *
open_out(const struct sha256 *tree, const char *prefix, enum archive_format format)
{
	static const struct repo repo = {.id = 1};
	static char service;
	struct err err = ERR_INIT;
	struct archive_out *a = NULL;

	assert_int_equal(archive_out_open((struct read_service *)(void *)&service, &repo,
				 &store.store, tree, prefix, format, &a, &err),
		RC_OK);
	return a;
}

static void
drain(struct archive_out *a, size_t want, struct buf *all)
{
	struct err err = ERR_INIT;
	struct buf piece;

	buf_init(&piece, 1 << 20);
	buf_init(all, OUT_BYTES_MAX);
	do {
		buf_clear(&piece);
		buf_add(&piece, "xy", 2); /* what is there already stays */
		assert_int_equal(archive_out_more(a, &piece, want, &err), RC_OK);
		assert_true(piece.len - 2 <= want + 300000);
		assert_memory_equal(piece.data, "xy", 2);
		buf_add(all, piece.data + 2, piece.len - 2);
	} while (piece.len > 2);
	assert_true(buf_ok(all));
	buf_done(&piece);
}

static struct buf
whole(const char *prefix, enum archive_format format, size_t want)
{
	struct archive_out *a = open_out(&root, prefix, format);
	struct buf all;

	drain(a, want, &all);
	archive_out_free(a);
	return all;
}

/* Read back: exactly the files under prefix, named without their first strip bytes. */
static void
expect(const struct buf *b, const char *prefix, size_t strip, int64_t default_ns, bool zip)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	size_t seen = 0;
	uint8_t *data = malloc(1000001);

	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_format_tar(a);
	archive_read_support_format_zip_seekable(a);
	assert_int_equal(archive_read_open_memory(a, b->data, b->len), ARCHIVE_OK);
	/* names are given as the bytes they are, if with warnings, in the "C" locale; those of a
	 * zip are asked for as UTF-8 */
	while (archive_read_next_header(a, &e) != ARCHIVE_EOF) {
		const char *name = archive_entry_pathname(e);
		assert_non_null(name);
		size_t i = 0;
		while (i < FILES && (strncmp(files[i].path, prefix, strlen(prefix)) != 0 ||
					    strcmp(files[i].path + strip, name) != 0))
			i++;
		assert_true(i < FILES);
		seen |= (size_t)1 << i;
		assert_int_equal(archive_entry_filetype(e), AE_IFREG);
		assert_int_equal(archive_entry_perm(e), files[i].mode & 07777);
		assert_int_equal(archive_entry_size(e), files[i].size);
		assert_int_equal(archive_entry_uid(e), 0);
		assert_int_equal(archive_entry_gid(e), 0);
		int64_t ns = files[i].mtime_ns != 0 ? files[i].mtime_ns : default_ns;
		int64_t got = archive_entry_mtime(e) * 1000000000 + archive_entry_mtime_nsec(e);
		if (zip)
			assert_true(ns < 0 || got == ns - ns % 1000000000);
		else
			assert_int_equal(got, ns);
		assert_int_equal(archive_read_data(a, data, 1000001), files[i].size);
		struct sha256 id = id_of(i);
		for (uint64_t k = 0; k < files[i].size; k++)
			if (data[k] != byte_at(&id, k))
				fail();
	}
	for (size_t i = 0; i < FILES; i++)
		assert_int_equal(
			strncmp(files[i].path, prefix, strlen(prefix)) == 0, (seen >> i & 1) != 0);
	archive_read_free(a);
	free(data);
}

static void
with_utf8_if_zip(const struct buf *b, enum archive_format format, const char *prefix, size_t strip)
{
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);

	if (format != ARCHIVE_ZIP) {
		expect(b, prefix, strip, 0, false);
	} else if (utf8 != (locale_t)0 && strip > 0) {
		locale_t old = uselocale(utf8);
		expect(b, prefix, strip, 0, true);
		uselocale(old);
	}
	if (utf8 != (locale_t)0)
		freelocale(utf8);
}

static void
test_formats(void **state)
{
	const size_t wants[] = {1, 1000, 65536, SIZE_MAX / 2};

	(void)state;
	for (int f = ARCHIVE_TAR; f < ARCHIVE_ZIP; f++) {
		enum archive_format format = (enum archive_format)f;
		struct buf first = whole("", format, 4096);
		expect(&first, "", 0, 0, false);
		/* the same bytes, in whatever pieces */
		for (size_t i = 0; i < 3; i++) {
			struct buf again = whole("", format, wants[i]);
			assert_int_equal(again.len, first.len);
			assert_memory_equal(again.data, first.data, first.len);
			buf_done(&again);
		}
		buf_done(&first);
	}
	assert_int_equal(fake.opened, 4 * 3);
	assert_int_equal(fake.expected, 4 * 3 * (FILES - 1));
}

static bool
has(const struct buf *b, const char *text)
{
	return memmem(b->data, b->len, text, strlen(text)) != NULL;
}

static void
test_zip(void **state)
{
	(void)state;
	struct buf b = whole("", ARCHIVE_ZIP, 4096);
	for (size_t i = 0; i < FILES; i++)
		assert_true(has(&b, files[i].path));
	/* the big one is deflated, noise is not */
	assert_true(b.len < 400000);
	assert_true(b.len > 300001);
	/* the last name has the mark of UTF-8 in the directory */
	const uint8_t *name = NULL;
	for (const uint8_t *at = b.data;
		(at = memmem(at, b.len - (size_t)(at - b.data), "\xf0\x9f\x98\x80", 4)) != NULL;
		at++)
		name = at;
	assert_non_null(name);
	assert_int_equal(get_u32(name - 46), 0x02014b50);
	assert_true((get_u16(name - 46 + 8) & 0x800) != 0);
	buf_done(&b);
	b = whole("docs/", ARCHIVE_ZIP, 4096);
	with_utf8_if_zip(&b, ARCHIVE_ZIP, "docs/", 5);
	buf_done(&b);
}

static void
test_names_are_plain_utf8(void **state)
{
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);

	(void)state;
	if (utf8 == (locale_t)0)
		skip();
	freelocale(utf8);
	struct buf b = whole("", ARCHIVE_TAR, 4096);
	assert_false(has(&b, "hdrcharset"));
	assert_false(has(&b, "ctime") || has(&b, "atime"));
	buf_done(&b);
}

static void
test_prefix(void **state)
{
	static const struct {
		const char *prefix;
		size_t strip;
	} cases[] = {{"docs/", 5}, {"docs", 0}, {"docs/e", 5}, {"a", 0}, {"zzz", 0},
		{"docs/zzz", 5}, {LONG_NAME, 126}, {"\xc3\xa4/", 3}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf b = whole(cases[i].prefix, ARCHIVE_TAR, 4096);
		expect(&b, cases[i].prefix, cases[i].strip, 0, false);
		buf_done(&b);
		struct archive_out *a = open_out(&root, cases[i].prefix, ARCHIVE_TAR_GZ);
		archive_out_whole_paths(a);
		archive_out_default_mtime(a, INT64_C(1234567890000000000));
		drain(a, 10, &b);
		archive_out_free(a);
		expect(&b, cases[i].prefix, 0, INT64_C(1234567890000000000), false);
		buf_done(&b);
	}
	struct err err = ERR_INIT;
	struct archive_out *a = NULL;
	static char prefix[PATH_BYTES_MAX + 2];
	memset(prefix, 'p', PATH_BYTES_MAX + 1);
	assert_int_equal(
		archive_out_open(NULL, NULL, &store.store, &root, prefix, ARCHIVE_TAR, &a, &err),
		RC_INVALID);
	assert_null(a);
}

static void
test_empty_tree(void **state)
{
	const size_t least[] = {1024, 20, 10, 22};

	(void)state;
	for (int f = ARCHIVE_TAR; f <= ARCHIVE_ZIP; f++) {
		struct archive_out *a = open_out(NULL, "", (enum archive_format)f);
		struct buf b;
		drain(a, 100, &b);
		assert_true(b.len >= least[f]);
		assert_true(b.len <= 1024);
		buf_done(&b);
		archive_out_free(a);
	}
}

/* A failure cuts the stream and stays. */
static void
test_failures(void **state)
{
	struct err err = ERR_INIT;
	struct buf b;

	(void)state;
	for (int f = ARCHIVE_TAR; f <= ARCHIVE_ZIP; f++) {
		struct archive_out *a = open_out(&root, "", (enum archive_format)f);
		fake.read = 0;
		fake.fail_after = 400000;
		buf_init(&b, OUT_BYTES_MAX);
		enum rc rc = RC_OK;
		while (rc == RC_OK)
			rc = archive_out_more(a, &b, 1000, &err);
		assert_int_equal(rc, RC_CORRUPT);
		assert_string_equal(err.kind, "corrupt-data");
		size_t len = b.len;
		err_clear(&err);
		assert_int_equal(archive_out_more(a, &b, 1000, &err), RC_CORRUPT);
		assert_int_equal(b.len, len);
		archive_out_free(a);
		buf_done(&b);

		fake.fail_after = 0;
		fake.cut_after = 1;
		err_clear(&err);
		a = open_out(&root, "", (enum archive_format)f);
		buf_init(&b, OUT_BYTES_MAX);
		assert_int_equal(archive_out_more(a, &b, SIZE_MAX, &err), RC_CORRUPT);
		archive_out_free(a);
		buf_done(&b);

		fake.cut_after = 0;
		err_clear(&err);
		a = open_out(&root, "", (enum archive_format)f);
		buf_init(&b, 1000);
		assert_int_equal(archive_out_more(a, &b, SIZE_MAX, &err), RC_NOMEM);
		archive_out_free(a);
		buf_done(&b);

		err_clear(&err);
		a = open_out(&root, "", (enum archive_format)f);
		store.get_rc = RC_UNAVAILABLE;
		buf_init(&b, OUT_BYTES_MAX);
		assert_int_equal(archive_out_more(a, &b, SIZE_MAX, &err), RC_UNAVAILABLE);
		store.get_rc = RC_OK;
		archive_out_free(a);
		buf_done(&b);

		/* freed in the middle, and before anything */
		err_clear(&err);
		a = open_out(&root, "", (enum archive_format)f);
		buf_init(&b, OUT_BYTES_MAX);
		assert_int_equal(archive_out_more(a, &b, 1000, &err), RC_OK);
		archive_out_free(a);
		buf_done(&b);
		archive_out_free(open_out(&root, "", (enum archive_format)f));
	}
	archive_out_free(NULL);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_formats),
		T(test_zip),
		T(test_names_are_plain_utf8),
		T(test_prefix),
		T(test_empty_tree),
		T(test_failures),
	};

	return cmocka_run_group_tests_name("archive_out", tests, NULL, NULL);
}
