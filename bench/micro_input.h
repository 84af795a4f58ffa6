/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_MICRO_INPUT_H
#define DG_MICRO_INPUT_H

#include "micro.h"

/* micro_input: what the stages work on, made up alike on every machine. */

#define MICRO_INPUTS_MAX 5

struct micro_inputs {
	struct micro_input input[MICRO_INPUTS_MAX];
	size_t count;
};

/* Text, binary records, half random bytes and only such; and the beginning of file, repeated if it
 * is short, unless it is NULL. Ends the program if it cannot be read. */
void micro_inputs_make(struct micro_inputs *inputs, const char *file);
void micro_inputs_done(struct micro_inputs *inputs);

#endif
