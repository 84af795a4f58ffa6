/* SPDX-License-Identifier: Apache-2.0 */
/* micro_bytes: what goes over every byte of an upload: received, cut, hashed, checked. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "checksum.h"
#include "chunker.h"
#include "codec.h"
#include "err.h"
#include "micro.h"
#include "slab.h"

/* What a connection's buffer hands over at a time. */
#define RECEIVE_BYTES ((size_t)32 << 10)
#define JOBS_MAX      64

struct bytes {
	const uint8_t *data; /* MICRO_HOT_BYTES */
	struct slab_pool *pool;
	struct chunker chunker;
	int sockets[2];
	uint8_t *buffer;
	uint64_t sink; /* whatever a stage found, so that it is not optimised away */
};

static uint64_t
pass_receive_copy(void *state)
{
	struct bytes *b = state;
	struct slab *slab = slab_take(b->pool, SLAB_LARGE_BYTES, SLAB_LARGE_BYTES, NULL);

	micro_must(slab != NULL, "no slab");
	for (size_t at = 0; at < MICRO_HOT_BYTES; at += RECEIVE_BYTES)
		memcpy(slab->data + at, b->data + at, RECEIVE_BYTES);
	__asm__ volatile("" : : "r"(slab->data) : "memory");
	slab_give(b->pool, slab);
	return MICRO_HOT_BYTES;
}

/* Both ends of it: a server has the client on its machine only here. */
static uint64_t
pass_loopback(void *state)
{
	struct bytes *b = state;

	for (size_t at = 0; at < MICRO_HOT_BYTES; at += RECEIVE_BYTES) {
		size_t got = 0;

		micro_must(send(b->sockets[0], b->data + at, RECEIVE_BYTES, 0) ==
				   (ssize_t)RECEIVE_BYTES,
			"cannot send");
		while (got < RECEIVE_BYTES) {
			ssize_t n = recv(b->sockets[1], b->buffer + got, RECEIVE_BYTES - got, 0);

			micro_must(n > 0, "cannot receive");
			got += (size_t)n;
		}
	}
	return MICRO_HOT_BYTES;
}

static uint64_t
pass_checksum(void *state)
{
	struct bytes *b = state;

	for (size_t at = 0; at < MICRO_HOT_BYTES; at += MICRO_PIECE_BYTES)
		b->sink += checksum64(b->data + at, MICRO_PIECE_BYTES);
	return MICRO_HOT_BYTES;
}

static uint64_t
pass_probe(void *state)
{
	struct bytes *b = state;

	for (size_t at = 0; at < MICRO_HOT_BYTES; at += MICRO_FRAME_BYTES)
		b->sink += codec_probe_compressible(b->data + at, MICRO_FRAME_BYTES);
	return MICRO_HOT_BYTES;
}

static uint64_t
pass_chunker(void *state)
{
	struct bytes *b = state;

	for (size_t at = 0; at < MICRO_HOT_BYTES;)
		at += chunker_cut(&b->chunker, b->data + at, MICRO_HOT_BYTES - at);
	return MICRO_HOT_BYTES;
}

static uint64_t
pass_sha256_one(void *state)
{
	struct bytes *b = state;
	struct sha256 hash;

	for (size_t at = 0; at < MICRO_HOT_BYTES; at += MICRO_PIECE_BYTES) {
		sha256_of(b->data + at, MICRO_PIECE_BYTES, &hash);
		b->sink += hash.b[0];
	}
	return MICRO_HOT_BYTES;
}

static uint64_t
pass_sha256_stream(void *state)
{
	struct bytes *b = state;
	struct sha256_stream stream;
	struct sha256 hash;

	sha256_stream_init(&stream);
	for (size_t at = 0; at < MICRO_HOT_BYTES; at += RECEIVE_BYTES)
		sha256_stream_update(&stream, b->data + at, RECEIVE_BYTES);
	sha256_stream_final(&stream, &hash);
	b->sink += hash.b[0];
	return MICRO_HOT_BYTES;
}

/* As a worker does it: pieces cut by content, so of mixed lengths. */
static uint64_t
pass_sha256_many(void *state)
{
	struct bytes *b = state;
	struct sha256_job jobs[JOBS_MAX];
	struct sha256 hashes[JOBS_MAX];
	size_t n = 0;

	for (size_t at = 0; at < MICRO_HOT_BYTES; n++) {
		size_t len = b->chunker.min + n * 4999 % (b->chunker.max - b->chunker.min);

		len = len < MICRO_HOT_BYTES - at ? len : MICRO_HOT_BYTES - at;
		jobs[n] = (struct sha256_job){b->data + at, len, &hashes[n]};
		at += len;
	}
	sha256_many(jobs, n);
	b->sink += hashes[0].b[0];
	return MICRO_HOT_BYTES;
}

