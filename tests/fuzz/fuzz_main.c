/* SPDX-License-Identifier: Apache-2.0 */
/* Replays a corpus through a fuzz target, for `make check`: fuzz_NAME FILE-OR-FOLDER...
 *
 * Besides each file it tries the empty input, cuts of the file and copies with one byte turned
 * over, since truncation and single flips are what a parser meets most. The inputs are the same in
 * every run; searching for new ones is libFuzzer's work (doc/HACKING.md). */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_BYTES_MAX  (16u * 1024 * 1024)
#define VARIANTS_MAX     256u /* cuts, and flips, of one file */
#define VARIED_BYTES_MAX (1024u * 1024)
#define PATH_BYTES       4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long files;
static unsigned long inputs;

/* Exactly size bytes of memory, so that a sanitizer sees a read past the end. */
static void
try_input(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	if (copy == NULL) {
		fprintf(stderr, "no memory for %zu bytes\n", size);
		exit(1);
	}
	if (size > 0)
		memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	inputs++;
}

static void
try_variants(uint8_t *data, size_t size)
{
	size_t step = size / VARIANTS_MAX + 1;

	for (size_t cut = 0; cut < size; cut += step)
		try_input(data, cut);
	for (size_t at = 0; at < size; at += step) {
		data[at] ^= 0xff;
		try_input(data, size);
		data[at] ^= 0xff;
	}
}

static bool
try_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = malloc(INPUT_BYTES_MAX);
	size_t size = 0;
	bool ok = f != NULL && data != NULL;

	if (ok) {
		size = fread(data, 1, INPUT_BYTES_MAX, f);
		ok = ferror(f) == 0 && feof(f) != 0;
	}
	if (!ok) {
		fprintf(stderr, "%s: cannot be read, or is over %u bytes\n", path, INPUT_BYTES_MAX);
	} else {
		try_input(data, size);
		if (size <= VARIED_BYTES_MAX)
			try_variants(data, size);
		files++;
	}
	free(data);
	if (f != NULL)
		fclose(f);
	return ok;
}

static bool
try_folder(const char *path)
{
	struct dirent **list = NULL;
	int n = scandir(path, &list, NULL, alphasort);
	bool ok = n >= 0;

	if (!ok)
		perror(path);
	for (int i = 0; i < n; i++) {
		char full[PATH_BYTES];
		int len = snprintf(full, sizeof full, "%s/%s", path, list[i]->d_name);
		if (list[i]->d_name[0] != '.')
			ok = len < PATH_BYTES && try_file(full) && ok;
		free(list[i]);
	}
	free(list);
	return ok;
}

int
main(int argc, char **argv)
{
	bool ok = true;

	try_input((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++) {
		struct stat st;
		bool folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
		ok = (folder ? try_folder(argv[i]) : try_file(argv[i])) && ok;
	}
	printf("%lu files, %lu inputs\n", files, inputs);
	return ok && files > 0 ? 0 : 1;
}
