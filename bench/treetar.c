/* SPDX-License-Identifier: Apache-2.0 */

/* treetar: write a tar of very many very small files, made up on the way, to standard output.
 *
 * File n is dDDD/sS/file-NNNNNNN.txt, a thousand files in a directory of ten, and holds one of
 * 4,096 short texts: what a listing shows differs from file to file, and storing them costs little.
 */

#include <getopt.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen_cli.h"

#define BLOCK_BYTES  512
#define TEXTS        4096
#define OUTPUT_BYTES (1U << 20)

static const char usage[] =
	"usage: treetar --count N [--first N]\n"
	"Writes a tar of N files, numbered from --first (0), to standard output.\n";

/* digits octal digits and a NUL into field. */
static void
put_octal(char *field, size_t digits, uint64_t value)
{
	for (size_t i = digits; i > 0; i--) {
		field[i - 1] = (char)('0' + (value & 7));
		value >>= 3;
	}
	field[digits] = '\0';
}

/* A POSIX ustar header. */
static void
header_fill(char *header, uint64_t number, size_t bytes)
{
	unsigned sum = 0;

	memset(header, 0, BLOCK_BYTES);
	snprintf(header, 100, "d%03u/s%u/file-%07u.txt", (unsigned)(number / 1000),
		(unsigned)(number / 100 % 10), (unsigned)number);
	put_octal(header + 100, 7, 0644);
	put_octal(header + 108, 7, 0);
	put_octal(header + 116, 7, 0);
	put_octal(header + 124, 11, bytes);
	put_octal(header + 136, 11, 1700000000 + number);
	memset(header + 148, ' ', 8);
	header[156] = '0';
	memcpy(header + 257, "ustar\00000", 8);
	for (size_t i = 0; i < BLOCK_BYTES; i++)
		sum += (unsigned char)header[i];
	put_octal(header + 148, 6, sum);
}

static bool
files_write(uint64_t first, uint64_t count)
{
	static const char zeros[2 * BLOCK_BYTES];
	char blocks[2 * BLOCK_BYTES];

	for (uint64_t n = first; n < first + count; n++) {
		int bytes;

		memset(blocks + BLOCK_BYTES, 0, BLOCK_BYTES);
		bytes = snprintf(blocks + BLOCK_BYTES, BLOCK_BYTES, "text %u\n",
			(unsigned)(n * 2654435761U % TEXTS));
		header_fill(blocks, n, (size_t)bytes);
		if (fwrite(blocks, sizeof blocks, 1, stdout) != 1)
			return false;
	}
	return fwrite(zeros, sizeof zeros, 1, stdout) == 1 && fflush(stdout) == 0;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"first", required_argument, NULL, 'f'},
		{"count", required_argument, NULL, 'n'}, {NULL, 0, NULL, 0}};
	uint64_t first = 0;
	uint64_t count = 0;
	bool good = true;
	int c;

	while (good && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'f')
			good = loadgen_number(optarg, 0, 999999, &first);
		else
			good = c == 'n' && loadgen_number(optarg, 1, 1000000, &count);
	}
	if (!good || optind != argc || count == 0 || first + count > 1000000) {
		fputs(usage, stderr);
		return 2;
	}
	setvbuf(stdout, NULL, _IOFBF, OUTPUT_BYTES);
	if (!files_write(first, count)) {
		perror("treetar");
		return 1;
	}
	return 0;
}
