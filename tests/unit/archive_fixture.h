/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_FIXTURE_H
#define DG_ARCHIVE_FIXTURE_H

#include "archive_in.h"
#include "buf.h"
#include "path.h"

/* archive_fixture: what the tests of archive_in share: doubles of ingest and the stage that keep
 * what they were given, archives made by libarchive or by hand, and runs of one against the other.
 * Whatever fails, fails the test. */

/* ---- doubles: a content is the SHA-256 of the bytes; files settle on a thread of their own ----
 */

struct staged {
	char path[PATH_BYTES_MAX + 1];
	struct content content;
	uint32_t mode;
	int64_t mtime_ns;
};

struct fakes {
	/* what to do */
	size_t take_max;     /* bytes a write takes before it wants to be woken; 0: all */
	uint64_t fail_file;  /* the how-manieth file fails when it settles; 0: none */
	uint64_t fail_write; /* the how-manieth file fails while it is written; 0: none */
	enum rc apply_rc;
	/* what was done, in the last run */
	uint64_t files;
	int aborted;
	size_t in_flight_most;
	int applied;
	struct staged *staged;
	size_t staged_count;
};

extern struct fakes fake;

/* cmocka group setup and teardown, and the setup of each test. */
int archive_setup(void **state);
int archive_teardown(void **state);
int archive_reset(void **state);

const struct staged *find_staged(const char *path);
/* It is staged and has this content. */
void expect_file(const char *path, const void *data, size_t len);

/* ---- running ---- */

/* The stream, handed over in pieces that are freed when the next one is asked for. */
struct stream {
	const uint8_t *data;
	size_t len;
	size_t step;
	size_t fail_at; /* SIZE_MAX: never */
	uint8_t *piece;
	enum rc accept_rc;
};

/* Where the name of a refused entry goes, and what the last run failed with. */
extern char refused[PATH_BYTES_MAX + 1];
extern struct err last_err;

struct archive_in_options archive_defaults(void);
enum rc run_stream(
	struct archive_in_options *o, struct stream *s, struct archive_in_result *result);
enum rc run(struct archive_in_options *o, const void *data, size_t len, size_t step);
/* With the defaults. */
enum rc run_buf(const struct buf *b);

void expect_fails(enum rc rc, enum rc want, const char *kind);
void expect_invalid(const struct buf *b);
/* name NULL: whatever it is. */
void expect_refused(const struct buf *b, const char *name);

/* ---- making ---- */

#define ARCHIVE_BYTES_MAX ((size_t)64 << 20)

struct item {
	const char *name;
	const char *data;
	size_t len;    /* 0: strlen(data) */
	unsigned mode; /* 0: a file of 0644 */
	const char *link;
	int64_t mtime;
	unsigned mtime_ns;
	bool sparse; /* a hole in the first half */
};

enum {
	PAX,
	GNU,
	USTAR,
	ZIP,
	ZIP_STORED,
};

enum {
	PLAIN,
	GZ,
	ZST,
};

/* Bytes that compress, but not to nothing. */
#define BIG_BYTES 3000000
extern char big[BIG_BYTES];

#define LONG_NAME                                                                                  \
	"d0123456789012345678901234567890123456789/d0123456789012345678901234567890123456789/"     \
	"d0123456789012345678901234567890123456789/d0123456789012345678901234567890123456789/"     \
	"f0123456789012345678901234567890123456789"

/* Modes, times, names of many kinds, an empty file, a big one, a directory. */
#define USUAL 11
extern const struct item usual[USUAL];
/* They are staged, and nothing else. */
void expect_usual(const char *prefix);

struct buf make(int format, int coding, const struct item *items, size_t count);
/* Compress what is there already. */
struct buf pack(int coding, const void *data, size_t len);

/* A zip written by hand: sizes in the local header, nothing compressed, and any lie that is wanted.
 */
struct zip_item {
	const char *name;
	const char *data;
	const char *central_name; /* NULL: name */
	uint32_t attributes;
	uint8_t host;
	uint16_t flags;
	uint16_t method;
	uint32_t crc_xor, size_add, offset_add;
	const char *extra;
	size_t extra_len;
	bool no_local, no_central;
};

struct buf make_zip(const struct zip_item *items, size_t count, int count_add, const char *comment);

#endif
