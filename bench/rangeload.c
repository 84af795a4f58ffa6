/* SPDX-License-Identifier: Apache-2.0 */

/* rangeload: GET random ranges of one big file over a few keep-alive connections.
 * With --verify FILE every byte of every answer is compared with that file; leave it away when
 * time is measured. */

#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loadgen_cli.h"

#define COMPARE_BYTES 65536

static const char usage[] =
	"usage: rangeload --port N --path /url --size BYTES [--count N] [--bytes N]\n"
	"                 [--connections N] [--seed N] [--verify FILE] [--host 127.0.0.1]\n"
	"                 [--timeout SECONDS]\n"
	"GETs N random ranges of BYTES (64 KiB) of /url, which is --size long; prints JSON.\n";

struct source {
	const char *host_header;
	const char *path;
	uint64_t size_bytes;
	uint64_t range_bytes;
	uint64_t random;
	size_t left;
	int verify_fd;
};

/* splitmix64: the same offsets for the same seed on every machine. */
static uint64_t
random_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static bool
range_next(void *arg, unsigned conn, struct loadgen_request *r)
{
	struct source *s = arg;
	uint64_t from;
	int length;

	(void)conn;
	if (s->left == 0)
		return false;
	s->left--;
	from = random_next(&s->random) % (s->size_bytes - s->range_bytes + 1);
	length = snprintf(r->head, sizeof r->head,
		"GET %s HTTP/1.1\r\nHost: %s\r\nRange: bytes=%llu-%llu\r\n\r\n", s->path,
		s->host_header, (unsigned long long)from,
		(unsigned long long)(from + s->range_bytes - 1));
	if (length < 0 || (size_t)length >= sizeof r->head)
		return false;
	r->head_bytes = (size_t)length;
	r->expect_bytes = s->range_bytes;
	r->tag = from;
	return true;
}

static bool
range_answer(void *arg, uint64_t tag, uint64_t offset, const uint8_t *data, size_t bytes)
{
	static uint8_t want[COMPARE_BYTES];
	const struct source *s = arg;

	while (bytes > 0) {
		size_t part = bytes < sizeof want ? bytes : sizeof want;

		if (pread(s->verify_fd, want, part, (off_t)(tag + offset)) != (ssize_t)part ||
			memcmp(want, data, part) != 0)
			return false;
		offset += part;
		data += part;
		bytes -= part;
	}
	return true;
}

struct arguments {
	struct loadgen_options load;
	struct source source;
	const char *verify;
};

static bool
parse_argument(struct arguments *a, int c, const char *value)
{
	uint64_t n = 0;

	switch (c) {
	case 'u':
		a->source.path = value;
		return true;
	case 'v':
		a->verify = value;
		return true;
	case 's':
		return loadgen_number(value, 1, INT64_MAX, &a->source.size_bytes);
	case 'b':
		return loadgen_number(value, 1, INT64_MAX, &a->source.range_bytes);
	case 'r':
		return loadgen_number(value, 0, UINT64_MAX, &a->source.random);
	case 'n':
		if (!loadgen_number(value, 1, 100000000, &n))
			return false;
		a->load.request_count = n;
		return true;
	default:
		return loadgen_take_option(&a->load, c, value);
	}
}

static bool
parse_arguments(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {{"host", required_argument, NULL, 'h'},
		{"port", required_argument, NULL, 'p'}, {"path", required_argument, NULL, 'u'},
		{"size", required_argument, NULL, 's'}, {"count", required_argument, NULL, 'n'},
		{"bytes", required_argument, NULL, 'b'}, {"seed", required_argument, NULL, 'r'},
		{"connections", required_argument, NULL, 'c'},
		{"verify", required_argument, NULL, 'v'}, {"timeout", required_argument, NULL, 't'},
		{NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!parse_argument(a, c, optarg))
			return false;
	return optind == argc && a->load.port != 0 && a->source.path != NULL &&
	       a->source.size_bytes >= a->source.range_bytes;
}

int
main(int argc, char **argv)
{
	struct arguments a = {.load = LOADGEN_OPTIONS_INIT,
		.source = {.range_bytes = 65536, .random = 1, .verify_fd = -1}};
	struct loadgen_source source = {.next = range_next, .arg = &a.source};
	char host_header[128];

	a.load.status_want = 206;
	a.load.request_count = 10000;
	if (!parse_arguments(argc, argv, &a)) {
		fputs(usage, stderr);
		return 2;
	}
	snprintf(host_header, sizeof host_header, "%s:%u", a.load.host, a.load.port);
	a.source.host_header = host_header;
	a.source.left = a.load.request_count;
	if (a.verify != NULL) {
		a.source.verify_fd = open(a.verify, O_RDONLY | O_CLOEXEC);
		source.answer = range_answer;
		if (a.source.verify_fd < 0) {
			fprintf(stderr, "rangeload: cannot open %s\n", a.verify);
			return 2;
		}
	}
	return loadgen_run_and_print(&a.load, &source) ? 0 : 1;
}
