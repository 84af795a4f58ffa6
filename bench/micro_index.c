/* SPDX-License-Identifier: Apache-2.0 */
/* micro_index: what is asked or kept once a chunk or once a file: filter, known chunks, staged
 * files, recipes. The tables are larger than the caches of the CPU, as they are in a server at
 * work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bloom.h"
#include "chunker.h"
#include "err.h"
#include "known.h"
#include "micro.h"
#include "recipe.h"
#include "stage_map.h"

#define KEYS         ((uint64_t)1 << 20)
#define PASS_KEYS    ((uint64_t)1 << 15)
#define BLOOM_KEYS   ((uint64_t)10000000)
#define BLOOM_BITS   12
#define KNOWN_BYTES  ((size_t)128 << 20)
#define REPO_ID      7
#define STAGE_FILES  ((uint64_t)100000)
#define RECIPE_PARTS ((uint64_t)8192)

struct index {
	struct sha256 *hashes; /* KEYS of them, then KEYS that are never added */
	struct bloom *bloom;
	struct known *known;
	uint64_t at; /* where the next pass begins */
	uint32_t salt;
	uint64_t ticket;
	struct stage_entry *entries; /* STAGE_FILES */
	char (*paths)[MICRO_PATH_BYTES];
	bool scattered;
	struct buf part;
	uint64_t sink;
};

static const struct sha256 *
next_key(struct index *x, uint64_t i, bool added)
{
	return &x->hashes[(added ? 0 : KEYS) + ((x->at + i) & (KEYS - 1))];
}

static uint64_t
pass_bloom_add(void *state)
{
	struct index *x = state;

	/* Another salt makes them new keys. */
	x->salt++;
	for (uint64_t i = 0; i < PASS_KEYS; i++)
		bloom_add(x->bloom, next_key(x, i, true), x->salt);
	x->at += PASS_KEYS;
	return PASS_KEYS;
}

static uint64_t
pass_bloom_yes(void *state)
{
	struct index *x = state;

	for (uint64_t i = 0; i < PASS_KEYS; i++)
		x->sink += bloom_may_have(x->bloom, next_key(x, i, true), 0);
	x->at += PASS_KEYS;
	return PASS_KEYS;
}

static uint64_t
pass_bloom_no(void *state)
{
	struct index *x = state;

	for (uint64_t i = 0; i < PASS_KEYS; i++)
		x->sink += bloom_may_have(x->bloom, next_key(x, i, false), 0);
	x->at += PASS_KEYS;
	return PASS_KEYS;
}

static uint64_t
peek(struct index *x, bool added)
{
	for (uint64_t i = 0; i < PASS_KEYS; i++) {
		uint64_t ticket;

		x->sink += known_peek(x->known, REPO_ID, next_key(x, i, added), &ticket);
	}
	x->at += PASS_KEYS;
	return PASS_KEYS;
}

static uint64_t
pass_known_yes(void *state)
{
	return peek(state, true);
}

static uint64_t
pass_known_no(void *state)
{
	return peek(state, false);
}

/* A batch of claims, then its end, as if the batch had failed. */
static uint64_t
pass_known_claim(void *state)
{
	struct index *x = state;
	uint64_t ticket;

	x->ticket++;
	for (uint64_t i = 0; i < PASS_KEYS; i++)
		x->sink +=
			known_claim(x->known, REPO_ID, next_key(x, i, false), x->ticket, &ticket);
	for (uint64_t i = 0; i < PASS_KEYS; i++)
		known_settle(x->known, REPO_ID, next_key(x, i, false), x->ticket, 0);
	x->at += PASS_KEYS;
	return PASS_KEYS;
}

static uint64_t
pass_stage_map(void *state)
{
	struct index *x = state;
	struct err err = ERR_INIT;
	struct stage_map *map = NULL;

	micro_must(stage_map_open(&map, &err) == RC_OK, err.text);
	for (uint64_t i = 0; i < STAGE_FILES; i++) {
		/* 61,681 and the number of files have no common divisor: each comes once. */
		uint64_t k = x->scattered ? i * 61681 % STAGE_FILES : i;

		micro_must(stage_map_put(map, &x->entries[k], NULL, &err) == RC_OK, err.text);
	}
	x->sink += stage_map_count(map);
	stage_map_free(map);
	return STAGE_FILES;
}

