/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_fixture.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include <cmocka.h>

#define STAGED_MAX 20000

struct fakes fake;
char big[BIG_BYTES];
char refused[PATH_BYTES_MAX + 1];
struct err last_err;

static struct {
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	pthread_t committer;
	bool stop;
	struct ingest_file *finished; /* newest first, until flushed */
	struct ingest_file *flushed;
	bool wake_wanted;
	size_t in_flight;
	int open_writers;
} engine = {.mtx = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

struct ingest_writer {
	void (*wake)(void *arg);
	void *arg;
	struct ingest_file *file;
	uint64_t number;
	uint64_t bytes;
	struct sha256_stream sha;
};

static struct ingest_writer *waiting;

static void
settle(struct ingest_file *f)
{
	struct err err = ERR_INIT;
	enum rc rc = (enum rc)f->x.failed;

	if (rc != RC_OK)
		err_set(&err, rc, "disk-full", "the file failed");
	f->rider.ops->done(&f->rider, rc, &err);
}

static void *
committer(void *arg)
{
	pthread_mutex_lock(&engine.mtx);
	while (!engine.stop || engine.flushed != NULL) {
		struct ingest_file *f = engine.flushed;
		struct ingest_writer *w = engine.wake_wanted ? waiting : NULL;
		if (f == NULL && w == NULL) {
			pthread_cond_wait(&engine.cond, &engine.mtx);
			continue;
		}
		engine.wake_wanted = false;
		if (f != NULL) {
			engine.flushed = f->x.next;
			engine.in_flight--;
		}
		pthread_mutex_unlock(&engine.mtx);
		if (w != NULL)
			w->wake(w->arg);
		if (f != NULL)
			settle(f);
		pthread_mutex_lock(&engine.mtx);
	}
	pthread_mutex_unlock(&engine.mtx);
	return arg;
}

enum rc
ingest_writer_open(struct ingest *in, const struct ingest_space *space, void (*wake)(void *arg),
	void *arg, struct ingest_writer **out, struct err *err)
{
	(void)in;
	(void)err;
	assert_int_equal(space->repo_id, 7);
	*out = calloc(1, sizeof **out);
	**out = (struct ingest_writer){.wake = wake, .arg = arg};
	engine.open_writers++;
	return RC_OK;
}

void
ingest_writer_close(struct ingest_writer *w)
{
	if (w == NULL)
		return;
	assert_null(w->file);
	engine.open_writers--;
	free(w);
}

void
ingest_begin(struct ingest_writer *w, struct ingest_file *f, uint64_t expected_bytes)
{
	(void)expected_bytes;
	assert_null(w->file);
	assert_null(f->rider.ops->persist);
	w->file = f;
	w->bytes = 0;
	w->number = ++fake.files;
	sha256_stream_init(&w->sha);
	pthread_mutex_lock(&engine.mtx);
	if (++engine.in_flight > fake.in_flight_most)
		fake.in_flight_most = engine.in_flight;
	pthread_mutex_unlock(&engine.mtx);
}

size_t
ingest_write(struct ingest_writer *w, const uint8_t *data, size_t len)
{
	size_t n = fake.take_max > 0 && len > fake.take_max ? fake.take_max : len;

	sha256_stream_update(&w->sha, data, n);
	w->bytes += n;
	if (w->number == fake.fail_write)
		w->file->x.failed = RC_FULL;
	if (n < len) {
		pthread_mutex_lock(&engine.mtx);
		waiting = w;
		engine.wake_wanted = true;
		pthread_cond_signal(&engine.cond);
		pthread_mutex_unlock(&engine.mtx);
	}
	return n;
}

bool
ingest_failed(struct ingest_writer *w, struct err *err)
{
	if (w->file->x.failed == 0)
		return false;
	err_clear(err);
	err_set(err, (enum rc)w->file->x.failed, "disk-full", "the file failed");
	return true;
}

static void
end_file(struct ingest_writer *w)
{
	struct ingest_file *f = w->file;

	w->file = NULL;
	f->content = (struct content){.kind = CONTENT_CHUNK, .size = w->bytes};
	sha256_stream_final(&w->sha, &f->content.id);
	f->receipt.logical_bytes = w->bytes;
	f->receipt.chunks = 1;
	f->receipt.stage_ns[0] = 1;
	pthread_mutex_lock(&engine.mtx);
	f->x.next = engine.finished;
	engine.finished = f;
	pthread_mutex_unlock(&engine.mtx);
}

void
ingest_finish(struct ingest_writer *w)
{
	if (w->number == fake.fail_file)
		w->file->x.failed = RC_UNAVAILABLE;
	end_file(w);
}

void
ingest_abort(struct ingest_writer *w, const struct err *err)
{
	assert_int_not_equal(err->rc, RC_OK);
	fake.aborted++;
	w->file->x.failed = (int)err->rc;
	end_file(w);
}

void
ingest_flush(struct ingest_writer *w)
{
	assert_null(w->file);
	pthread_mutex_lock(&engine.mtx);
	while (engine.finished != NULL) {
		struct ingest_file *f = engine.finished;
		engine.finished = f->x.next;
		f->x.next = engine.flushed;
		engine.flushed = f;
	}
	pthread_cond_signal(&engine.cond);
	pthread_mutex_unlock(&engine.mtx);
}

static struct repo repo = {.space = {.repo_id = 7}};
static struct meter meter;

struct repo *
stage_repo(const struct stage *s)
{
	(void)s;
	return &repo;
}

struct meter *
stage_meter(struct stage *s)
{
	(void)s;
	return &meter;
}

enum rc
stage_apply_costly(struct stage *s, const struct stage_change *changes, size_t count,
	const struct ingest_receipt *cost, struct err *err)
{
	(void)s;
	assert_non_null(cost);
	fake.applied++;
	assert_int_equal(engine.in_flight, 0);
	if (fake.apply_rc != RC_OK)
		return err_set(err, fake.apply_rc, NULL, "as told");
	assert_true(count > 0 && count <= STAGED_MAX);
	for (size_t i = 0; i < count; i++) {
		struct staged *e = &fake.staged[i];
		assert_false(changes[i].remove);
		assert_int_equal(path_check(changes[i].path, changes[i].path_len, err), RC_OK);
		memcpy(e->path, changes[i].path, changes[i].path_len);
		e->path[changes[i].path_len] = '\0';
		e->content = changes[i].content;
		e->mode = changes[i].mode;
		e->mtime_ns = changes[i].mtime_ns;
	}
	fake.staged_count = count;
	return RC_OK;
}

static void
fill_big(void)
{
	uint32_t x = 1;

	for (size_t i = 0; i < sizeof big; i++) {
		x = x * 1664525 + 1013904223;
		big[i] = (char)(i % 4 == 0 ? x >> 24 : i >> 12);
	}
}

int
archive_setup(void **state)
{
	(void)state;
	fill_big();
	fake.staged = calloc(STAGED_MAX, sizeof *fake.staged);
	return pthread_create(&engine.committer, NULL, committer, NULL);
}

int
archive_teardown(void **state)
{
	(void)state;
	pthread_mutex_lock(&engine.mtx);
	engine.stop = true;
	pthread_cond_signal(&engine.cond);
	pthread_mutex_unlock(&engine.mtx);
	pthread_join(engine.committer, NULL);
	free(fake.staged);
	return 0;
}

int
archive_reset(void **state)
{
	(void)state;
	fake.take_max = 0;
	fake.fail_file = 0;
	fake.fail_write = 0;
	fake.apply_rc = RC_OK;
	fake.in_flight_most = 0;
	return 0;
}

/* ---- running ---- */

static ssize_t
on_read(void *arg, const uint8_t **data, struct err *err)
{
	struct stream *s = arg;
	size_t n = s->len < s->step ? s->len : s->step;

	free(s->piece);
	s->piece = NULL;
	if (s->fail_at == 0) {
		err_set(err, RC_INVALID, "body-mismatch", "the client went away");
		return -1;
	}
	if (s->fail_at != SIZE_MAX && n > s->fail_at)
		n = s->fail_at;
	s->piece = malloc(n + 1);
	if (n > 0)
		memcpy(s->piece, s->data, n);
	s->data += n;
	s->len -= n;
	if (s->fail_at != SIZE_MAX)
		s->fail_at -= n;
	*data = s->piece;
	return (ssize_t)n;
}

static enum rc
on_accept(void *arg, struct err *err)
{
	const struct stream *s = arg;

	return s->accept_rc == RC_OK ? RC_OK
				     : err_set(err, s->accept_rc, "digest-mismatch", "no match");
}

struct archive_in_options
archive_defaults(void)
{
	return (struct archive_in_options){
		.prefix = "",
		.entries_max = 100000,
		.expanded_bytes_max = UINT64_C(1) << 40,
		.ratio_max = 1000,
		.allow_gzip = true,
		.allow_zstd = true,
		.allow_tar = true,
		.allow_zip = true,
		.refused = refused,
		.accept = on_accept,
	};
}

enum rc
run_stream(struct archive_in_options *o, struct stream *s, struct archive_in_result *result)
{
	static char thing;

	o->stage = (struct stage *)(void *)&thing;
	o->ingest = (struct ingest *)(void *)&thing;
	o->read = on_read;
	o->arg = s;
	fake.applied = 0;
	fake.staged_count = 0;
	fake.files = 0;
	fake.aborted = 0;
	last_err = (struct err)ERR_INIT;
	memset(result, 0, sizeof *result);
	enum rc rc = archive_in_run(o, result, &last_err);
	free(s->piece);
	s->piece = NULL;
	assert_int_equal(rc, last_err.rc);
	assert_int_equal(engine.in_flight, 0);
	assert_int_equal(engine.open_writers, 0);
	if (rc != RC_OK) {
		assert_int_equal(fake.staged_count, 0);
		assert_string_not_equal(last_err.text, "");
	}
	return rc;
}

enum rc
run(struct archive_in_options *o, const void *data, size_t len, size_t step)
{
	struct stream s = {.data = data, .len = len, .step = step, .fail_at = SIZE_MAX};
	struct archive_in_result result;

	return run_stream(o, &s, &result);
}

enum rc
run_buf(const struct buf *b)
{
	struct archive_in_options o = archive_defaults();

	return run(&o, b->data, b->len, 4096);
}

void
expect_fails(enum rc rc, enum rc want, const char *kind)
{
	if (rc != want || strcmp(last_err.kind, kind) != 0)
		print_error("%s %s: %s (%s)\n", rc_name(rc), last_err.kind, last_err.text,
			last_err.detail);
	assert_int_equal(rc, want);
	assert_string_equal(last_err.kind, kind);
	assert_int_equal(fake.applied, 0);
}

void
expect_invalid(const struct buf *b)
{
	expect_fails(run_buf(b), RC_INVALID, "invalid-archive");
}

void
expect_refused(const struct buf *b, const char *name)
{
	expect_fails(run_buf(b), RC_INVALID, "archive-entry-refused");
	if (name != NULL)
		assert_string_equal(refused, name);
}

/* ---- making archives ---- */

static la_ssize_t
on_write(struct archive *a, void *arg, const void *data, size_t len)
{
	(void)a;
	buf_add(arg, data, len);
	return (la_ssize_t)len;
}

static void
write_item(struct archive *a, const struct item *it)
{
	struct archive_entry *e = archive_entry_new();
	size_t len = it->len != 0 ? it->len : it->data != NULL ? strlen(it->data) : 0;
	unsigned mode = it->mode != 0 ? it->mode : S_IFREG | 0644;

	archive_entry_copy_pathname(e, it->name);
	archive_entry_set_mode(e, (mode & S_IFMT) != 0 ? mode : mode | S_IFREG);
	archive_entry_set_size(e, (la_int64_t)len);
	if (it->mtime != 0)
		archive_entry_set_mtime(e, it->mtime, (long)it->mtime_ns);
	if (it->sparse)
		archive_entry_sparse_add_entry(e, (la_int64_t)len / 2, (la_int64_t)len / 2);
	if (it->link != NULL && S_ISLNK(mode))
		archive_entry_copy_symlink(e, it->link);
	else if (it->link != NULL)
		archive_entry_copy_hardlink(e, it->link);
	assert_true(archive_write_header(a, e) >= ARCHIVE_WARN);
	if (len > 0)
		assert_int_equal(archive_write_data(a, it->data, len), len);
	archive_entry_free(e);
}

struct buf
make(int format, int coding, const struct item *items, size_t count)
{
	struct buf b;
	struct archive *a = archive_write_new();
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	locale_t old = utf8 != (locale_t)0 ? uselocale(utf8) : (locale_t)0;

	buf_init(&b, ARCHIVE_BYTES_MAX);
	switch (format) {
	case PAX:
		archive_write_set_format_pax(a);
		break;
	case GNU:
		archive_write_set_format_gnutar(a);
		break;
	case USTAR:
		archive_write_set_format_ustar(a);
		break;
	default:
		archive_write_set_format_zip(a);
		if (format == ZIP_STORED)
			archive_write_zip_set_compression_store(a);
	}
	if (coding == GZ)
		archive_write_add_filter_gzip(a);
	if (coding == ZST)
		archive_write_add_filter_zstd(a);
	archive_write_set_bytes_in_last_block(a, 1);
	assert_int_equal(archive_write_open(a, &b, NULL, on_write, NULL), ARCHIVE_OK);
	for (size_t i = 0; i < count; i++)
		write_item(a, &items[i]);
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
	assert_true(buf_ok(&b));
	if (utf8 != (locale_t)0) {
		uselocale(old);
		freelocale(utf8);
	}
	return b;
}

struct buf
pack(int coding, const void *data, size_t len)
{
	struct buf b;
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();

	buf_init(&b, ARCHIVE_BYTES_MAX);
	archive_write_set_format_raw(a);
	if (coding == GZ)
		archive_write_add_filter_gzip(a);
	if (coding == ZST)
		archive_write_add_filter_zstd(a);
	archive_write_set_bytes_in_last_block(a, 1);
	archive_write_set_bytes_per_block(a, 0);
	archive_write_open(a, &b, NULL, on_write, NULL);
	archive_entry_set_filetype(e, AE_IFREG);
	assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
	assert_int_equal(archive_write_data(a, data, len), len);
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_entry_free(e);
	archive_write_free(a);
	return b;
}

static void
zip_header(struct buf *b, const struct zip_item *z, const char *name, uint32_t size_add)
{
	uint32_t size = (uint32_t)strlen(z->data) + size_add;
	uLong crc = crc32(0, (const Bytef *)z->data, (uInt)strlen(z->data));

	buf_add_u16(b, z->flags);
	buf_add_u16(b, z->method);
	buf_add_u16(b, 12 << 11 | 30 << 5 | 1); /* 12:30:02 */
	buf_add_u16(b, 44 << 9 | 2 << 5 | 29);  /* 2024-02-29 */
	buf_add_u32(b, (uint32_t)crc ^ z->crc_xor);
	buf_add_u32(b, size);
	buf_add_u32(b, size);
	buf_add_u16(b, (uint16_t)strlen(name));
	buf_add_u16(b, (uint16_t)z->extra_len);
}

struct buf
make_zip(const struct zip_item *items, size_t count, int count_add, const char *comment)
{
	uint32_t offsets[64];
	uint16_t records = 0;
	struct buf b;

	buf_init(&b, 1 << 20);
	for (size_t i = 0; i < count; i++) {
		const struct zip_item *z = &items[i];
		offsets[i] = (uint32_t)b.len + z->offset_add;
		if (z->no_local)
			continue;
		buf_add_u32(&b, 0x04034b50);
		buf_add_u16(&b, 20);
		zip_header(&b, z, z->name, 0);
		buf_add(&b, z->name, strlen(z->name));
		buf_add(&b, z->extra, z->extra_len);
		buf_add(&b, z->data, strlen(z->data));
	}
	uint32_t start = (uint32_t)b.len;
	for (size_t i = 0; i < count; i++) {
		const struct zip_item *z = &items[i];
		const char *name = z->central_name != NULL ? z->central_name : z->name;
		if (z->no_central)
			continue;
		records++;
		buf_add_u32(&b, 0x02014b50);
		buf_add_u8(&b, 20);
		buf_add_u8(&b, z->host);
		buf_add_u16(&b, 20);
		zip_header(&b, z, name, z->size_add);
		buf_add_u16(&b, 3); /* comment */
		buf_add_u16(&b, 0);
		buf_add_u16(&b, 0);
		buf_add_u32(&b, z->attributes);
		buf_add_u32(&b, offsets[i]);
		buf_add(&b, name, strlen(name));
		buf_add(&b, z->extra, z->extra_len);
		buf_add(&b, "hey", 3);
	}
	uint32_t bytes = (uint32_t)b.len - start;
	buf_add_u32(&b, 0x06054b50);
	buf_add_u32(&b, 0);
	buf_add_u16(&b, (uint16_t)(records + count_add));
	buf_add_u16(&b, (uint16_t)(records + count_add));
	buf_add_u32(&b, bytes);
	buf_add_u32(&b, start);
	buf_add_u16(&b, (uint16_t)strlen(comment));
	buf_add_str(&b, comment);
	assert_true(buf_ok(&b));
	return b;
}

const struct staged *
find_staged(const char *path)
{
	for (size_t i = 0; i < fake.staged_count; i++)
		if (strcmp(fake.staged[i].path, path) == 0)
			return &fake.staged[i];
	return NULL;
}

void
expect_file(const char *path, const void *data, size_t len)
{
	const struct staged *e = find_staged(path);
	struct sha256 id;

	if (e == NULL)
		print_error("%s is not staged\n", path);
	assert_non_null(e);
	sha256_of(data, len, &id);
	assert_int_equal(e->content.size, len);
	assert_true(sha256_equal(&e->content.id, &id));
}

/* ---- what most tests use ---- */

const struct item usual[USUAL] = {
	{"plain.txt", "hello\n", 0, 0100640, NULL, 1700000000, 0, false},
	{"./dot/slash", "1", 0, 0, NULL, 1, 0, false},
	{"dir/", NULL, 0, S_IFDIR | 0755, NULL, 5, 0, false},
	{"dir/empty", "", 0, 0100755, NULL, 1600000000, 0, false},
	{"\xc3\xa4.txt", "umlaut", 0, 0, NULL, 7, 0, false},
	{"a\xcc\x88.txt", "not normalised", 0, 0, NULL, 7, 0, false},
	{"\xe4\xb8\xad/\xe6\x96\x87", "chinese", 0, 0, NULL, 7, 0, false},
	{"emoji-\xf0\x9f\x98\x80", "emoji", 0, 0, NULL, 7, 0, false},
	{"big", big, sizeof big, 0104711, NULL, 1700000001, 0, false},
	{LONG_NAME, "long", 0, 0, NULL, 7, 0, false},
	{"with spaces 'and' \"quotes\"", "q", 0, 0, NULL, 7, 0, false},
};

void
expect_usual(const char *prefix)
{
	size_t files = 0;

	for (size_t i = 0; i < USUAL; i++) {
		char path[PATH_BYTES_MAX];
		const char *name = usual[i].name;
		if (name[strlen(name) - 1] == '/')
			continue;
		snprintf(path, sizeof path, "%s%s", prefix, name[0] == '.' ? name + 2 : name);
		expect_file(path, usual[i].data,
			usual[i].len > 0 ? usual[i].len : strlen(usual[i].data));
		const struct staged *e = find_staged(path);
		assert_int_equal(e->mode, usual[i].mode != 0 ? usual[i].mode & 0777 : 0644);
		assert_int_equal(e->mtime_ns, usual[i].mtime * 1000000000);
		files++;
	}
	assert_int_equal(fake.staged_count, files);
	assert_int_equal(fake.applied, 1);
}
