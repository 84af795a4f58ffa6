/* SPDX-License-Identifier: Apache-2.0 */
#include "sha256.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "buf.h"
#include "hex.h"
#include "sha256_kernel.h"

#define BLOCK_BYTES    64
#define STREAM_MAGIC   0x31534853u /* "SHS1" */
#define STREAM_AT_SIZE 4
#define STREAM_AT_H    12
#define STREAM_AT_TAIL 44

const struct sha256 sha256_empty = {{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb,
	0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4,
	0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}};

static const uint32_t initial_state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static atomic_int chosen = SHA256_AUTO;

/* Two threads may both find out; they find the same. */
static enum sha256_backend
backend(void)
{
	int now = atomic_load_explicit(&chosen, memory_order_relaxed);

	if (now == SHA256_AUTO) {
		now = sha256_has_shani() ? SHA256_SHANI : SHA256_OPENSSL;
		atomic_store_explicit(&chosen, now, memory_order_relaxed);
	}
	return (enum sha256_backend)now;
}

bool
sha256_force_backend(enum sha256_backend which)
{
	if (which == SHA256_SHANI && !sha256_has_shani())
		return false;
	atomic_store_explicit(&chosen, (int)which, memory_order_relaxed);
	return true;
}

const char *
sha256_backend(void)
{
	switch (backend()) {
	case SHA256_AUTO:
	case SHA256_SHANI:
		return "sha-ni x2";
	case SHA256_OPENSSL:
		return "openssl";
	case SHA256_PORTABLE:
		return "portable";
	}
	return "?";
}

/* OpenSSL's hash for SHA256_OPENSSL only works on whole messages, and where it is chosen the CPU
 * has no SHA-NI: our own block function is then the portable one. */
static void
own_blocks(uint32_t h[8], const uint8_t *p, size_t blocks)
{
	if (blocks == 0)
		return;
	if (backend() == SHA256_SHANI)
		sha256_blocks_shani(h, p, blocks);
	else
		sha256_blocks_portable(h, p, blocks);
}

/* The last bytes of a message, the padding and the length in bits; returns blocks, 1 or 2. */
static size_t
pad(uint8_t tail[2 * BLOCK_BYTES], const uint8_t *rest, size_t rest_len, uint64_t total_bytes)
{
	size_t blocks = rest_len + 9 <= BLOCK_BYTES ? 1 : 2;
	uint64_t bits = total_bytes * 8;

	memset(tail, 0, blocks * BLOCK_BYTES);
	if (rest_len > 0)
		memcpy(tail, rest, rest_len);
	tail[rest_len] = 0x80;
	for (size_t i = 1; i <= 8; i++, bits >>= 8)
		tail[blocks * BLOCK_BYTES - i] = (uint8_t)bits;
	return blocks;
}

static void
write_digest(const uint32_t h[8], struct sha256 *out)
{
	for (size_t i = 0; i < 8; i++) {
		out->b[4 * i] = (uint8_t)(h[i] >> 24);
		out->b[4 * i + 1] = (uint8_t)(h[i] >> 16);
		out->b[4 * i + 2] = (uint8_t)(h[i] >> 8);
		out->b[4 * i + 3] = (uint8_t)h[i];
	}
}

static void
own_of(const uint8_t *data, size_t len, struct sha256 *out)
{
	uint32_t h[8];
	uint8_t tail[2 * BLOCK_BYTES];
	size_t rest = len % BLOCK_BYTES;

	memcpy(h, initial_state, sizeof h);
	own_blocks(h, data, len / BLOCK_BYTES);
	size_t blocks = pad(tail, rest ? data + (len - rest) : NULL, rest, len);
	own_blocks(h, tail, blocks);
	write_digest(h, out);
}

/* EVP_sha256() would look the algorithm up again at every init (200 ns); so fetch it once, and keep
 * one context a thread. */
static pthread_once_t evp_once = PTHREAD_ONCE_INIT;
static pthread_key_t evp_key;
static EVP_MD *evp_md;

static void
free_ctx(void *ctx)
{
	EVP_MD_CTX_free(ctx);
}

