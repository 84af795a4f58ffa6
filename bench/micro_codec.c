/* SPDX-License-Identifier: Apache-2.0 */
/* micro_codec: zstd on frames, at the levels that uploads and upkeep use, on several kinds of
 * bytes. */
#include <stdio.h>
#include <stdlib.h>

#include "codec.h"
#include "err.h"
#include "micro.h"

#define FRAMES     (MICRO_HOT_BYTES / MICRO_FRAME_BYTES)
#define LEVEL_SLOW 9 /* and those above it */

struct squeeze {
	struct codec *codec;
	const uint8_t *data;
	uint8_t *packed; /* FRAMES pieces of room bytes each */
	size_t room;
	size_t packed_bytes[FRAMES]; /* 0: stored raw */
	uint8_t *out;
	int level;
};

static size_t
frames_of_pass(const struct squeeze *s)
{
	return s->level >= LEVEL_SLOW ? 1 : FRAMES;
}

static uint64_t
pass_compress(void *state)
{
	struct squeeze *s = state;

	for (size_t i = 0; i < frames_of_pass(s); i++)
		s->packed_bytes[i] =
			codec_compress(s->codec, s->level, s->data + i * MICRO_FRAME_BYTES,
				MICRO_FRAME_BYTES, s->packed + i * s->room, s->room);
	return frames_of_pass(s) * MICRO_FRAME_BYTES;
}

static uint64_t
pass_expand(void *state)
{
	struct squeeze *s = state;
	struct err err = ERR_INIT;
	uint64_t bytes = 0;

	for (size_t i = 0; i < frames_of_pass(s); i++) {
		if (s->packed_bytes[i] == 0)
			continue;
		micro_must(codec_expand(s->codec, CODEC_ZSTD, s->packed + i * s->room,
				   s->packed_bytes[i], s->out, MICRO_FRAME_BYTES, &err) == RC_OK,
			err.text);
		bytes += MICRO_FRAME_BYTES;
	}
	return bytes;
}

static void
stages_of(struct micro *m, struct squeeze *s, const char *input)
{
	size_t raw = 0;
	size_t stored = 0;
	char name[64];

	snprintf(name, sizeof name, "zstd %d, %s", s->level, input);
	if (!micro_wants(m, name) && !micro_wants(m, "expand"))
		return;
	raw = pass_compress(s);
	for (size_t i = 0; i < frames_of_pass(s); i++)
		stored += s->packed_bytes[i] > 0 ? s->packed_bytes[i] : MICRO_FRAME_BYTES;
	micro_stage(m, name, "byte", (double)raw / (double)stored, pass_compress, s, NULL);
	if (stored < raw && (s->level == 1 || s->level == 19)) {
		snprintf(name, sizeof name, "expand %d, %s", s->level, input);
		micro_stage(m, name, "byte", 0, pass_expand, s, NULL);
	}
}

void
micro_codecs(struct micro *m)
{
	static const int levels[] = {-7, -5, -1, 1, 3, 9, 19};
	struct squeeze s = {.room = codec_bound(MICRO_FRAME_BYTES)};
	struct err err = ERR_INIT;

	if (!micro_wants(m, "zstd") && !micro_wants(m, "expand"))
		return;
	micro_must(codec_open(&s.codec, &err) == RC_OK, err.text);
	s.packed = micro_alloc(FRAMES, s.room);
	s.out = micro_alloc(1, MICRO_FRAME_BYTES);
	for (size_t i = 0; micro_input_at(m, i) != NULL; i++) {
		s.data = micro_input_at(m, i)->data;
		for (size_t k = 0; k < sizeof levels / sizeof levels[0]; k++) {
			s.level = levels[k];
			stages_of(m, &s, micro_input_at(m, i)->name);
		}
	}
	free(s.out);
	free(s.packed);
	codec_free(s.codec);
}
