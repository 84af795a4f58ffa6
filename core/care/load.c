/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"

#include <string.h>

#define STICKY        1.25 /* how far past a border the class of before reaches */
#define KNOWN_SHARE   0.75 /* of the bytes that come in: then the work is to find that out */
#define READING_TIMES 3.0  /* out against in: from here on it is reading, below 1/3 coming in */

struct class_facts {
	const char *name, *unit, *what;
};

static const struct class_facts facts[LOAD_CLASSES + 1] = {
	[LOAD_SMALL] = {"small", "files/s", "many small files come in"},
	[LOAD_LARGE] = {"large", "bytes/s", "few large files come in"},
	[LOAD_MIXED] = {"mixed", "bytes/s",
		"files of all sizes, or coming in and going out; a file counts as 64 KiB more"},
	[LOAD_REPEATED] = {"repeated", "bytes/s",
		"what comes in is known already; a file counts as 64 KiB more"},
	[LOAD_READING] = {"reading", "bytes/s", "bytes go out"},
	[LOAD_NONE] = {"none", "bytes/s", "too little to learn from"},
};

/* Border between this and its neighbours, moved outward for who was there before. */
static double
border(double at, bool was_below)
{
	return was_below ? at * STICKY : at / STICKY;
}

static double
work_in(const struct load_window *w)
{
	return (double)w->bytes_in + LOAD_FILE_BYTES * (double)w->files_in;
}

static enum load_class
classify_uploads(const struct load_window *w, enum load_class before)
{
	double known = (double)w->bytes_in - (double)w->new_bytes;
	double share = before == LOAD_REPEATED ? KNOWN_SHARE / STICKY : KNOWN_SHARE;

	if (w->bytes_in > 0 && known > share * (double)w->bytes_in)
		return LOAD_REPEATED;
	if (w->files_in == 0)
		return LOAD_LARGE;
	double mean = (double)w->bytes_in / (double)w->files_in;
	if (mean <= border(LOAD_SMALL_BYTES, before == LOAD_SMALL))
		return LOAD_SMALL;
	if (mean >= border(LOAD_LARGE_BYTES, before != LOAD_LARGE))
		return LOAD_LARGE;
	return LOAD_MIXED;
}

enum load_class
load_classify(const struct load_window *w, enum load_class before)
{
	double in = work_in(w);
	double out = (double)w->bytes_out;

	if (w->faulty || w->seconds <= 0)
		return LOAD_NONE;
	if ((double)w->bytes_in < LOAD_BYTES_MIN * w->seconds &&
		(double)w->files_in < LOAD_FILES_MIN * w->seconds &&
		out < LOAD_BYTES_MIN * w->seconds)
		return LOAD_NONE;
	if (out > border(READING_TIMES, before != LOAD_READING) * in)
		return LOAD_READING;
	if (out * border(READING_TIMES, before == LOAD_MIXED) > in)
		return LOAD_MIXED;
	return classify_uploads(w, before);
}

void
load_measure(const struct load_window *w, enum load_class class, struct load_figures *figures)
{
	double work = 0;

	switch (class) {
	case LOAD_SMALL:
		work = (double)w->files_in;
		break;
	case LOAD_LARGE:
		work = (double)w->bytes_in;
		break;
	case LOAD_MIXED:
		work = work_in(w) + (double)w->bytes_out;
		break;
	case LOAD_REPEATED:
		work = work_in(w);
		break;
	case LOAD_READING:
		work = (double)w->bytes_out;
		break;
	case LOAD_NONE:
		break;
	}
	work = work < 1 ? 1 : work;
	*figures = (struct load_figures){
		.rate = work / w->seconds,
		.cpu = (double)(w->cpu_ns > 0 ? w->cpu_ns : 1) / work,
		.rss_bytes = (double)(w->rss_bytes > 0 ? w->rss_bytes : 1),
		.wait_us = (double)w->wait_us,
		.new_bytes = (double)w->new_bytes,
		.stored_bytes = (double)w->stored_bytes,
	};
}

const char *load_class_name(enum load_class class)
{
	return facts[class].name;
}

const char *load_class_unit(enum load_class class)
{
	return facts[class].unit;
}

const char *load_class_what(enum load_class class)
{
	return facts[class].what;
}

enum load_class
load_class_find(const char *name)
{
	for (int i = 0; i < LOAD_CLASSES; i++)
		if (strcmp(facts[i].name, name) == 0)
			return (enum load_class)i;
	return LOAD_NONE;
}
