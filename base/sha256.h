/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHA256_H
#define DG_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sha256: SHA-256 of memory, of many pieces of memory at once, and of a stream that survives a
 * restart.
 *
 * One SHA-NI stream waits for its own results half of the time, so sha256_many runs two messages
 * side by side and is nearly twice as fast; hand it as many pieces as there are. Without SHA-NI it
 * is OpenSSL, and should OpenSSL refuse (no memory), plain C: hashing never fails.
 * Threads: any, without setting anything up. Nothing here blocks. */

struct sha256 {
	uint8_t b[32];
};

/* The hash of no bytes at all. */
extern const struct sha256 sha256_empty;

/* data is borrowed for the call and may be NULL if len is 0. */
void sha256_of(const void *data, size_t len, struct sha256 *out);

/* data is borrowed for the call, out is filled; out may not lie inside any job's data. */
struct sha256_job {
	const uint8_t *data;
	size_t len;
	struct sha256 *out;
};

/* Hash all n jobs, of any mix of lengths. Best with similar lengths or many jobs: only the last
 * job can be left without a partner. */
void sha256_many(const struct sha256_job *jobs, size_t n);

/* A hash in progress; the caller's memory, nothing to free, may be copied.
 * Threads: one stream, one thread at a time. */
struct sha256_stream {
	uint32_t h[8];
	uint64_t bytes; /* seen so far */
	uint8_t block[64];
};

void sha256_stream_init(struct sha256_stream *s);
void sha256_stream_update(struct sha256_stream *s, const void *data, size_t len);
/* s itself is not changed: it may go on and be asked again. */
void sha256_stream_final(const struct sha256_stream *s, struct sha256 *out);

/* What a saved stream takes: "SHS1", u64 bytes, 8 x u32 state, 64 bytes of the unfinished block
 * (zero past its end); little-endian, the same on every machine. */
#define SHA256_STREAM_BYTES 108

void sha256_stream_save(const struct sha256_stream *s, uint8_t *out);
/* false if in holds no stream that sha256_stream_save could have written; s is then fresh. A
 * flipped bit in the state cannot be seen here: whoever keeps the bytes guards them. */
bool sha256_stream_load(struct sha256_stream *s, const uint8_t *in);

bool sha256_equal(const struct sha256 *a, const struct sha256 *b);
/* Negative, 0 or positive, in the order of memcmp. */
int sha256_cmp(const struct sha256 *a, const struct sha256 *b);

#define SHA256_HEX_BYTES 65
/* 64 lower-case digits and a NUL into out (SHA256_HEX_BYTES). */
void sha256_hex(const struct sha256 *h, char *out);
/* Exactly 64 digits of either case; false (out undefined) otherwise. */
bool sha256_parse(const char *hex, size_t len, struct sha256 *out);

enum sha256_backend {
	SHA256_AUTO, /* the best this CPU has */
	SHA256_SHANI,
	SHA256_OPENSSL,
	SHA256_PORTABLE,
};

/* "sha-ni x2", "openssl" or "portable"; a static string. */
const char *sha256_backend(void);
/* For tests and benchmarks. false, and nothing changed, if this CPU cannot. */
bool sha256_force_backend(enum sha256_backend which);

#endif
