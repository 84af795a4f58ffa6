/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_LOAD_H
#define DG_LOAD_H

#include <stdbool.h>
#include <stdint.h>

/* load: what one window of time was like, and which class of work that is.
 *
 * Settings that suit one class harm another, and a window is only worth comparing with one of the
 * same class. Pure functions. */

enum load_class {
	LOAD_SMALL, /* many small files come in: measured in files */
	LOAD_LARGE, /* few large ones: in bytes */
	LOAD_MIXED, /* of everything something: in bytes, a file counts as LOAD_FILE_BYTES more */
	LOAD_REPEATED, /* what comes in is known already: in the same measure */
	LOAD_READING,  /* bytes go out: in bytes */
	LOAD_CLASSES,
	LOAD_NONE = LOAD_CLASSES, /* too little to learn from */
};

#define LOAD_FILE_BYTES  65536.0   /* what a file costs, in bytes of a large one: about a chunk */
#define LOAD_SMALL_BYTES 262144.0  /* mean size up to which files are small */
#define LOAD_LARGE_BYTES 4194304.0 /* and from which on they are large */

/* Less a second than this is no load: what clients do then says more than any setting. */
#define LOAD_BYTES_MIN 1048576.0
#define LOAD_FILES_MIN 20.0

struct load_window {
	double seconds;
	uint64_t bytes_in, files_in, bytes_out;
	uint64_t new_bytes,
		stored_bytes; /* of bytes_in: not known before; what they take on disk */
	uint64_t cpu_ns;      /* of the process */
	uint64_t rss_bytes;   /* at its end */
	uint64_t wait_us;     /* slowest 5 % of the group commits somebody waited for; 0: nobody */
	bool faulty;          /* database or disk were away */
};

/* What of a window is compared with that of another window of the same class. */
struct load_figures {
	double rate; /* work a second, > 0 */
	double cpu;  /* nanoseconds for a piece of work, > 0 */
	double rss_bytes;
	double wait_us;
	double new_bytes, stored_bytes;
};

/* The class of a window. Near a border that of the window before (or LOAD_NONE) is kept. */
enum load_class load_classify(const struct load_window *w, enum load_class before);
/* Of a window that has a class. */
void load_measure(const struct load_window *w, enum load_class class, struct load_figures *figures);
/* "small", "large", … and "none"; static. */
const char *load_class_name(enum load_class class);
/* The class of a name; LOAD_NONE if there is none. */
enum load_class load_class_find(const char *name);
/* "files/s" or "bytes/s". */
const char *load_class_unit(enum load_class class);
/* One line. */
const char *load_class_what(enum load_class class);

#endif
