/* SPDX-License-Identifier: Apache-2.0 */
/* micro: how fast the stages of the ingest path are by themselves, one thread, in cache.
 *
 *   micro [--seconds S] [--file F] [--json]
 *
 * Each row runs for about S seconds (0.5) in several rounds and shows the median. The input is
 * F's first 16 MiB, or synthetic text. Cycles are those of the time stamp counter, which on
 * machines that change their clock are not core cycles; where there is none, nanoseconds. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checksum.h"
#include "chunker.h"
#include "clock.h"
#include "codec.h"
#include "err.h"
#include "sha256.h"

#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#define TICK_NAME "cycles/byte"
#else
#define TICK_NAME "ns/byte"
#endif

#define INPUT_MAX   (16u << 20)
#define INPUT_MIN   (256u << 10)
#define HOT_BYTES   (1u << 20) /* working set of the fast stages */
#define PIECE_BYTES (64u << 10)
#define FRAME_BYTES (256u << 10)
#define ROUNDS      9
#define PIECES_MAX  (HOT_BYTES / PIECE_BYTES)

struct input {
	uint8_t *data;
	size_t len; /* multiple of FRAME_BYTES */
	size_t hot; /* the first part of it */
	uint8_t *out;
	size_t out_len;
	struct codec *codec;
	struct chunker chunker;
	int level;
	size_t result; /* whatever the stage found, so that it is not optimised away */
};

/* Runs once over its part of the input and returns how many bytes that were. */
typedef size_t stage_fn(struct input *in);

struct rate {
	double gb_s;
	double per_byte;
};

static uint64_t
ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __rdtsc();
#else
	return clock_mono_ns();
#endif
}

static int
by_speed(const void *a, const void *b)
{
	const struct rate *x = a;
	const struct rate *y = b;

	return (x->gb_s > y->gb_s) - (x->gb_s < y->gb_s);
}

static struct rate
measure(stage_fn *stage, struct input *in, double seconds)
{
	struct rate rates[ROUNDS];
	uint64_t round_ns = (uint64_t)(seconds * 1e9 / ROUNDS);

	stage(in);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t bytes = 0;
		uint64_t ns;
		uint64_t start_ns = clock_mono_ns();
		uint64_t start_ticks = ticks();
		do {
			bytes += stage(in);
			ns = clock_mono_ns() - start_ns;
		} while (ns < round_ns);
		rates[i].per_byte = (double)(ticks() - start_ticks) / (double)bytes;
		rates[i].gb_s = (double)bytes / (double)ns;
	}
	qsort(rates, ROUNDS, sizeof rates[0], by_speed);
	return rates[ROUNDS / 2];
}

static size_t
run_memcpy(struct input *in)
{
	memcpy(in->out, in->data, in->hot);
	__asm__ volatile("" : : "r"(in->out) : "memory");
	return in->hot;
}

static size_t
run_checksum(struct input *in)
{
	for (size_t at = 0; at < in->hot; at += PIECE_BYTES)
		in->result += checksum64(in->data + at, PIECE_BYTES);
	return in->hot;
}

static size_t
run_chunker(struct input *in)
{
	for (size_t at = 0; at < in->hot;)
		at += chunker_cut(&in->chunker, in->data + at, in->hot - at);
	return in->hot;
}

static size_t
run_probe(struct input *in)
{
	for (size_t at = 0; at < in->hot; at += PIECE_BYTES)
		in->result += codec_probe_compressible(in->data + at, PIECE_BYTES);
	return in->hot;
}

static size_t
run_sha256_one(struct input *in)
{
	struct sha256 h;

	for (size_t at = 0; at < in->hot; at += PIECE_BYTES) {
		sha256_of(in->data + at, PIECE_BYTES, &h);
		in->result += h.b[0];
	}
	return in->hot;
}

/* As a worker does it: pieces cut by content, so of mixed lengths. */
static size_t
run_sha256_many(struct input *in)
{
	struct sha256_job jobs[2 * PIECES_MAX];
	struct sha256 hashes[2 * PIECES_MAX];
	size_t n = 0;

	for (size_t at = 0; at < in->hot; n++) {
		size_t len = in->chunker.min + n * 4999 % (in->chunker.max - in->chunker.min);
		len = len < in->hot - at ? len : in->hot - at;
		jobs[n] = (struct sha256_job){in->data + at, len, &hashes[n]};
		at += len;
	}
	sha256_many(jobs, n);
	in->result += hashes[0].b[0];
	return in->hot;
}

