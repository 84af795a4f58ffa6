/* SPDX-License-Identifier: Apache-2.0 */
#include "filter_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "checksum.h"

#define MAGIC         "DGSTFLTR"
#define VERSION       1
#define HEADER_BYTES  128
#define HEADER_SUM_AT 120
#define PIECE_BYTES   ((size_t)1 << 20) /* read, written and checked at once */
#define PIECE_BLOCKS  (PIECE_BYTES / BLOOM_BLOCK_BYTES)
#define PATH_BYTES    4096

struct header {
	uint8_t id[DB_FILTER_ID_BYTES];
	uint64_t blocks;
	uint64_t expected;
	uint64_t count;
	uint64_t checksum; /* of the blocks: each piece's, with that of the one before as seed */
};

static void
put_header(uint8_t out[HEADER_BYTES], const struct header *h)
{
	memset(out, 0, HEADER_BYTES);
	memcpy(out, MAGIC, 8);
	put_u16(out + 8, VERSION);
	memcpy(out + 16, h->id, sizeof h->id);
	put_u64(out + 32, h->blocks);
	put_u64(out + 40, h->expected);
	put_u64(out + 48, h->count);
	put_u64(out + 56, h->checksum);
	put_u64(out + HEADER_SUM_AT, checksum64(out, HEADER_SUM_AT));
}

static enum rc
damaged(const char *why, struct err *err)
{
	err_set(err, RC_CORRUPT, "corrupt-data", "the saved filter is damaged");
	return err_detail(err, "%s", why);
}

static enum rc
get_header(const uint8_t in[HEADER_BYTES], struct header *h, struct err *err)
{
	uint8_t same[HEADER_BYTES];

	if (memcmp(in, MAGIC, 8) != 0 ||
		get_u64(in + HEADER_SUM_AT) != checksum64(in, HEADER_SUM_AT))
		return damaged("header", err);
	if (get_u16(in + 8) != VERSION)
		return err_set(err, RC_NOT_FOUND, NULL, "a filter of another version");
	memcpy(h->id, in + 16, sizeof h->id);
	h->blocks = get_u64(in + 32);
	h->expected = get_u64(in + 40);
	h->count = get_u64(in + 48);
	h->checksum = get_u64(in + 56);
	put_header(same, h);
	if (memcmp(in, same, HEADER_BYTES) != 0 || h->blocks == 0 || h->expected == 0)
		return damaged("fields", err);
	return RC_OK;
}

static enum rc
write_all(int fd, const uint8_t *data, size_t len, const char *path, struct err *err)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(err, n < 0 ? errno : ENOSPC, "save the filter", path);
		data += n;
		len -= (size_t)n;
	}
	return RC_OK;
}

/* The header comes last, when the checksum is known. */
static enum rc
write_filter(int fd, const uint8_t *id, const struct bloom *b, const char *path, struct err *err)
{
	struct header h = {
		.blocks = bloom_blocks(b), .expected = bloom_expected(b), .count = bloom_count(b)};
	uint8_t head[HEADER_BYTES] = {0};
	uint8_t *piece = malloc(PIECE_BYTES);

	if (piece == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	memcpy(h.id, id, sizeof h.id);
	enum rc rc = write_all(fd, head, sizeof head, path, err);
	for (uint64_t at = 0; rc == RC_OK && at < h.blocks; at += PIECE_BLOCKS) {
		size_t n = h.blocks - at < PIECE_BLOCKS ? (size_t)(h.blocks - at) : PIECE_BLOCKS;
		bloom_get_blocks(b, at, n, piece);
		h.checksum = checksum64_seeded(piece, n * BLOOM_BLOCK_BYTES, h.checksum);
		rc = write_all(fd, piece, n * BLOOM_BLOCK_BYTES, path, err);
	}
	free(piece);
	if (rc != RC_OK)
		return rc;
	put_header(head, &h);
	if (lseek(fd, 0, SEEK_SET) != 0)
		return err_errno(err, errno, "save the filter", path);
	return write_all(fd, head, sizeof head, path, err);
}

static enum rc
sync_dir_of(const char *path, struct err *err)
{
	char dir[PATH_BYTES];

	snprintf(dir, sizeof dir, "%s", path);
	char *slash = strrchr(dir, '/');
	if (slash == NULL)
		snprintf(dir, sizeof dir, ".");
	else
		slash[slash == dir ? 1 : 0] = '\0';
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "save the filter", dir);
	enum rc rc = fsync(fd) == 0 ? RC_OK : err_errno(err, errno, "save the filter", dir);
	close(fd);
	return rc;
}

