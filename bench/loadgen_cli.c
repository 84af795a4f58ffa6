/* SPDX-License-Identifier: Apache-2.0 */
#include "loadgen_cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen.h"

static int
compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double
percentile_ms(const uint32_t *sorted_us, size_t count, unsigned per_mille)
{
	size_t at = count * per_mille / 1000;

	if (count == 0)
		return 0;
	if (at >= count)
		at = count - 1;
	return sorted_us[at] / 1000.0;
}

static void
print_times(const char *name, uint32_t *us, size_t count, FILE *out)
{
	qsort(us, count, sizeof *us, compare_u32);
	fprintf(out,
		"\"%s\": {\"min\": %.3f, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": "
		"%.3f}, ",
		name, percentile_ms(us, count, 0), percentile_ms(us, count, 500),
		percentile_ms(us, count, 900), percentile_ms(us, count, 990),
		percentile_ms(us, count, 1000));
}

static void
print_text(const char *text, FILE *out)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void
print_connections(const struct loadgen_stats *s, FILE *out)
{
	fputs("\"connections\": [", out);
	for (unsigned i = 0; i < s->connection_count; i++) {
		const struct loadgen_connection_stats *c = &s->connections[i];

		fprintf(out, "%s{\"requests\": %zu, \"busy_s\": %.6f, \"slowest_ms\": %.3f}",
			i > 0 ? ", " : "", c->requests, (double)c->busy_ns / 1e9,
			(double)c->slowest_ns / 1e6);
	}
	fputs("]", out);
}

static void
stats_print(struct loadgen_stats *s, FILE *out)
{
	const char *comma = "";

	fprintf(out, "{\"requests\": %zu, \"failed\": %zu, \"reconnects\": %zu, ", s->requests,
		s->failed, s->reconnects);
	fprintf(out, "\"seconds\": %.6f, \"sent_bytes\": %llu, \"received_bytes\": %llu, ",
		(double)s->wall_ns / 1e9, (unsigned long long)s->sent_bytes,
		(unsigned long long)s->received_bytes);
	if (s->latency_us != NULL && s->first_byte_us != NULL) {
		print_times("latency_ms", s->latency_us, s->requests, out);
		print_times("first_byte_ms", s->first_byte_us, s->requests, out);
	}
	fputs("\"statuses\": {", out);
	for (unsigned i = 0; i < sizeof s->statuses / sizeof s->statuses[0]; i++) {
		if (s->statuses[i] == 0)
			continue;
		fprintf(out, "%s\"%u\": %zu", comma, i, s->statuses[i]);
		comma = ", ";
	}
	fputs("}, ", out);
	if (s->connections != NULL) {
		print_connections(s, out);
		fputs(", ", out);
	}
	fputs("\"first_failure\": ", out);
	print_text(s->first_failure, out);
	fputs("}\n", out);
}

bool
loadgen_run_and_print(const struct loadgen_options *options, const struct loadgen_source *source)
{
	struct loadgen_stats stats;
	bool done = loadgen_run(options, source, &stats);

	stats_print(&stats, stdout);
	done = done && stats.failed == 0 && stats.requests == options->request_count;
	loadgen_stats_done(&stats);
	return done;
}

bool
loadgen_take_option(struct loadgen_options *options, int letter, const char *value)
{
	uint64_t n = 0;

	switch (letter) {
	case 'h':
		options->host = value;
		return true;
	case 'p':
		if (!loadgen_number(value, 1, 65535, &n))
			return false;
		options->port = (uint16_t)n;
		return true;
	case 'c':
		if (!loadgen_number(value, 1, LOADGEN_CONNECTIONS_MAX, &n))
			return false;
		options->connections = (unsigned)n;
		return true;
	case 't':
		if (!loadgen_number(value, 1, 86400, &n))
			return false;
		options->timeout_s = (unsigned)n;
		return true;
	default:
		return false;
	}
}

bool
loadgen_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;
	unsigned long long value;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < min || value > max)
		return false;
	*out = value;
	return true;
}

bool
loadgen_append_path(char *out, size_t size, const char *path)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t at = strlen(out);

	for (; *path != '\0'; path++) {
		unsigned char c = (unsigned char)*path;
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9') || strchr("-._~/", c) != NULL;

		if (at + (plain ? 1 : 3) + 1 > size)
			return false;
		if (plain) {
			out[at++] = (char)c;
			continue;
		}
		out[at++] = '%';
		out[at++] = digits[c >> 4];
		out[at++] = digits[c & 15];
	}
	out[at] = '\0';
	return true;
}

static bool
line_add(struct loadgen_lines *lines, size_t *room, const char *text)
{
	if (lines->count == *room) {
		size_t more = *room == 0 ? 1024 : *room * 2;
		char **bigger = realloc(lines->line, more * sizeof *bigger);

		if (bigger == NULL)
			return false;
		lines->line = bigger;
		*room = more;
	}
	lines->line[lines->count] = strdup(text);
	return lines->line[lines->count++] != NULL;
}

bool
loadgen_lines_read(const char *path, struct loadgen_lines *out)
{
	FILE *in = fopen(path, "re");
	size_t room = 0;
	char *line = NULL;
	size_t line_room = 0;
	ssize_t length;
	bool good = in != NULL;

	memset(out, 0, sizeof *out);
	while (good && (length = getline(&line, &line_room, in)) > 0) {
		if (line[length - 1] == '\n')
			line[--length] = '\0';
		if (length > 0)
			good = line_add(out, &room, line);
	}
	good = good && out->count > 0;
	if (!good)
		fprintf(stderr, "cannot read %s, or it is empty\n", path);
	free(line);
	if (in != NULL)
		fclose(in);
	return good;
}

void
loadgen_lines_done(struct loadgen_lines *lines)
{
	for (size_t i = 0; i < lines->count; i++)
		free(lines->line[i]);
	free(lines->line);
	lines->line = NULL;
	lines->count = 0;
}
