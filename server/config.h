/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CONFIG_H
#define DG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

/* config: every setting of the server, from one table in config.c.
 *
 * A value comes from a flag (--name=value, --name value), else from the environment
 * (DIGSTORE_NAME), else from the INI file, else from its default. The file is --config or
 * DIGSTORE_CONFIG, which must exist then, or CONFIG_FILE_DEFAULT if that exists.
 * An unknown key, a duplicate, or a value out of range is refused with file and line, variable or
 * flag named. To add a setting: one field here, one row there, and something that reads it.
 * Threads: a loaded struct config is read by all and written by none. */

#define CONFIG_FILE_DEFAULT "/etc/digstore/digstore.conf"
#define CONFIG_KEYS_MAX     64

struct config_list {
	char **items;
	size_t count;
};

enum config_source {
	CONFIG_FROM_DEFAULT,
	CONFIG_FROM_FILE,
	CONFIG_FROM_ENV,
	CONFIG_FROM_FLAG,
};

struct config {
	/* [server] */
	struct config_list listen;
	char *data_dir;
	char *user;
	bool insecure_no_auth;
	uint64_t log_level; /* enum log_level */
	uint64_t drain_timeout_ms;
	/* [database] */
	char *database_url; /* "" = private PostgreSQL below data_dir */
	/* [http] */
	uint64_t http_threads;
	uint64_t op_threads;
	uint64_t op_queue_max;
	uint64_t connections_max;
	uint64_t connection_timeout_ms;
	uint64_t connection_memory_bytes;
	uint64_t header_timeout_ms;
	uint64_t body_rate_min_bytes; /* a second */
	uint64_t body_rate_grace_ms;
	uint64_t linger_timeout_ms;
	uint64_t linger_bytes;
	/* [ingest] */
	uint64_t ingest_threads; /* 0 = two more than cores */
	uint64_t slab_memory_bytes;
	uint64_t chunk_target_bytes;
	uint64_t pack_bytes;
	bool pack_direct;
	uint64_t compress_level_max;
	/* [read] */
	uint64_t read_memory_bytes;
	/* [imports] */
	struct config_list import_roots;
	/* [care] */
	uint64_t recompress_cpu_percent; /* of all cores; 0 = off */
	uint64_t recompress_level;
	uint64_t recompress_after_ms;
	uint64_t recompress_idle_ms;
	uint64_t pack_grace_ms;
	/* [limits] */
	uint64_t stage_ttl_ms;
	uint64_t stage_ttl_max_ms;
	uint64_t stage_memory_bytes;
	uint64_t upload_bytes_max;
	uint64_t archive_entries_max;
	uint64_t archive_expanded_bytes_max;
	uint64_t import_entries_max;
	uint64_t import_bytes_max;

	/* [tuner] */
	uint64_t tuner; /* enum tuner_mode */
	uint64_t tuner_window_ms;
	uint64_t tuner_memory_max_bytes; /* 0 = three quarters of what there is */
	char *knobs_fixed;               /* for knob_fix */

	/* where each value came from, in the order of the table */
	uint8_t source[CONFIG_KEYS_MAX];
};

enum config_action {
	CONFIG_RUN,
	CONFIG_PRINT,   /* --print-config */
	CONFIG_CHECK,   /* --check-config */
	CONFIG_REBUILD, /* --rebuild-index */
	CONFIG_HELP,    /* --help: nothing else was read */
	CONFIG_VERSION, /* --version: nothing else was read */
};

struct config_input {
	int argc;
	char *const *argv;        /* argv[0] is skipped */
	char *const *env;         /* "NAME=value", ends with NULL */
	const char *file_default; /* read if it exists; NULL: none */
};

/* Read everything. On RC_OK *out is owned by the caller (config_done); for CONFIG_HELP and
 * CONFIG_VERSION it holds the defaults. RC_INVALID: err->text is one line for the operator, *out is
 * empty. RC_IO, RC_NOMEM. Warns in the log of DIGSTORE_ variables that mean nothing. */
enum rc config_load(const struct config_input *in, struct config *out, enum config_action *action,
	struct err *err);
/* Free what config_load made. NULL and a zeroed struct are allowed. */
void config_done(struct config *c);

/* Whether somebody gave the setting of that name, or it has its default. */
bool config_is_given(const struct config *c, const char *name);

/* Effective values as an INI file, each with its source in a comment. Holds the password of
 * database_url, if there is one. */
void config_print(const struct config *c, struct buf *out);
/* The text of --help. */
void config_help(struct buf *out);

#endif
