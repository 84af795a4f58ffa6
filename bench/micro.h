/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_MICRO_H
#define DG_MICRO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sha256.h"

/* micro: single stages by themselves. What the stage files share.
 *
 * A stage is a function that makes one pass over some work and says how many units (bytes, chunks,
 * entries) that were. micro.c measures and reports; the other files know the stages. A stage's name
 * stands for its work: who changes the work gives it another name, so that bench/regress compares
 * like with like. Everything runs in one thread and aborts the program when it cannot go on. */

#define MICRO_FRAME_BYTES ((size_t)256 << 10) /* of one frame, as ingest makes them */
#define MICRO_PIECE_BYTES ((size_t)64 << 10)  /* about a chunk */
#define MICRO_HOT_BYTES   ((size_t)1 << 20)   /* working set of what goes over bytes: in cache */

struct micro;

typedef uint64_t micro_fn(void *state);

/* A unit's, of the round with the median CPU time. */
struct micro_rate {
	double ns;
	double cpu_ns; /* less than ns where the stage waits, or somebody else was given the CPU */
	double ticks;  /* of the CPU time */
	double spread; /* of the CPU times: (third quartile - first) / median */
};

/* Whether any stage whose name starts with group may be asked for: ask before costly preparations.
 */
bool micro_wants(const struct micro *m, const char *group);
/* Measure and report a stage if it is asked for. unit is "byte", "entry" and so on. ratio is what
 * it makes of its input (0: nothing to say). Returns false, *rate untouched, if it is not asked
 * for; rate may be NULL. */
bool micro_stage(struct micro *m, const char *name, const char *unit, double ratio, micro_fn *fn,
	void *state, struct micro_rate *rate);
/* Report a rate that follows from a measured one. */
void micro_report(
	struct micro *m, const char *name, const char *unit, double ratio, struct micro_rate rate);

/* A directory on the disk that is to be measured, or NULL. */
const char *micro_dir(const struct micro *m);

/* The inputs, MICRO_HOT_BYTES each; the same on every machine, but for the last, which is the
 * beginning of --file and only there if that was given. */
struct micro_input {
	const char *name;
	const uint8_t *data;
};
/* NULL ends the list: i from 0. */
const struct micro_input *micro_input_at(const struct micro *m, size_t i);

/* Numbers that look random and are the same for the same i. */
uint64_t micro_scatter(uint64_t i);
void micro_hash(uint64_t i, struct sha256 *out);
/* A path like those of source trees, different and ascending for ascending i, NUL-terminated;
 * returns its length. */
#define MICRO_PATH_BYTES 64
size_t micro_path(uint64_t i, char *out);

/* calloc; a message and the end of the program if it fails. */
void *micro_alloc(size_t count, size_t bytes);
/* The same for anything else that may not fail. */
void micro_must(bool good, const char *what);

/* The stages. */
void micro_copies(struct micro *m);
void micro_cuts(struct micro *m);
void micro_hashes(struct micro *m);
void micro_codecs(struct micro *m);
void micro_indexes(struct micro *m);
void micro_trees(struct micro *m);
void micro_packs(struct micro *m);

#endif