static uint64_t
pass_recipe_encode(void *state)
{
	struct index *x = state;
	struct sha256_stream id;
	struct sha256 hash;

	sha256_stream_init(&id);
	buf_clear(&x->part);
	recipe_part_begin(&x->part, CHUNKER_ID);
	for (uint64_t i = 0; i < RECIPE_PARTS; i++) {
		struct recipe_slice slice = {x->hashes[i], 0, 40000 + i * 7 % 40000};

		recipe_part_add(&x->part, &slice.chunk, slice.length);
		recipe_id_add(&id, &slice);
	}
	sha256_stream_final(&id, &hash);
	x->sink += hash.b[0];
	micro_must(buf_ok(&x->part), "out of memory");
	return RECIPE_PARTS;
}

static uint64_t
pass_recipe_decode(void *state)
{
	struct index *x = state;
	struct recipe_part_reader reader;
	struct recipe_slice slice;
	struct err err = ERR_INIT;
	uint64_t n = 0;

	micro_must(recipe_part_open(&reader, x->part.data, x->part.len, &err) == RC_OK, err.text);
	while (recipe_part_next(&reader, &slice, &err))
		n++;
	micro_must(n == RECIPE_PARTS, "a recipe came back shorter");
	return n;
}

static void
chunk_stages(struct micro *m, struct index *x)
{
	struct err err = ERR_INIT;

	micro_must(bloom_open(BLOOM_KEYS, BLOOM_BITS, &x->bloom, &err) == RC_OK, err.text);
	for (uint64_t i = 0; i < KEYS; i++)
		bloom_add(x->bloom, &x->hashes[i], 0);
	micro_stage(m, "bloom look-up, yes", "chunk", 0, pass_bloom_yes, x, NULL);
	micro_stage(m, "bloom look-up, no", "chunk", 0, pass_bloom_no, x, NULL);
	micro_stage(m, "bloom add", "chunk", 0, pass_bloom_add, x, NULL);
	bloom_free(x->bloom);
	micro_must(known_open(KNOWN_BYTES, &x->known, &err) == RC_OK, err.text);
	for (uint64_t i = 0; i < KEYS; i++)
		known_learn(x->known, REPO_ID, &x->hashes[i], known_epoch(x->known));
	micro_stage(m, "known look-up, yes", "chunk", 0, pass_known_yes, x, NULL);
	micro_stage(m, "known look-up, no", "chunk", 0, pass_known_no, x, NULL);
	micro_stage(m, "known claim and settle", "chunk", 0, pass_known_claim, x, NULL);
	known_free(x->known);
}

static void
file_stages(struct micro *m, struct index *x)
{
	x->entries = micro_alloc(STAGE_FILES, sizeof *x->entries);
	x->paths = micro_alloc(STAGE_FILES, sizeof *x->paths);
	for (uint64_t i = 0; i < STAGE_FILES; i++) {
		x->entries[i] = (struct stage_entry){.path = x->paths[i],
			.path_len = (uint16_t)micro_path(i, x->paths[i]),
			.kind = CONTENT_CHUNK,
			.mode = 0644,
			.size = micro_scatter(i) & 0xffff,
			.id = x->hashes[i]};
	}
	micro_stage(m, "stage map put, sorted", "file", 0, pass_stage_map, x, NULL);
	x->scattered = true;
	micro_stage(m, "stage map put, scattered", "file", 0, pass_stage_map, x, NULL);
	free(x->entries);
	free(x->paths);
}

void
micro_indexes(struct micro *m)
{
	struct index x = {.salt = 1};

	if (!micro_wants(m, "bloom") && !micro_wants(m, "known") && !micro_wants(m, "stage map") &&
		!micro_wants(m, "recipe"))
		return;
	x.hashes = micro_alloc(2 * KEYS, sizeof *x.hashes);
	for (uint64_t i = 0; i < 2 * KEYS; i++)
		micro_hash(i, &x.hashes[i]);
	if (micro_wants(m, "bloom") || micro_wants(m, "known"))
		chunk_stages(m, &x);
	if (micro_wants(m, "stage map"))
		file_stages(m, &x);
	buf_init(&x.part, 64 * RECIPE_PARTS);
	pass_recipe_encode(&x);
	micro_stage(m, "recipe encode", "chunk", 0, pass_recipe_encode, &x, NULL);
	micro_stage(m, "recipe decode", "chunk", 0, pass_recipe_decode, &x, NULL);
	buf_done(&x.part);
	free(x.hashes);
}
