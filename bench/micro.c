/* SPDX-License-Identifier: Apache-2.0 */
/* micro: how fast the stages of the server are by themselves, one thread.
 *
 * Cycles are those of the time stamp counter, less what others had of the CPU; on machines that
 * change their clock they are not core cycles, and where there is no counter they are nanoseconds.
 */
/* With: micro_bytes.c micro_codec.c micro_index.c micro_input.c micro_pack.c micro_tree.c */
#include "micro.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "micro_input.h"

#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#define TICK_NAME "cycles"
#else
#define TICK_NAME "ns"
#endif

#define ROUNDS      9
#define PASSES_MAX  1000000UL
#define SECONDS_MAX 3600.0
/* The version is that of the fields' meaning. */
#define JSON_BEGIN "{\"version\": 1, \"stages\": ["
static const char usage[] =
	"usage: micro [--seconds S] [--stage NAME]... [--file F] [--dir D] [--json] [--list]\n"
	"             [--passes N]\n"
	"Measures each stage for about S seconds (0.5), in rounds of which the median counts.\n"
	"  --stage NAME  only stages whose names start with NAME\n"
	"  --file F      also the codecs on the beginning of F\n"
	"  --dir D       also pack writers in a new folder below D, on the disk to be measured\n"
	"  --list        only say which stages there are\n"
	"  --passes N    make N passes of each stage and measure nothing: for tools that count\n"
	"                instructions; prints the units of one pass\n";

#define STAGES_MAX 256 /* more than there are: all may be named */

struct micro {
	double seconds;
	unsigned long passes; /* 0: measure */
	bool list;
	bool json;
	bool first; /* nothing was reported yet */
	const char *dir;
	const char *stages[STAGES_MAX];
	size_t stage_count;
	struct micro_inputs inputs;
};

static uint64_t
ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __rdtsc();
#else
	return clock_mono_ns();
#endif
}

static bool
starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

bool
micro_wants(const struct micro *m, const char *group)
{
	for (size_t i = 0; i < m->stage_count; i++)
		if (starts_with(m->stages[i], group) || starts_with(group, m->stages[i]))
			return true;
	return m->stage_count == 0;
}

static bool
is_asked_for(const struct micro *m, const char *name)
{
	for (size_t i = 0; i < m->stage_count; i++)
		if (starts_with(name, m->stages[i]))
			return true;
	return m->stage_count == 0;
}

const char *
micro_dir(const struct micro *m)
{
	return m->dir;
}

const struct micro_input *
micro_input_at(const struct micro *m, size_t i)
{
	return i < m->inputs.count ? &m->inputs.input[i] : NULL;
}

static int
by_time(const void *a, const void *b)
{
	const struct micro_rate *x = a;
	const struct micro_rate *y = b;

	return (x->cpu_ns > y->cpu_ns) - (x->cpu_ns < y->cpu_ns);
}

static struct micro_rate
measure(const struct micro *m, micro_fn *fn, void *state)
{
	struct micro_rate rates[ROUNDS];
	uint64_t round_ns = (uint64_t)(m->seconds * 1e9 / ROUNDS);

	fn(state);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t start_ns = clock_mono_ns();
		uint64_t start_cpu_ns = clock_thread_cpu_ns();
		uint64_t start_ticks = ticks();
		uint64_t units = 0;
		uint64_t ns;

		do {
			units += fn(state);
			ns = clock_mono_ns() - start_ns;
		} while (ns < round_ns);
		rates[i].ticks = (double)(ticks() - start_ticks) / (double)units;
		rates[i].cpu_ns = (double)(clock_thread_cpu_ns() - start_cpu_ns) / (double)units;
		rates[i].ns = (double)ns / (double)units;
		/* The counter goes on when others have the CPU. */
		rates[i].ticks *= rates[i].cpu_ns / rates[i].ns;
	}
	qsort(rates, ROUNDS, sizeof rates[0], by_time);
	rates[ROUNDS / 2].spread = (rates[ROUNDS * 3 / 4].cpu_ns - rates[ROUNDS / 4].cpu_ns) /
				   rates[ROUNDS / 2].cpu_ns;
	return rates[ROUNDS / 2];
}

static void
begin_row(struct micro *m)
{
	if (m->json)
		printf("%s\n  ", m->first ? JSON_BEGIN : ",");
	m->first = false;
}

