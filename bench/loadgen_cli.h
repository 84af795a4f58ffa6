/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_LOADGEN_CLI_H
#define DG_LOADGEN_CLI_H

/* loadgen_cli: what the load clients' command lines have in common: options in, JSON out.
 * Threads: no state. */

#include <stdio.h>

#include "loadgen.h"

/* What every client starts from: 127.0.0.1, 8 connections, ten minutes, any 2xx. */
#define LOADGEN_OPTIONS_INIT                                                                       \
	{                                                                                          \
		.host = "127.0.0.1", .connections = 8, .timeout_s = 600                            \
	}

/* Take the option that getopt found: 'h' --host, 'p' --port, 'c' --connections, 't' --timeout.
 * value is borrowed for good. False: the value is no good, or the letter is none of these. */
bool loadgen_take_option(struct loadgen_options *options, int letter, const char *value);

/* Send options->request_count requests of source, print what came of it on standard output as one
 * JSON object on one line; true if every one was answered well. Blocks. */
bool loadgen_run_and_print(
	const struct loadgen_options *options, const struct loadgen_source *source);

/* Parse a decimal number within [min, max]; false on anything else. */
bool loadgen_number(const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* Append path to the NUL-terminated text of size bytes at out, percent-encoded but for the
 * unreserved characters and the slash. False if it does not fit. */
bool loadgen_append_path(char *out, size_t size, const char *path);

/* Lines of a file without their newlines and without empty ones. */
struct loadgen_lines {
	char **line;
	size_t count;
};

/* False (and a message on standard error): not readable, or no line in it. loadgen_lines_done frees
 * in any case. */
bool loadgen_lines_read(const char *path, struct loadgen_lines *out);
void loadgen_lines_done(struct loadgen_lines *lines);

#endif
