/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes, field by field as doc/FORMAT.md has them, and decoders on what is not right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"
#include "checksum.h"
#include "pack_format.h"
#include "rand.h"

#define FRAME_CHUNKS     3
#define FRAME_HEAD_BYTES (PACK_FRAME_HEAD_BYTES + FRAME_CHUNKS * PACK_CHUNK_ENTRY_BYTES)
#define FRAME_STORED     100

static const struct pack_place place = {0x1122334455667788, 0x3000, 0};

static void
make_frame(uint8_t *out)
{
	struct pack_frame_head h = {CODEC_ZSTD, FRAME_CHUNKS, 1 + 2 + 300, FRAME_STORED, 0};
	struct pack_chunk c = {.length = 0};
	static const uint64_t lengths[FRAME_CHUNKS] = {1, 2, 300};

	memset(out + FRAME_HEAD_BYTES, 0x5a, FRAME_STORED);
	h.payload_checksum = checksum64(out + FRAME_HEAD_BYTES, FRAME_STORED);
	for (uint8_t i = 0; i < FRAME_CHUNKS; i++) {
		memset(c.hash.b, 0xc0 + i, sizeof c.hash.b);
		c.length = lengths[i];
		pack_chunk_encode(&c, out + PACK_FRAME_HEAD_BYTES + i * PACK_CHUNK_ENTRY_BYTES);
	}
	pack_frame_encode_head(&place, &h, out);
}

static void
test_header_bytes(void **state)
{
	struct pack_header h = {0x1122334455667788, "0123456789abcde", -5};
	struct pack_header back;
	uint8_t block[PACK_BLOCK_BYTES];

	(void)state;
	pack_header_encode(&h, block);
	assert_memory_equal(block, "DGSTPACK\x01\x00\x01\x01\x00\x10\x00\x00", 16);
	assert_memory_equal(block + 16, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
	assert_memory_equal(block + 24, "0123456789abcde\0", 16);
	assert_memory_equal(block + 40, "\xfb\xff\xff\xff\xff\xff\xff\xff", 8);
	for (size_t i = 48; i < PACK_BLOCK_BYTES - 8; i++)
		assert_int_equal(block[i], 0);
	assert_int_equal(get_u64(block + 4088), checksum64(block, 4088));
	assert_null(pack_header_decode(block, h.pack_id, &back));
	assert_int_equal(back.pack_id, h.pack_id);
	assert_int_equal(back.created_us, -5);
	assert_memory_equal(back.repo_uuid, h.repo_uuid, 16);
	assert_non_null(pack_header_decode(block, h.pack_id + 1, &back));
	for (size_t i = 0; i < PACK_BLOCK_BYTES; i++) {
		block[i] ^= 0x10;
		assert_non_null(pack_header_decode(block, h.pack_id, &back));
		block[i] ^= 0x10;
	}
}

/* What another version wrote is refused, not guessed at, though its checksum is right. */
static void
test_header_of_other_version(void **state)
{
	struct pack_header h = {.pack_id = 7};
	uint8_t block[PACK_BLOCK_BYTES];
	static const size_t fields[] = {8, 10, 11, 12, 48, 4087};

	(void)state;
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
		pack_header_encode(&h, block);
		block[fields[i]]++;
		put_u64(block + 4088, checksum64(block, 4088));
		assert_non_null(pack_header_decode(block, 7, &h));
	}
}

static void
test_frame_bytes(void **state)
{
	uint8_t data[FRAME_HEAD_BYTES + FRAME_STORED];
	uint8_t covered[64];
	struct pack_frame_view view;
	struct pack_chunk c;
	uint64_t bytes = 0;

	(void)state;
	make_frame(data);
	assert_memory_equal(data, "DGSF\x01\x01\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00", 16);
	assert_int_equal(get_u64(data + 16), 303);
	assert_int_equal(get_u64(data + 24), FRAME_STORED);
	assert_int_equal(get_u64(data + 32), checksum64(data + FRAME_HEAD_BYTES, FRAME_STORED));
	memcpy(covered, data, 40);
	put_u64(covered + 40, checksum64(data + 48, 3 * 40));
	put_u64(covered + 48, place.pack_id);
	put_u64(covered + 56, place.offset);
	assert_int_equal(get_u64(data + 40), checksum64(covered, 64));

	assert_true(pack_frame_peek(data, &bytes));
	assert_int_equal(bytes, 272); /* 48 + 120 + 100, rounded up */
	assert_null(pack_frame_decode_head(&place, data, FRAME_HEAD_BYTES, &view));
	assert_int_equal(view.place.bytes, 272);
	assert_int_equal(view.chunk_count, 3);
	assert_int_equal(view.codec, CODEC_ZSTD);
	assert_ptr_equal(view.stored, data + FRAME_HEAD_BYTES);
	assert_true(pack_frame_payload_ok(&view));
	pack_frame_chunk(&view, 2, &c);
	assert_int_equal(c.length, 300);
	assert_int_equal(c.hash.b[31], 0xc2);
}