void
micro_report(
	struct micro *m, const char *name, const char *unit, double ratio, struct micro_rate rate)
{
	bool bytes = strcmp(unit, "byte") == 0;

	if (!m->json && m->first)
		printf("%-36s %12s %18s %12s %12s %8s %8s\n", "stage", "a second", TICK_NAME,
			"CPU ns", "ns", "spread", "ratio");
	begin_row(m);
	if (m->json) {
		printf("{\"stage\": \"%s\", \"unit\": \"%s\", \"per_s\": %.6g, \"ns\": %.6g, "
		       "\"cpu_ns\": %.6g, \"" TICK_NAME
		       "\": %.6g, \"spread\": %.4f, \"ratio\": %.4f}",
			name, unit, 1e9 / rate.ns, rate.ns, rate.cpu_ns, rate.ticks, rate.spread,
			ratio);
	} else {
		printf("%-36s %9.2f %s %11.3f/%-6s %12.3f %12.3f %6.1f %%", name,
			bytes ? 1 / rate.ns : 1e3 / rate.ns, bytes ? "GB" : "M ", rate.ticks, unit,
			rate.cpu_ns, rate.ns, 100 * rate.spread);
		if (ratio > 0)
			printf(" %8.2f", ratio);
		printf("\n");
	}
	fflush(stdout);
}

/* Without measuring: for those who count from outside. */
static void
make_passes(struct micro *m, const char *name, const char *unit, micro_fn *fn, void *state)
{
	uint64_t units = 0;

	for (unsigned long i = 0; i < m->passes; i++)
		units = fn(state);
	begin_row(m);
	printf("{\"stage\": \"%s\", \"unit\": \"%s\", \"units\": %llu, \"passes\": %lu}", name,
		unit, (unsigned long long)units, m->passes);
}

bool
micro_stage(struct micro *m, const char *name, const char *unit, double ratio, micro_fn *fn,
	void *state, struct micro_rate *rate)
{
	struct micro_rate found;

	if (!is_asked_for(m, name))
		return false;
	if (m->list) {
		printf("%s\n", name);
		return false;
	}
	if (m->passes > 0) {
		make_passes(m, name, unit, fn, state);
		return false;
	}
	found = measure(m, fn, state);
	micro_report(m, name, unit, ratio, found);
	if (rate != NULL)
		*rate = found;
	return true;
}

static bool
parse_option(struct micro *m, int c, const char *value, const char **file)
{
	char *end = NULL;

	switch (c) {
	case 's':
		m->seconds = strtod(value, &end);
		return *end == '\0' && m->seconds > 0 && m->seconds <= SECONDS_MAX;
	case 'n':
		m->passes = strtoul(value, &end, 10);
		return *end == '\0' && m->passes > 0 && m->passes <= PASSES_MAX;
	case 'g':
		if (m->stage_count == STAGES_MAX)
			return false;
		m->stages[m->stage_count++] = value;
		return true;
	case 'f':
		*file = value;
		return true;
	case 'd':
		m->dir = value;
		return true;
	case 'j':
		m->json = true;
		return true;
	case 'l':
		m->list = true;
		return true;
	default:
		return false;
	}
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
		{"stage", required_argument, NULL, 'g'}, {"file", required_argument, NULL, 'f'},
		{"dir", required_argument, NULL, 'd'}, {"passes", required_argument, NULL, 'n'},
		{"json", no_argument, NULL, 'j'}, {"list", no_argument, NULL, 'l'},
		{NULL, 0, NULL, 0}};
	struct micro m = {.seconds = 0.5, .first = true};
	const char *file = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (!parse_option(&m, c, optarg, &file)) {
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind != argc) {
		fputs(usage, stderr);
		return 2;
	}
	m.json = (m.json || m.passes > 0) && !m.list;
	micro_inputs_make(&m.inputs, file);
	micro_copies(&m);
	micro_cuts(&m);
	micro_hashes(&m);
	micro_codecs(&m);
	micro_indexes(&m);
	micro_trees(&m);
	micro_packs(&m);
	if (m.json)
		printf("%s\n]}\n", m.first ? JSON_BEGIN : "");
	micro_inputs_done(&m.inputs);
	return 0;
}