static size_t
run_compress(struct input *in)
{
	in->result = 0;
	for (size_t at = 0; at < in->len; at += FRAME_BYTES) {
		size_t n = codec_compress(
			in->codec, in->level, in->data + at, FRAME_BYTES, in->out, in->out_len);
		in->result += n > 0 ? n : FRAME_BYTES;
	}
	return in->len;
}

/* The first frame over and over. */
static size_t
run_expand(struct input *in)
{
	struct err err = ERR_INIT;
	uint8_t *packed = in->out + FRAME_BYTES;

	if (in->result == 0)
		in->result = codec_compress(in->codec, in->level, in->data, FRAME_BYTES, packed,
			in->out_len - FRAME_BYTES);
	if (in->result > 0)
		codec_expand(in->codec, CODEC_ZSTD, packed, in->result, in->out, FRAME_BYTES, &err);
	return FRAME_BYTES;
}

struct report {
	bool json;
	bool first;
	double seconds;
};

static void
row(struct report *r, const char *name, struct rate rate, double ratio)
{
	if (r->json) {
		printf("%s\n  {\"stage\": \"%s\", \"gb_per_s\": %.3f, \"%s\": %.4f",
			r->first ? "[" : ",", name, rate.gb_s, TICK_NAME, rate.per_byte);
		if (ratio > 0)
			printf(", \"ratio\": %.3f", ratio);
		printf("}");
	} else {
		if (r->first)
			printf("%-28s %10s %14s %8s\n", "stage", "GB/s", TICK_NAME, "ratio");
		printf("%-28s %10.2f %14.3f", name, rate.gb_s, rate.per_byte);
		if (ratio > 0)
			printf(" %8.2f", ratio);
		printf("\n");
	}
	r->first = false;
	fflush(stdout);
}

/* Cutting looks at two thirds of the bytes at most: the rest is never scanned. */
static double
scanned_share(const struct input *in)
{
	size_t scanned = 0;

	for (size_t at = 0; at < in->hot;) {
		size_t left = in->hot - at;
		if (left > in->chunker.min)
			scanned +=
				(left < in->chunker.max ? left : in->chunker.max) - in->chunker.min;
		at += chunker_cut(&in->chunker, in->data + at, left);
	}
	return (double)scanned / (double)in->hot;
}

static void
report_chunkers(struct report *r, struct input *in)
{
	static const enum chunker_backend all[] = {
		CHUNKER_SCALAR, CHUNKER_SSE41, CHUNKER_AVX2, CHUNKER_NEON};
	struct err err = ERR_INIT;
	char name[64];

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		if (!chunker_force_backend(all[i]) ||
			chunker_init(&in->chunker, CHUNKER_TARGET_DEFAULT, &err) != RC_OK)
			continue;
		struct rate rate = measure(run_chunker, in, r->seconds);
		snprintf(name, sizeof name, "chunker %s", chunker_backend());
		row(r, name, rate, 0);
		rate.gb_s *= scanned_share(in);
		rate.per_byte /= scanned_share(in);
		snprintf(name, sizeof name, "chunker %s, scanned", chunker_backend());
		row(r, name, rate, 0);
	}
	chunker_force_backend(CHUNKER_AUTO);
	chunker_init(&in->chunker, CHUNKER_TARGET_DEFAULT, &err);
}

static void
report_sha256(struct report *r, struct input *in)
{
	static const enum sha256_backend all[] = {SHA256_SHANI, SHA256_OPENSSL, SHA256_PORTABLE};
	char name[64];

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		if (!sha256_force_backend(all[i]))
			continue;
		snprintf(name, sizeof name, "sha256 one, %s", sha256_backend());
		row(r, name, measure(run_sha256_one, in, r->seconds), 0);
		snprintf(name, sizeof name, "sha256 many, %s", sha256_backend());
		row(r, name, measure(run_sha256_many, in, r->seconds), 0);
	}
	sha256_force_backend(SHA256_AUTO);
}

