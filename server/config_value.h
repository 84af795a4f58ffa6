/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CONFIG_VALUE_H
#define DG_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "err.h"

/* config_value: the types a setting can have, read from text and printed. For config*.c only. */

enum config_type {
	KEY_STRING,
	KEY_PATH,     /* a string that is not empty */
	KEY_INT,      /* uint64_t */
	KEY_BYTES,    /* uint64_t */
	KEY_DURATION, /* uint64_t milliseconds */
	KEY_BOOL,
	KEY_ENUM,      /* uint64_t, index into choices */
	KEY_ENDPOINTS, /* struct config_list of addresses to listen at, from words between commas */
	KEY_FOLDERS,   /* the same of directories that exist, by absolute paths; may be empty */
};

struct config_key {
	const char *section;
	const char *name;
	enum config_type type;
	size_t offset;
	uint64_t min;
	uint64_t max;
	const char *fallback;
	const char *choices; /* words between spaces; NULL = any value in range */
	const char *help;
};

/* Where a value stands, for messages: "digstore.conf:12", "DIGSTORE_LISTEN", "--listen". */
struct config_place {
	enum config_source source;
	char text[300];
};

/* Read text into the field of c that k names, and remember the source. A list that a weaker source
 * filled is replaced, one of the same source grows. RC_INVALID with the place, the value and what
 * is allowed; RC_NOMEM. */
enum rc config_value_set(const struct config_key *k, size_t index, const struct config_place *p,
	const char *text, struct config *c, struct err *err);
/* Free what the field holds. */
void config_value_done(const struct config_key *k, struct config *c);
/* The field as it would stand in an INI file. */
void config_value_print(const struct config_key *k, const struct config *c, struct buf *out);

#define CONFIG_NUMBER_BYTES 32
/* n as a number, size, time or word of k's kind into out (CONFIG_NUMBER_BYTES). */
void config_value_number(const struct config_key *k, uint64_t n, char *out);

/* The table of config.c. */
extern const struct config_key config_keys[];
extern const size_t config_key_count;
/* The key of that name, or NULL; '-' and '_' are the same. */
const struct config_key *config_key_find(const char *name, size_t len);
bool config_key_is(const char *given, size_t len, const char *name);

#endif
