/* SPDX-License-Identifier: Apache-2.0 */

/* getload: GET what a list names, over a few keep-alive connections: files, or pages of a listing.
 * In the order of the list, again and again, or with --random any line of it each time. */

#include <getopt.h>
#include <string.h>

#include "loadgen_cli.h"

static const char usage[] =
	"usage: getload --port N --prefix /url --list FILE [--count N] [--random SEED]\n"
	"               [--connections N] [--host 127.0.0.1] [--timeout SECONDS]\n"
	"GETs N times (once a line) /url followed by a line of FILE, as it is; prints JSON.\n";

struct source {
	const char *host_header;
	const char *prefix;
	struct loadgen_lines lines;
	uint64_t seed; /* 0: in order */
	size_t sent;
};

/* Numbers that look random, the same for the same seed on every machine. */
static uint64_t
scatter(uint64_t n)
{
	n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9ULL;
	n = (n ^ (n >> 27)) * 0x94d049bb133111ebULL;
	return n ^ (n >> 31);
}

static bool
get_next(void *arg, unsigned conn, struct loadgen_request *r)
{
	struct source *s = arg;
	size_t at = s->sent++;
	int length;

	(void)conn;
	if (s->seed != 0)
		at = (size_t)scatter(s->seed + at * 0x9e3779b97f4a7c15ULL);
	length = snprintf(r->head, sizeof r->head, "GET %s%s HTTP/1.1\r\nHost: %s\r\n\r\n",
		s->prefix, s->lines.line[at % s->lines.count], s->host_header);
	if (length < 0 || (size_t)length >= sizeof r->head) {
		fprintf(stderr, "getload: a line that is too long\n");
		return false;
	}
	r->head_bytes = (size_t)length;
	r->expect_bytes = UINT64_MAX;
	return true;
}

struct arguments {
	struct loadgen_options load;
	struct source source;
	const char *list;
	uint64_t count;
};

static bool
parse_arguments(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {{"host", required_argument, NULL, 'h'},
		{"port", required_argument, NULL, 'p'}, {"prefix", required_argument, NULL, 'u'},
		{"list", required_argument, NULL, 'l'}, {"count", required_argument, NULL, 'n'},
		{"random", required_argument, NULL, 'r'},
		{"connections", required_argument, NULL, 'c'},
		{"timeout", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
	bool good = true;
	int c;

	while (good && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'u')
			a->source.prefix = optarg;
		else if (c == 'l')
			a->list = optarg;
		else if (c == 'n')
			good = loadgen_number(optarg, 1, 100000000, &a->count);
		else if (c == 'r')
			good = loadgen_number(optarg, 1, UINT64_MAX, &a->source.seed);
		else
			good = loadgen_take_option(&a->load, c, optarg);
	}
	return good && optind == argc && a->load.port != 0 && a->source.prefix != NULL &&
	       a->list != NULL;
}

int
main(int argc, char **argv)
{
	struct arguments a = {.load = LOADGEN_OPTIONS_INIT};
	struct loadgen_source source = {.next = get_next, .arg = &a.source};
	char host_header[128];
	int status = 2;

	a.load.status_want = 200;
	if (!parse_arguments(argc, argv, &a)) {
		fputs(usage, stderr);
		return 2;
	}
	snprintf(host_header, sizeof host_header, "%s:%u", a.load.host, a.load.port);
	a.source.host_header = host_header;
	if (loadgen_lines_read(a.list, &a.source.lines)) {
		a.load.request_count = a.count != 0 ? a.count : a.source.lines.count;
		status = loadgen_run_and_print(&a.load, &source) ? 0 : 1;
	}
	loadgen_lines_done(&a.source.lines);
	return status;
}
