/* SPDX-License-Identifier: Apache-2.0 */
#include "micro_input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
micro_must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "micro: %s\n", what);
	exit(1);
}

void *
micro_alloc(size_t count, size_t bytes)
{
	void *p = calloc(count, bytes);

	micro_must(p != NULL, "out of memory");
	return p;
}

uint64_t
micro_scatter(uint64_t i)
{
	uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void
micro_hash(uint64_t i, struct sha256 *out)
{
	for (size_t k = 0; k < 4; k++) {
		uint64_t word = micro_scatter(4 * i + k);

		memcpy(out->b + 8 * k, &word, 8);
	}
}

size_t
micro_path(uint64_t i, char *out)
{
	static const char *const words[] = {"core", "driver", "include", "net", "sound", "test"};
	const char *word = words[micro_scatter(i / 10000) % 6];

	/* The numbers lead, so that paths ascend with i. */
	return (size_t)snprintf(out, MICRO_PATH_BYTES, "%03u-%s/%02u/%03u-%s_%x.c",
		(unsigned)(i / 10000 % 1000), word, (unsigned)(i / 100 % 100), (unsigned)(i % 100),
		word, (unsigned)(micro_scatter(i) & 0xfff));
}

/* Words of very different frequency, as sources and logs have them. */
static void
write_text(uint8_t *p, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	size_t at = 0;

	for (uint64_t n = 0; at < len; n++) {
		uint64_t x = micro_scatter(n);
		unsigned rank = (unsigned)(x >> 40 & 4095) * (unsigned)(x >> 20 & 4095) >> 12;
		unsigned letters = rank * 2654435761u >> (rank % 16);
		char word[16];
		size_t bytes = 4;

		memcpy(word, rank % 3 ? "item" : "the_", bytes);
		for (; letters != 0; letters >>= 4)
			word[bytes++] = digits[letters & 15];
		word[bytes++] = rank % 11 ? ' ' : '\n';
		bytes = bytes < len - at ? bytes : len - at;
		memcpy(p + at, word, bytes);
		at += bytes;
	}
}

/* Records of small numbers that change slowly, and a few that do not, as tables and programs have.
 */
static void
write_records(uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 16 <= len; i += 16) {
		uint64_t x = micro_scatter(i);
		uint32_t record[4] = {(uint32_t)(i >> 4), (uint32_t)(x & 0xff),
			0x00400000u + (uint32_t)(x >> 8 & 0xfff), (uint32_t)(x >> 32 & 3)};

		memcpy(p + i, record, sizeof record);
	}
}

static void
write_random(uint8_t *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i + 8 <= len; i += 8) {
		uint64_t x = micro_scatter(seed + i);

		memcpy(p + i, &x, 8);
	}
}

/* Chunks of text and chunks of noise in turn, so that every frame has both. */
static void
write_mixed(uint8_t *p, size_t len)
{
	write_text(p, len);
	for (size_t i = MICRO_PIECE_BYTES; i < len; i += 2 * MICRO_PIECE_BYTES)
		write_random(p + i, MICRO_PIECE_BYTES, i);
}

static void
read_file(const char *path, uint8_t *p)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	while (fd >= 0 && len < MICRO_HOT_BYTES) {
		ssize_t n = read(fd, p + len, MICRO_HOT_BYTES - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (fd >= 0)
		close(fd);
	micro_must(len > 0, "cannot read the file, or it is empty");
	for (size_t i = len; i < MICRO_HOT_BYTES; i++)
		p[i] = p[i - len];
}

static uint8_t *
input_add(struct micro_inputs *inputs, const char *name)
{
	uint8_t *data = micro_alloc(1, MICRO_HOT_BYTES);

	inputs->input[inputs->count++] = (struct micro_input){name, data};
	return data;
}

void
micro_inputs_make(struct micro_inputs *inputs, const char *file)
{
	memset(inputs, 0, sizeof *inputs);
	write_text(input_add(inputs, "text"), MICRO_HOT_BYTES);
	write_records(input_add(inputs, "records"), MICRO_HOT_BYTES);
	write_mixed(input_add(inputs, "half random"), MICRO_HOT_BYTES);
	write_random(input_add(inputs, "random"), MICRO_HOT_BYTES, 2 * MICRO_HOT_BYTES);
	if (file != NULL)
		read_file(file, input_add(inputs, "file"));
}

void
micro_inputs_done(struct micro_inputs *inputs)
{
	for (size_t i = 0; i < inputs->count; i++)
		free((void *)(uintptr_t)inputs->input[i].data);
	inputs->count = 0;
}