static void
test_frame_flips(void **state)
{
	uint8_t data[FRAME_HEAD_BYTES + FRAME_STORED];
	struct pack_frame_view view;

	(void)state;
	make_frame(data);
	for (size_t i = 0; i < sizeof data * 8; i++) {
		data[i / 8] ^= (uint8_t)(1 << i % 8);
		bool right = pack_frame_decode_head(&place, data, sizeof data, &view) == NULL &&
			     pack_frame_payload_ok(&view);
		assert_false(right);
		data[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t len = 0; len < FRAME_HEAD_BYTES; len++) {
		/* a copy of exactly that size, so that a read past it is seen */
		uint8_t *part = malloc(len + 1);
		assert_non_null(part);
		memcpy(part, data, len);
		assert_non_null(pack_frame_decode_head(&place, part, len, &view));
		free(part);
	}
}

/* A frame is only right where it was written. */
static void
test_frame_elsewhere(void **state)
{
	uint8_t data[FRAME_HEAD_BYTES + FRAME_STORED];
	struct pack_frame_view view;
	struct pack_place other = place;

	(void)state;
	make_frame(data);
	other.offset += 16;
	assert_non_null(pack_frame_decode_head(&other, data, sizeof data, &view));
	other = place;
	other.pack_id++;
	assert_non_null(pack_frame_decode_head(&other, data, sizeof data, &view));
}

/* Headers whose checksum is right, but not what they say. */
static void
check_refused(const struct pack_frame_head *h, const uint64_t *lengths)
{
	uint8_t data[FRAME_HEAD_BYTES];
	struct pack_frame_view view;
	struct pack_chunk c = {.length = 0};

	memset(data, 0, sizeof data);
	for (uint32_t i = 0; i < FRAME_CHUNKS; i++) {
		c.length = lengths[i];
		pack_chunk_encode(&c, data + PACK_FRAME_HEAD_BYTES + i * PACK_CHUNK_ENTRY_BYTES);
	}
	uint32_t count = h->chunk_count;
	struct pack_frame_head sound = *h;
	sound.chunk_count = count <= FRAME_CHUNKS ? count : FRAME_CHUNKS;
	pack_frame_encode_head(&place, &sound, data);
	put_u32(data + 8, count);
	assert_non_null(pack_frame_decode_head(&place, data, sizeof data, &view));
}

static void
test_frame_contradictions(void **state)
{
	static const uint64_t lengths[] = {1, 2, 300}, empty[] = {3, 0, 300},
			      wraps[] = {UINT64_MAX, 4, 300};
	static const struct pack_frame_head heads[] = {
		{CODEC_RAW, 3, 303, 100, 0},
		{CODEC_ZSTD, 0, 303, 100, 0},
		{CODEC_ZSTD, 2, 303, 100, 0},
		{CODEC_ZSTD, 4, 303, 100, 0},
		{CODEC_ZSTD, PACK_FRAME_CHUNKS_MAX + 1, 303, 100, 0},
		{CODEC_ZSTD, UINT32_MAX, 303, 100, 0},
		{CODEC_ZSTD, 3, 302, 100, 0},
		{CODEC_ZSTD, 3, 304, 100, 0},
		{CODEC_ZSTD, 3, 303, 0, 0},
		{CODEC_ZSTD, 3, 303, UINT64_MAX, 0},
		{CODEC_ZSTD, 3, 303, PACK_FRAME_STORED_BYTES_MAX + 1, 0},
		{CODEC_ZSTD, 3, UINT64_MAX, 100, 0},
		{(enum codec_id)2, 3, 303, 100, 0},
	};
	struct pack_frame_head right = {CODEC_ZSTD, 3, 303, 100, 0};

	(void)state;
	for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
		check_refused(&heads[i], lengths);
	check_refused(&right, empty);
	check_refused(&right, wraps);
}

static void
test_footer_bytes(void **state)
{
	struct pack_footer_head h = {2, 9, 0x1122334455667788, 0x3000, "0123456789abcde"};
	struct pack_footer_head back;
	struct pack_footer_frame f = {4096, 1000, 500, 7, CODEC_ZSTD}, f_back;
	struct pack_place elsewhere = {place.pack_id, place.offset + 4096, 0};
	uint8_t data[PACK_FOOTER_HEAD_BYTES];

	(void)state;
	pack_footer_encode_head(&h, data);
	assert_memory_equal(data, "DGSI\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00", 16);
	assert_int_equal(get_u64(data + 16), 9);
	assert_int_equal(get_u64(data + 24), place.pack_id);
	assert_int_equal(get_u64(data + 32), 0x3000);
	assert_memory_equal(data + 40, "0123456789abcde\0", 16);
	assert_int_equal(get_u64(data + 56), checksum64(data, 56));
	assert_null(pack_footer_decode_head(data, &place, &back));
	assert_int_equal(back.frame_count, 2);
	assert_int_equal(back.chunk_count, 9);
	assert_non_null(pack_footer_decode_head(data, &elsewhere, &back));
	for (size_t i = 0; i < sizeof data; i++) {
		data[i] ^= 1;
		assert_non_null(pack_footer_decode_head(data, &place, &back));
		data[i] ^= 1;
	}
	h.chunk_count = UINT64_MAX / 2;
	pack_footer_encode_head(&h, data);
	assert_non_null(pack_footer_decode_head(data, &place, &back));

	pack_footer_encode_frame(&f, data);
	assert_int_equal(get_u64(data), 4096);
	assert_int_equal(get_u64(data + 8), 1000);
	assert_int_equal(get_u64(data + 16), 500);
	assert_int_equal(get_u32(data + 24), 7);
	assert_memory_equal(data + 28, "\x01\x00\x00\x00", 4);
	pack_footer_decode_frame(data, &f_back);
	assert_int_equal(f_back.chunk_count, 7);
	assert_int_equal(f_back.codec, CODEC_ZSTD);
}

static void
test_trailer_bytes(void **state)
{
	struct pack_trailer t = {7, 0x3000, 0x200, 0x1234}, back;
	uint8_t data[PACK_TRAILER_BYTES];

	(void)state;
	pack_trailer_encode(&t, data);
	assert_memory_equal(data, "DGSTFOOT\x01\x00\x00\x00\x00\x00\x00\x00", 16);
	assert_int_equal(get_u64(data + 16), 7);
	assert_int_equal(get_u64(data + 24), 0x3000);
	assert_int_equal(get_u64(data + 32), 0x200);
	assert_int_equal(get_u64(data + 40), 0x1234);
	assert_int_equal(get_u64(data + 48), 0);
	assert_int_equal(get_u64(data + 56), checksum64(data, 56));
	assert_null(pack_trailer_decode(data, 7, &back));
	assert_non_null(pack_trailer_decode(data, 8, &back));
	for (size_t i = 0; i < sizeof data; i++) {
		data[i] ^= 1;
		assert_true(pack_trailer_is_there(data));
		assert_non_null(pack_trailer_decode(data, 7, &back));
		data[i] ^= 1;
	}
	memset(data, 0, sizeof data);
	assert_false(pack_trailer_is_there(data));
}

static void
test_footer_of_other_version(void **state)
{
	struct pack_footer_head h = {2, 9, place.pack_id, place.offset, ""};
	struct pack_trailer t = {place.pack_id, place.offset, 64, 0};
	static const size_t head_fields[] = {4, 5, 7, 12}, trailer_fields[] = {8, 9, 10, 15, 48};
	uint8_t data[64];

	(void)state;
	for (size_t i = 0; i < sizeof head_fields / sizeof head_fields[0]; i++) {
		pack_footer_encode_head(&h, data);
		data[head_fields[i]]++;
		put_u64(data + 56, checksum64(data, 56));
		assert_non_null(pack_footer_decode_head(data, &place, &h));
	}
	for (size_t i = 0; i < sizeof trailer_fields / sizeof trailer_fields[0]; i++) {
		pack_trailer_encode(&t, data);
		data[trailer_fields[i]]++;
		put_u64(data + 56, checksum64(data, 56));
		assert_true(pack_trailer_is_there(data));
		assert_non_null(pack_trailer_decode(data, place.pack_id, &t));
	}
}

/* Noise with a true beginning, in a block of exactly the size given. */
static void
test_noise(void **state)
{
	struct pack_frame_view view;
	struct pack_footer_head h;
	uint64_t bytes = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		size_t len = 64 + rand_u64() % 200;
		uint8_t *data = malloc(len);
		assert_non_null(data);
		rand_bytes(data, len);
		memcpy(data, "DGSF\x01\x01\0\0\x02\0\0\0\0\0\0\0", 8 + rand_u64() % 9);
		if (pack_frame_peek(data, &bytes))
			assert_in_range(bytes, 1, PACK_FRAME_BYTES_MAX);
		assert_non_null(pack_frame_decode_head(&place, data, len, &view));
		memcpy(data, "DGSI\x01\0\0\0", 8);
		assert_non_null(pack_footer_decode_head(data, &place, &h));
		free(data);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_bytes),
		cmocka_unit_test(test_header_of_other_version),
		cmocka_unit_test(test_frame_bytes),
		cmocka_unit_test(test_frame_flips),
		cmocka_unit_test(test_frame_elsewhere),
		cmocka_unit_test(test_frame_contradictions),
		cmocka_unit_test(test_footer_bytes),
		cmocka_unit_test(test_trailer_bytes),
		cmocka_unit_test(test_footer_of_other_version),
		cmocka_unit_test(test_noise),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