static void
loopback_open(struct bytes *b)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	b->sockets[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	micro_must(listener >= 0 && b->sockets[0] >= 0 &&
			   bind(listener, (struct sockaddr *)&address, len) == 0 &&
			   listen(listener, 1) == 0 &&
			   getsockname(listener, (struct sockaddr *)&address, &len) == 0 &&
			   connect(b->sockets[0], (struct sockaddr *)&address, len) == 0,
		"no connection on the loopback");
	b->sockets[1] = accept(listener, NULL, NULL);
	micro_must(b->sockets[1] >= 0, "cannot accept");
	close(listener);
}

static void
bytes_init(struct bytes *b, const struct micro *m)
{
	struct err err = ERR_INIT;

	memset(b, 0, sizeof *b);
	b->data = micro_input_at(m, 0)->data;
	micro_must(chunker_init(&b->chunker, CHUNKER_TARGET_DEFAULT, &err) == RC_OK, err.text);
}

void
micro_copies(struct micro *m)
{
	struct err err = ERR_INIT;
	struct bytes b;

	bytes_init(&b, m);
	micro_must(slab_pool_open(4 * SLAB_LARGE_BYTES, &b.pool, &err) == RC_OK, err.text);
	b.buffer = micro_alloc(1, RECEIVE_BYTES);
	loopback_open(&b);
	micro_stage(m, "receive copy", "byte", 0, pass_receive_copy, &b, NULL);
	micro_stage(m, "loopback, both ends", "byte", 0, pass_loopback, &b, NULL);
	micro_stage(m, "xxh3", "byte", 0, pass_checksum, &b, NULL);
	for (size_t i = 0; micro_input_at(m, i) != NULL; i++) {
		char name[64];

		b.data = micro_input_at(m, i)->data;
		snprintf(name, sizeof name, "probe, %s", micro_input_at(m, i)->name);
		micro_stage(m, name, "byte", 0, pass_probe, &b, NULL);
	}
	close(b.sockets[0]);
	close(b.sockets[1]);
	free(b.buffer);
	slab_pool_free(b.pool);
}

/* Cutting looks at two thirds of the bytes at most: the rest is never scanned. */
static double
scanned_share(const struct bytes *b)
{
	size_t scanned = 0;

	for (size_t at = 0; at < MICRO_HOT_BYTES;) {
		size_t left = MICRO_HOT_BYTES - at;

		if (left > b->chunker.min)
			scanned += (left < b->chunker.max ? left : b->chunker.max) - b->chunker.min;
		at += chunker_cut(&b->chunker, b->data + at, left);
	}
	return (double)scanned / (double)MICRO_HOT_BYTES;
}

void
micro_cuts(struct micro *m)
{
	static const enum chunker_backend all[] = {
		CHUNKER_SCALAR, CHUNKER_SSE41, CHUNKER_AVX2, CHUNKER_NEON};
	struct micro_rate rate;
	struct bytes b;
	char name[64];

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		if (!chunker_force_backend(all[i]))
			continue;
		bytes_init(&b, m);
		snprintf(name, sizeof name, "chunker %s", chunker_backend());
		if (!micro_stage(m, name, "byte", 0, pass_chunker, &b, &rate))
			continue;
		rate.ns /= scanned_share(&b);
		rate.cpu_ns /= scanned_share(&b);
		rate.ticks /= scanned_share(&b);
		snprintf(name, sizeof name, "chunker %s, of the bytes scanned", chunker_backend());
		micro_report(m, name, "byte", 0, rate);
	}
	chunker_force_backend(CHUNKER_AUTO);
}

void
micro_hashes(struct micro *m)
{
	static const enum sha256_backend all[] = {SHA256_OPENSSL, SHA256_SHANI, SHA256_PORTABLE};
	struct bytes b;
	char name[64];

	bytes_init(&b, m);
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		if (!sha256_force_backend(all[i]))
			continue;
		snprintf(name, sizeof name, "sha256 %s, one", sha256_backend());
		micro_stage(m, name, "byte", 0, pass_sha256_one, &b, NULL);
		snprintf(name, sizeof name, "sha256 %s, many", sha256_backend());
		micro_stage(m, name, "byte", 0, pass_sha256_many, &b, NULL);
	}
	sha256_force_backend(SHA256_AUTO);
	micro_stage(m, "sha256 of a stream", "byte", 0, pass_sha256_stream, &b, NULL);
}