static bool
aside_of(const char *path, char out[PATH_BYTES])
{
	int n = snprintf(out, PATH_BYTES, "%s.new", path);

	return n > 0 && n < PATH_BYTES;
}

enum rc
filter_file_save(const char *path, const uint8_t id[DB_FILTER_ID_BYTES], const struct bloom *b,
	struct err *err)
{
	char aside[PATH_BYTES];

	if (!aside_of(path, aside))
		return err_set(err, RC_TOO_LARGE, NULL, "the path of the filter is too long");
	unlink(aside); /* what a save that was cut left */
	int fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "save the filter", aside);
	enum rc rc = write_filter(fd, id, b, aside, err);
	if (rc == RC_OK && fsync(fd) != 0)
		rc = err_errno(err, errno, "save the filter", aside);
	close(fd);
	if (rc == RC_OK && rename(aside, path) != 0)
		rc = err_errno(err, errno, "save the filter", path);
	if (rc != RC_OK) {
		unlink(aside);
		return rc;
	}
	return sync_dir_of(path, err);
}

/* *got < len only at the end of the file. */
static enum rc
read_all(int fd, uint8_t *data, size_t len, size_t *got, struct err *err)
{
	for (*got = 0; *got < len;) {
		ssize_t n = read(fd, data + *got, len - *got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "read the saved filter", NULL);
		if (n == 0)
			break;
		*got += (size_t)n;
	}
	return RC_OK;
}

static enum rc
read_blocks(int fd, const struct header *h, struct bloom *b, struct err *err)
{
	uint8_t *piece = malloc(PIECE_BYTES);
	uint64_t sum = 0;
	size_t got = 0;
	enum rc rc = RC_OK;

	if (piece == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	for (uint64_t at = 0; rc == RC_OK && at < h->blocks; at += PIECE_BLOCKS) {
		size_t n = h->blocks - at < PIECE_BLOCKS ? (size_t)(h->blocks - at) : PIECE_BLOCKS;
		rc = read_all(fd, piece, n * BLOOM_BLOCK_BYTES, &got, err);
		if (rc == RC_OK && got != n * BLOOM_BLOCK_BYTES)
			rc = damaged("too short", err);
		if (rc == RC_OK) {
			sum = checksum64_seeded(piece, got, sum);
			bloom_put_blocks(b, at, n, piece);
		}
	}
	if (rc == RC_OK && sum != h->checksum)
		rc = damaged("checksum", err);
	if (rc == RC_OK)
		rc = read_all(fd, piece, 1, &got, err);
	if (rc == RC_OK && got != 0)
		rc = damaged("too long", err);
	free(piece);
	return rc;
}

static enum rc
load(int fd, const uint8_t *id, size_t bytes_max, struct bloom **out, struct err *err)
{
	uint8_t head[HEADER_BYTES];
	struct header h;
	size_t got = 0;

	enum rc rc = read_all(fd, head, sizeof head, &got, err);
	if (rc == RC_OK && got != sizeof head)
		rc = damaged("too short", err);
	if (rc == RC_OK)
		rc = get_header(head, &h, err);
	if (rc != RC_OK)
		return rc;
	if (memcmp(h.id, id, sizeof h.id) != 0)
		return err_set(err, RC_NOT_FOUND, NULL, "the saved filter is of another run");
	if (h.blocks > bytes_max / BLOOM_BLOCK_BYTES)
		return damaged("above the limit", err);
	struct bloom *b = NULL;
	rc = bloom_open_blocks(h.blocks, h.expected, h.count, &b, err);
	if (rc == RC_OK)
		rc = read_blocks(fd, &h, b, err);
	if (rc == RC_OK) {
		*out = b;
		b = NULL; /* handed over */
	}
	bloom_free(b);
	return rc;
}

enum rc
filter_file_load(const char *path, const uint8_t id[DB_FILTER_ID_BYTES], size_t bytes_max,
	struct bloom **out, struct err *err)
{
	*out = NULL;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return err_set(err, RC_NOT_FOUND, NULL, "no filter was saved");
	if (fd < 0)
		return err_errno(err, errno, "read the saved filter", path);
	enum rc rc = load(fd, id, bytes_max, out, err);
	close(fd);
	return rc;
}

void
filter_file_remove(const char *path)
{
	char aside[PATH_BYTES];

	unlink(path);
	if (aside_of(path, aside))
		unlink(aside);
}
