/* SPDX-License-Identifier: Apache-2.0 */

/* putload: PUT every file of a list, one request a file, over a few keep-alive connections.
 * Each file is opened and read within the measured time, as any client would have to. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loadgen_cli.h"

#define FILE_BYTES_MAX (64U * 1024 * 1024)

static const char usage[] =
	"usage: putload --port N --prefix /url/ --root DIR --list FILE [--count N]\n"
	"               [--connections N] [--host 127.0.0.1] [--timeout SECONDS]\n"
	"PUTs each file named in FILE (one path below DIR a line; only the first N of them) to\n"
	"/url/PATH; prints JSON.\n";

struct body {
	uint8_t *bytes;
	size_t size;
};

struct source {
	const char *host_header;
	const char *prefix;
	int root_fd;
	struct loadgen_lines paths;
	size_t next;
	struct body *bodies; /* one a connection */
	bool failed;
};

static bool
read_file(int root_fd, const char *path, struct body *body, size_t *out_bytes)
{
	struct stat st;
	size_t have = 0;
	int fd = openat(root_fd, path, O_RDONLY | O_CLOEXEC);
	bool done = false;

	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size > FILE_BYTES_MAX)
		goto out;
	if ((size_t)st.st_size > body->size) {
		uint8_t *bigger = realloc(body->bytes, (size_t)st.st_size);

		if (bigger == NULL)
			goto out;
		body->bytes = bigger;
		body->size = (size_t)st.st_size;
	}
	while (have < (size_t)st.st_size) {
		ssize_t got = read(fd, body->bytes + have, (size_t)st.st_size - have);

		if (got <= 0)
			goto out;
		have += (size_t)got;
	}
	*out_bytes = have;
	done = true;
out:
	if (!done)
		fprintf(stderr, "putload: cannot read %s: %s\n", path, strerrordesc_np(errno));
	if (fd >= 0)
		close(fd);
	return done;
}

static bool
put_next(void *arg, unsigned conn, struct loadgen_request *r)
{
	struct source *s = arg;
	const char *path;
	int tail;

	if (s->failed || s->next >= s->paths.count)
		return false;
	path = s->paths.line[s->next++];
	if (!read_file(s->root_fd, path, &s->bodies[conn], &r->body[0].bytes)) {
		s->failed = true;
		return false;
	}
	r->body[0].data = s->bodies[conn].bytes;
	r->expect_bytes = UINT64_MAX;
	snprintf(r->head, sizeof r->head, "PUT %s", s->prefix);
	if (!loadgen_append_path(r->head, sizeof r->head - 256, path)) {
		fprintf(stderr, "putload: path too long: %s\n", path);
		s->failed = true;
		return false;
	}
	r->head_bytes = strlen(r->head);
	tail = snprintf(r->head + r->head_bytes, sizeof r->head - r->head_bytes,
		" HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\n\r\n", s->host_header,
		r->body[0].bytes);
	r->head_bytes += (size_t)tail;
	return true;
}

static bool
source_init(struct source *s, const char *root, const char *list, unsigned connections)
{
	s->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->bodies = calloc(connections, sizeof *s->bodies);
	if (s->root_fd < 0 || s->bodies == NULL) {
		fprintf(stderr, "putload: cannot open %s\n", root);
		return false;
	}
	return loadgen_lines_read(list, &s->paths);
}

static void
source_done(struct source *s, unsigned connections)
{
	loadgen_lines_done(&s->paths);
	for (unsigned i = 0; s->bodies != NULL && i < connections; i++)
		free(s->bodies[i].bytes);
	free(s->bodies);
	if (s->root_fd >= 0)
		close(s->root_fd);
}

struct arguments {
	struct loadgen_options load;
	struct source source;
	const char *root;
	const char *list;
	uint64_t count_max;
};

static bool
parse_arguments(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {{"host", required_argument, NULL, 'h'},
		{"port", required_argument, NULL, 'p'}, {"prefix", required_argument, NULL, 'u'},
		{"root", required_argument, NULL, 'r'}, {"list", required_argument, NULL, 'l'},
		{"count", required_argument, NULL, 'n'},
		{"connections", required_argument, NULL, 'c'},
		{"timeout", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
	bool good = true;
	int c;

	while (good && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'u')
			a->source.prefix = optarg;
		else if (c == 'r')
			a->root = optarg;
		else if (c == 'l')
			a->list = optarg;
		else if (c == 'n')
			good = loadgen_number(optarg, 1, SIZE_MAX, &a->count_max);
		else
			good = loadgen_take_option(&a->load, c, optarg);
	}
	return good && optind == argc && a->load.port != 0 && a->source.prefix != NULL &&
	       a->root != NULL && a->list != NULL && strlen(a->source.prefix) < 1024;
}

int
main(int argc, char **argv)
{
	struct arguments a = {
		.load = LOADGEN_OPTIONS_INIT, .source = {.root_fd = -1}, .count_max = UINT64_MAX};
	struct loadgen_source source = {.next = put_next, .arg = &a.source};
	char host_header[128];
	int status = 2;

	if (!parse_arguments(argc, argv, &a)) {
		fputs(usage, stderr);
		return 2;
	}
	snprintf(host_header, sizeof host_header, "%s:%u", a.load.host, a.load.port);
	a.source.host_header = host_header;
	if (source_init(&a.source, a.root, a.list, a.load.connections)) {
		a.load.request_count =
			a.source.paths.count < a.count_max ? a.source.paths.count : a.count_max;
		status = loadgen_run_and_print(&a.load, &source) && !a.source.failed ? 0 : 1;
	}
	source_done(&a.source, a.load.connections);
	return status;
}
