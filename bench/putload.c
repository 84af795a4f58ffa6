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

#include "loadgen.h"

#define FILE_BYTES_MAX (64U * 1024 * 1024)

static const char usage[] =
	"usage: putload --port N --prefix /url/ --root DIR --list FILE [--connections N]\n"
	"               [--host 127.0.0.1] [--timeout SECONDS]\n"
	"PUTs each file named in FILE (one path below DIR a line) to /url/PATH; prints JSON.\n";

struct body {
	uint8_t *bytes;
	size_t size;
};

struct source {
	const char *host_header;
	const char *prefix;
	int root_fd;
	char **paths;
	size_t path_count;
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

	if (s->failed || s->next >= s->path_count)
		return false;
	path = s->paths[s->next++];
	if (!read_file(s->root_fd, path, &s->bodies[conn], &r->body_bytes)) {
		s->failed = true;
		return false;
	}
	r->body = s->bodies[conn].bytes;
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
		r->body_bytes);
	r->head_bytes += (size_t)tail;
	return true;
}

/* Read the list of paths, one a line. */
static bool
read_list(const char *name, struct source *s)
{
	FILE *in = fopen(name, "re");
	size_t room = 0;
	char *line = NULL;
	size_t line_room = 0;
	ssize_t length;

	if (in == NULL)
		return false;
	while ((length = getline(&line, &line_room, in)) > 0) {
		if (line[length - 1] == '\n')
			line[--length] = '\0';
		if (length == 0)
			continue;
		if (s->path_count == room) {
			room = room == 0 ? 1024 : room * 2;
			s->paths = realloc(s->paths, room * sizeof *s->paths);
			if (s->paths == NULL)
				abort();
		}
		s->paths[s->path_count] = strdup(line);
		if (s->paths[s->path_count++] == NULL)
			abort();
	}
	free(line);
	fclose(in);
	return s->path_count > 0;
}

static bool
source_init(struct source *s, const char *root, const char *list, const char *prefix,
	unsigned connections)
{
	memset(s, 0, sizeof *s);
	s->prefix = prefix;
	s->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->bodies = calloc(connections, sizeof *s->bodies);
	return s->root_fd >= 0 && s->bodies != NULL && read_list(list, s);
}

static void
source_done(struct source *s, unsigned connections)
{
	for (size_t i = 0; i < s->path_count; i++)
		free(s->paths[i]);
	free(s->paths);
	for (unsigned i = 0; s->bodies != NULL && i < connections; i++)
		free(s->bodies[i].bytes);
	free(s->bodies);
	if (s->root_fd >= 0)
		close(s->root_fd);
}

struct arguments {
	struct loadgen_options load;
	const char *prefix;
	const char *root;
	const char *list;
};

static bool
parse_arguments(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {{"host", required_argument, NULL, 'h'},
		{"port", required_argument, NULL, 'p'}, {"prefix", required_argument, NULL, 'u'},
		{"root", required_argument, NULL, 'r'}, {"list", required_argument, NULL, 'l'},
		{"connections", required_argument, NULL, 'c'},
		{"timeout", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
	uint64_t port = 0;
	uint64_t connections = 8;
	uint64_t timeout_s = 600;
	bool good = true;
	int c;

	a->load.host = "127.0.0.1";
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h')
			a->load.host = optarg;
		else if (c == 'p')
			good = good && loadgen_number(optarg, 1, 65535, &port);
		else if (c == 'u')
			a->prefix = optarg;
		else if (c == 'r')
			a->root = optarg;
		else if (c == 'l')
			a->list = optarg;
		else if (c == 'c')
			good = good &&
			       loadgen_number(optarg, 1, LOADGEN_CONNECTIONS_MAX, &connections);
		else if (c == 't')
			good = good && loadgen_number(optarg, 1, 86400, &timeout_s);
		else
			good = false;
	}
	a->load.port = (uint16_t)port;
	a->load.connections = (unsigned)connections;
	a->load.timeout_s = (unsigned)timeout_s;
	return good && optind == argc && port != 0 && a->prefix != NULL && a->root != NULL &&
	       a->list != NULL && strlen(a->prefix) < 1024;
}

static bool
put_all(struct arguments *a, struct source *s)
{
	struct loadgen_source source = {.next = put_next, .arg = s};
	struct loadgen_stats stats;
	bool done;

	a->load.request_count = s->path_count;
	done = loadgen_run(&a->load, &source, &stats) && !s->failed;
	loadgen_stats_print(&stats, stdout);
	done = done && stats.failed == 0 && stats.requests == s->path_count;
	loadgen_stats_done(&stats);
	return done;
}

int
main(int argc, char **argv)
{
	struct arguments a = {0};
	struct source s;
	char host_header[128];
	int status = 2;

	if (!parse_arguments(argc, argv, &a)) {
		fputs(usage, stderr);
		return 2;
	}
	snprintf(host_header, sizeof host_header, "%s:%u", a.load.host, a.load.port);
	if (source_init(&s, a.root, a.list, a.prefix, a.load.connections)) {
		s.host_header = host_header;
		status = put_all(&a, &s) ? 0 : 1;
	} else {
		fprintf(stderr, "putload: cannot read %s or %s\n", a.root, a.list);
	}
	source_done(&s, a.load.connections);
	return status;
}
