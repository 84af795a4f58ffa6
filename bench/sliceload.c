/* SPDX-License-Identifier: Apache-2.0 */

/* sliceload: PUT many files at the same time that are all different and all of one kind: each is a
 * slice out of the first half of a file followed by one out of the second half, and no byte of the
 * file is in two of them. Of an input whose halves compress and do not, each is half of both.
 * The slices are sent from the page cache: nothing is copied together and nothing read within the
 * measured time, provided that the file is warm. */

#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loadgen_cli.h"

#define SIZES_MAX 16

static const char usage[] =
	"usage: sliceload --port N --prefix /url/ --file FILE --count N --bytes N[,N...]\n"
	"                 [--connections N] [--host 127.0.0.1] [--timeout SECONDS]\n"
	"PUTs N slices of FILE to /url/f0000, /url/f0001, ..., their sizes one of --bytes each in\n"
	"turn; prints JSON.\n";

struct source {
	const char *host_header;
	const char *prefix;
	const uint8_t *data;
	size_t data_bytes;
	size_t sizes[SIZES_MAX];
	size_t size_count;
	size_t sent;
	size_t taken_bytes; /* of each half */
};

static bool
slice_next(void *arg, unsigned conn, struct loadgen_request *r)
{
	struct source *s = arg;
	size_t bytes = s->sizes[s->sent % s->size_count];
	size_t first = bytes / 2;
	size_t second = bytes - first;
	int length;

	(void)conn;
	if (s->taken_bytes + second > s->data_bytes / 2)
		return false;
	r->body[0].data = s->data + s->taken_bytes;
	r->body[0].bytes = first;
	r->body[1].data = s->data + s->data_bytes / 2 + s->taken_bytes;
	r->body[1].bytes = second;
	length = snprintf(r->head, sizeof r->head,
		"PUT %sf%04zu HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\n\r\n", s->prefix,
		s->sent, s->host_header, bytes);
	if (length < 0 || (size_t)length >= sizeof r->head)
		return false;
	r->head_bytes = (size_t)length;
	r->expect_bytes = UINT64_MAX;
	s->taken_bytes += second;
	s->sent++;
	return true;
}

struct arguments {
	struct loadgen_options load;
	struct source source;
	const char *file;
};

static bool
parse_sizes(struct source *s, char *text)
{
	char *rest = text;
	char *one;
	uint64_t n;

	while ((one = strsep(&rest, ",")) != NULL) {
		if (s->size_count == SIZES_MAX || !loadgen_number(one, 2, UINT32_MAX, &n))
			return false;
		s->sizes[s->size_count++] = n;
	}
	return true;
}

static bool
parse_arguments(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {{"host", required_argument, NULL, 'h'},
		{"port", required_argument, NULL, 'p'}, {"prefix", required_argument, NULL, 'u'},
		{"file", required_argument, NULL, 'f'}, {"count", required_argument, NULL, 'n'},
		{"bytes", required_argument, NULL, 'b'},
		{"connections", required_argument, NULL, 'c'},
		{"timeout", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
	uint64_t n = 0;
	bool good = true;
	int c;

	while (good && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'u')
			a->source.prefix = optarg;
		else if (c == 'f')
			a->file = optarg;
		else if (c == 'b')
			good = parse_sizes(&a->source, optarg);
		else if (c == 'n')
			good = loadgen_number(optarg, 1, 10000, &n);
		else
			good = loadgen_take_option(&a->load, c, optarg);
	}
	a->load.request_count = n;
	return good && optind == argc && a->load.port != 0 && a->source.prefix != NULL && n != 0 &&
	       a->file != NULL && a->source.size_count > 0;
}

static bool
file_map(const char *path, struct source *s)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *data = MAP_FAILED;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
		data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (data == MAP_FAILED) {
		fprintf(stderr, "sliceload: cannot map %s\n", path);
		return false;
	}
	s->data = data;
	s->data_bytes = (size_t)st.st_size;
	return true;
}

int
main(int argc, char **argv)
{
	struct arguments a = {.load = LOADGEN_OPTIONS_INIT};
	struct loadgen_source source = {.next = slice_next, .arg = &a.source};
	char host_header[128];

	if (!parse_arguments(argc, argv, &a)) {
		fputs(usage, stderr);
		return 2;
	}
	snprintf(host_header, sizeof host_header, "%s:%u", a.load.host, a.load.port);
	a.source.host_header = host_header;
	if (!file_map(a.file, &a.source))
		return 2;
	if (!loadgen_run_and_print(&a.load, &source)) {
		if (a.source.sent < a.load.request_count)
			fprintf(stderr, "sliceload: %s is too small for that\n", a.file);
		return 1;
	}
	return 0;
}