static void
report_codec(struct report *r, struct input *in)
{
	static const int levels[] = {-5, -1, 1, 3};
	char name[64];

	row(r, "probe", measure(run_probe, in, r->seconds), 0);
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
		in->level = levels[i];
		struct rate rate = measure(run_compress, in, r->seconds);
		snprintf(name, sizeof name, "zstd %d", levels[i]);
		row(r, name, rate, (double)in->len / (double)in->result);
	}
	in->result = 0;
	in->level = 1;
	row(r, "zstd 1, expand", measure(run_expand, in, r->seconds), 0);
}

/* Words of very different frequency, as sources and logs have them. */
static void
write_text(uint8_t *p, size_t len)
{
	uint64_t x = 88172645463325252u;
	char word[32];

	for (size_t i = 0; i < len;) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		unsigned rank = (unsigned)(x >> 40 & 4095) * (unsigned)(x >> 20 & 4095) >> 12;
		int n = snprintf(word, sizeof word, "%s%x%c", rank % 3 ? "item" : "the_",
			rank * 2654435761u >> (rank % 16), rank % 11 ? ' ' : '\n');
		for (int k = 0; k < n && i < len; k++)
			p[i++] = (uint8_t)word[k];
	}
}

/* Up to INPUT_MAX bytes of path, repeated until there are INPUT_MIN. 0 if that failed. */
static size_t
read_file(const char *path, uint8_t *p)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	while (fd >= 0 && len < INPUT_MAX) {
		ssize_t n = read(fd, p + len, INPUT_MAX - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (fd >= 0)
		close(fd);
	for (size_t i = len; len > 0 && i < INPUT_MIN; i++)
		p[i] = p[i - len];
	return len == 0 || len > INPUT_MIN ? len : INPUT_MIN;
}

static bool
open_input(struct input *in, const char *path)
{
	struct err err = ERR_INIT;
	size_t len = INPUT_MAX;

	in->data = malloc(INPUT_MAX);
	in->out_len = HOT_BYTES + codec_bound(FRAME_BYTES);
	in->out = malloc(in->out_len);
	if (in->data == NULL || in->out == NULL || codec_open(&in->codec, &err) != RC_OK) {
		fprintf(stderr, "micro: out of memory\n");
		return false;
	}
	if (path != NULL)
		len = read_file(path, in->data);
	else
		write_text(in->data, len);
	if (len == 0)
		fprintf(stderr, "micro: cannot read %s, or it is empty\n", path);
	memset(in->out, 0, in->out_len);
	in->len = len / FRAME_BYTES * FRAME_BYTES;
	in->hot = in->len < HOT_BYTES ? in->len : HOT_BYTES;
	return len > 0;
}

static bool
parse_args(int argc, char **argv, struct report *r, const char **path)
{
	static const struct option options[] = {
		{"seconds", required_argument, NULL, 's'},
		{"file", required_argument, NULL, 'f'},
		{"json", no_argument, NULL, 'j'},
		{NULL, 0, NULL, 0},
	};
	char *end = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			r->seconds = strtod(optarg, &end);
			if (*end != '\0' || !(r->seconds > 0 && r->seconds <= 3600))
				return false;
			break;
		case 'f':
			*path = optarg;
			break;
		case 'j':
			r->json = true;
			break;
		default:
			return false;
		}
	}
	return optind == argc;
}

int
main(int argc, char **argv)
{
	struct report r = {.first = true, .seconds = 0.5};
	struct input in = {.data = NULL};
	const char *path = NULL;

	if (!parse_args(argc, argv, &r, &path)) {
		fprintf(stderr, "usage: micro [--seconds S] [--file F] [--json]\n");
		return 2;
	}
	bool ready = open_input(&in, path);
	if (ready) {
		row(&r, "memcpy", measure(run_memcpy, &in, r.seconds), 0);
		row(&r, "checksum64", measure(run_checksum, &in, r.seconds), 0);
		report_chunkers(&r, &in);
		report_sha256(&r, &in);
		report_codec(&r, &in);
		if (r.json)
			printf("\n]\n");
	}
	codec_free(in.codec);
	free(in.out);
	free(in.data);
	return ready ? 0 : 1;
}