static void
evp_setup(void)
{
	if (pthread_key_create(&evp_key, free_ctx) == 0)
		evp_md = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static EVP_MD_CTX *
evp_ctx(void)
{
	pthread_once(&evp_once, evp_setup);
	if (evp_md == NULL)
		return NULL;
	EVP_MD_CTX *ctx = pthread_getspecific(evp_key);
	if (ctx != NULL)
		return ctx;
	ctx = EVP_MD_CTX_new();
	if (ctx != NULL && pthread_setspecific(evp_key, ctx) != 0) {
		EVP_MD_CTX_free(ctx);
		ctx = NULL;
	}
	return ctx;
}

static bool
evp_of(const void *data, size_t len, struct sha256 *out)
{
	EVP_MD_CTX *ctx = evp_ctx();

	return ctx != NULL && EVP_DigestInit_ex2(ctx, evp_md, NULL) == 1 &&
	       (len == 0 || EVP_DigestUpdate(ctx, data, len) == 1) &&
	       EVP_DigestFinal_ex(ctx, out->b, NULL) == 1;
}

void
sha256_of(const void *data, size_t len, struct sha256 *out)
{
	if (backend() == SHA256_OPENSSL && evp_of(data, len, out))
		return;
	own_of(data, len, out);
}

/* One of the two messages under way in sha256_many: its whole blocks, then its padded tail. */
struct lane {
	const uint8_t *p;
	size_t blocks;      /* left of this part; 0: the lane is free */
	size_t tail_blocks; /* of the part still to come; 0: this is the tail */
	struct sha256 *out;
	uint32_t h[8];
	uint8_t tail[2 * BLOCK_BYTES];
};

static void
lane_next_part(struct lane *l)
{
	l->p = l->tail;
	l->blocks = l->tail_blocks;
	l->tail_blocks = 0;
}

static void
lane_start(struct lane *l, const struct sha256_job *job)
{
	size_t rest = job->len % BLOCK_BYTES;

	memcpy(l->h, initial_state, sizeof l->h);
	l->out = job->out;
	l->p = job->data;
	l->blocks = job->len / BLOCK_BYTES;
	l->tail_blocks = pad(l->tail, rest ? job->data + (job->len - rest) : NULL, rest, job->len);
	if (l->blocks == 0)
		lane_next_part(l);
}

static void
lane_done(struct lane *l, size_t blocks)
{
	l->p += blocks * BLOCK_BYTES;
	l->blocks -= blocks;
	if (l->blocks > 0)
		return;
	if (l->tail_blocks > 0)
		lane_next_part(l);
	else
		write_digest(l->h, l->out);
}

static void
many_shani(const struct sha256_job *jobs, size_t n)
{
	struct lane a = {.blocks = 0};
	struct lane b = {.blocks = 0};

	for (size_t next = 0;;) {
		if (a.blocks == 0 && next < n)
			lane_start(&a, &jobs[next++]);
		if (b.blocks == 0 && next < n)
			lane_start(&b, &jobs[next++]);
		if (a.blocks == 0 || b.blocks == 0)
			break;
		size_t both = a.blocks < b.blocks ? a.blocks : b.blocks;
		sha256_blocks_shani_x2(a.h, a.p, b.h, b.p, both);
		lane_done(&a, both);
		lane_done(&b, both);
	}
	struct lane *last = a.blocks > 0 ? &a : &b;
	while (last->blocks > 0) {
		size_t blocks = last->blocks;
		sha256_blocks_shani(last->h, last->p, blocks);
		lane_done(last, blocks);
	}
}

void
sha256_many(const struct sha256_job *jobs, size_t n)
{
	if (backend() == SHA256_SHANI) {
		many_shani(jobs, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		sha256_of(jobs[i].data, jobs[i].len, jobs[i].out);
}

void
sha256_stream_init(struct sha256_stream *s)
{
	*s = (struct sha256_stream){.bytes = 0};
	memcpy(s->h, initial_state, sizeof s->h);
}

void
sha256_stream_update(struct sha256_stream *s, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t held = s->bytes % BLOCK_BYTES;

	if (len == 0)
		return;
	s->bytes += len;
	if (held > 0) {
		size_t take = len < BLOCK_BYTES - held ? len : BLOCK_BYTES - held;
		memcpy(s->block + held, p, take);
		if (held + take < BLOCK_BYTES)
			return;
		own_blocks(s->h, s->block, 1);
		p += take;
		len -= take;
	}
	own_blocks(s->h, p, len / BLOCK_BYTES);
	memcpy(s->block, p + (len - len % BLOCK_BYTES), len % BLOCK_BYTES);
}

void
sha256_stream_final(const struct sha256_stream *s, struct sha256 *out)
{
	uint32_t h[8];
	uint8_t tail[2 * BLOCK_BYTES];

	memcpy(h, s->h, sizeof h);
	size_t blocks = pad(tail, s->block, s->bytes % BLOCK_BYTES, s->bytes);
	own_blocks(h, tail, blocks);
	write_digest(h, out);
}

void
sha256_stream_save(const struct sha256_stream *s, uint8_t *out)
{
	size_t held = s->bytes % BLOCK_BYTES;

	put_u32(out, STREAM_MAGIC);
	put_u64(out + STREAM_AT_SIZE, s->bytes);
	for (size_t i = 0; i < 8; i++)
		put_u32(out + STREAM_AT_H + 4 * i, s->h[i]);
	memset(out + STREAM_AT_TAIL, 0, BLOCK_BYTES);
	memcpy(out + STREAM_AT_TAIL, s->block, held);
}

bool
sha256_stream_load(struct sha256_stream *s, const uint8_t *in)
{
	uint64_t bytes = get_u64(in + STREAM_AT_SIZE);
	size_t held = bytes % BLOCK_BYTES;

	sha256_stream_init(s);
	if (get_u32(in) != STREAM_MAGIC || bytes > UINT64_MAX / 8)
		return false;
	for (size_t i = held; i < BLOCK_BYTES; i++)
		if (in[STREAM_AT_TAIL + i] != 0)
			return false;
	for (size_t i = 0; i < 8; i++) {
		uint32_t word = get_u32(in + STREAM_AT_H + 4 * i);
		if (bytes < BLOCK_BYTES && word != initial_state[i]) {
			sha256_stream_init(s);
			return false;
		}
		s->h[i] = word;
	}
	s->bytes = bytes;
	memcpy(s->block, in + STREAM_AT_TAIL, held);
	return true;
}

bool
sha256_equal(const struct sha256 *a, const struct sha256 *b)
{
	return memcmp(a->b, b->b, sizeof a->b) == 0;
}

int
sha256_cmp(const struct sha256 *a, const struct sha256 *b)
{
	return memcmp(a->b, b->b, sizeof a->b);
}

void
sha256_hex(const struct sha256 *h, char *out)
{
	hex_encode(h->b, sizeof h->b, out);
}

bool
sha256_parse(const char *hex, size_t len, struct sha256 *out)
{
	return hex_decode(hex, len, out->b, sizeof out->b);
}
