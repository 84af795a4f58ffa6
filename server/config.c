/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_ini.h"
#include "config_value.h"
#include "endpoint.h"
#include "log.h"

#define LIST_MAX   64
#define ENV_PREFIX "DIGSTORE_"

#define KIB    (UINT64_C(1) << 10)
#define MIB    (UINT64_C(1) << 20)
#define GIB    (UINT64_C(1) << 30)
#define TIB    (UINT64_C(1) << 40)
#define SECOND UINT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

#define AT(field) offsetof(struct config, field)

const struct config_key config_keys[] = {
	{"server", "listen", KEY_ENDPOINTS, AT(listen), 1, LIST_MAX, "127.0.0.1:8420", NULL,
		"addresses to listen at: HOST:PORT, [IPV6]:PORT, *:PORT or unix:/path"},
	{"server", "data_dir", KEY_PATH, AT(data_dir), 0, 0, "./var", NULL,
		"folder that holds everything the server stores"},
	{"server", "user", KEY_STRING, AT(user), 0, 0, "digstore", NULL,
		"user to become when started as root"},
	{"server", "insecure_no_auth", KEY_BOOL, AT(insecure_no_auth), 0, 0, "false", NULL,
		"listen beyond this machine although nobody is asked who they are"},
	{"server", "log_level", KEY_ENUM, AT(log_level), 0, 0, "info", "error warn info debug",
		"least important events that are logged"},
	{"server", "drain_timeout", KEY_DURATION, AT(drain_timeout_ms), 0, HOUR, "30s", NULL,
		"how long requests may go on after a signal to stop"},
	{"database", "database_url", KEY_STRING, AT(database_url), 0, 0, "", NULL,
		"PostgreSQL to use; empty: a private one below data_dir"},
	{"http", "http_threads", KEY_INT, AT(http_threads), 1, 64, "2", NULL,
		"threads that move bytes between sockets and the rest"},
	{"http", "op_threads", KEY_INT, AT(op_threads), 1, 256, "8", NULL,
		"threads that run operations which wait for disk or database"},
	{"http", "op_queue_max", KEY_INT, AT(op_queue_max), 1, 1000000, "4096", NULL,
		"operations that may wait for such a thread before new ones get 503"},
	{"http", "connections_max", KEY_INT, AT(connections_max), 8, 1000000, "12000", NULL,
		"open connections; further ones wait to be accepted"},
	{"http", "connection_timeout", KEY_DURATION, AT(connection_timeout_ms), SECOND, HOUR, "60s",
		NULL, "silence after which a connection is closed"},
	{"http", "connection_memory", KEY_BYTES, AT(connection_memory_bytes), 32 * KIB, 4 * MIB,
		"64KiB", NULL, "buffer of one connection"},
	{"http", "header_timeout", KEY_DURATION, AT(header_timeout_ms), SECOND, 10 * MINUTE, "10s",
		NULL, "time for the headers of a request to arrive"},
	{"http", "body_rate_min", KEY_BYTES, AT(body_rate_min_bytes), 0, GIB, "1KiB", NULL,
		"bytes a second that a request body must bring; 0: any"},
	{"http", "body_rate_grace", KEY_DURATION, AT(body_rate_grace_ms), SECOND, HOUR, "30s", NULL,
		"time over which body_rate_min is measured"},
	{"http", "linger_timeout", KEY_DURATION, AT(linger_timeout_ms), 0, MINUTE, "5s", NULL,
		"how long the rest of a refused upload is discarded, so that the answer arrives"},
	{"http", "linger_bytes", KEY_BYTES, AT(linger_bytes), 0, TIB, "64MiB", NULL,
		"how much of it is discarded at most"},
	{"ingest", "ingest_threads", KEY_INT, AT(ingest_threads), 0, 64, "0", NULL,
		"threads that hash, compress and write; 0: two more than cores"},
	{"ingest", "slab_memory", KEY_BYTES, AT(slab_memory_bytes), 8 * MIB, 64 * GIB, "64MiB",
		NULL, "buffers of all uploads together"},
	{"ingest", "chunk_target", KEY_BYTES, AT(chunk_target_bytes), 0, UINT64_MAX, "64KiB",
		"16KiB 32KiB 64KiB 128KiB", "mean chunk size of repositories created from now on"},
	{"ingest", "pack_bytes", KEY_BYTES, AT(pack_bytes), MIB, GIB, "64MiB", NULL,
		"size at which a pack file is full"},
	{"ingest", "pack_direct", KEY_BOOL, AT(pack_direct), 0, 0, "true", NULL,
		"write packs around the page cache where the file system allows it"},
	{"ingest", "compress_level_max", KEY_INT, AT(compress_level_max), 1, 19, "1", NULL,
		"highest zstd level for uploads"},
	{"read", "read_memory", KEY_BYTES, AT(read_memory_bytes), MIB, 1024 * GIB, "64MiB", NULL,
		"what is kept in memory for the next reader: expanded frames, lists of chunks"},
	{"imports", "import_roots", KEY_FOLDERS, AT(import_roots), 0, LIST_MAX, "", NULL,
		"folders of this machine that clients may import from; empty: none"},
	{"care", "recompress_cpu_percent", KEY_INT, AT(recompress_cpu_percent), 0, 100, "50", NULL,
		"share of all cores for recompressing packs while nobody else works; 0: off"},
	{"care", "recompress_level", KEY_INT, AT(recompress_level), 1, 19, "19", NULL,
		"zstd level of recompressed packs"},
	{"care", "recompress_after", KEY_DURATION, AT(recompress_after_ms), 0, 3650 * DAY, "10m",
		NULL, "time after which a pack that is not written any more is recompressed"},
	{"care", "recompress_idle", KEY_DURATION, AT(recompress_idle_ms), 0, HOUR, "3s", NULL,
		"time without uploads, downloads and commits before it is"},
	{"care", "pack_grace", KEY_DURATION, AT(pack_grace_ms), 0, 30 * DAY, "10m", NULL,
		"how long a pack that was replaced stays, for those who are reading from it"},
	{"limits", "stage_ttl", KEY_DURATION, AT(stage_ttl_ms), SECOND, 3650 * DAY, "7d", NULL,
		"life of a stage that asks for none"},
	{"limits", "stage_ttl_max", KEY_DURATION, AT(stage_ttl_max_ms), SECOND, 3650 * DAY, "30d",
		NULL, "longest life a stage may ask for"},
	{"limits", "stage_memory", KEY_BYTES, AT(stage_memory_bytes), 64 * KIB, TIB, "1GiB", NULL,
		"memory for the list of one stage's files, about 100 bytes each; then it is full"},
	{"limits", "upload_bytes_max", KEY_BYTES, AT(upload_bytes_max), 1, INT64_MAX, "5TiB", NULL,
		"largest body of one upload"},
	{"limits", "archive_entries_max", KEY_INT, AT(archive_entries_max), 1, 1000000000,
		"1000000", NULL, "most entries in one uploaded archive"},
	{"limits", "archive_expanded_bytes_max", KEY_BYTES, AT(archive_expanded_bytes_max), 1,
		INT64_MAX, "1TiB", NULL, "most bytes that one uploaded archive may unpack to"},
	{"limits", "import_entries_max", KEY_INT, AT(import_entries_max), 1, 1000000000, "1000000",
		NULL, "most files, folders and others in one imported folder"},
	{"limits", "import_bytes_max", KEY_BYTES, AT(import_bytes_max), 1, INT64_MAX, "5TiB", NULL,
		"most bytes of the files in one imported folder"},
	{"tuner", "tuner", KEY_ENUM, AT(tuner), 0, 0, "on", "on frozen off",
		"try settings while there is steady load and keep what is faster; frozen: use "
		"what was learnt, try nothing; off: the settings given here"},
	{"tuner", "tuner_window", KEY_DURATION, AT(tuner_window_ms), 100, 10 * MINUTE, "5s", NULL,
		"time over which the load is measured for one comparison"},
	{"tuner", "tuner_memory_max", KEY_BYTES, AT(tuner_memory_max_bytes), 0, TIB, "0", NULL,
		"no setting is tried that takes the server's memory above this; 0: three quarters "
		"of the machine's, or of its control group's limit"},
	{"tuner", "knobs_fixed", KEY_STRING, AT(knobs_fixed), 0, 0, "", NULL,
		"numbers that are not to be turned: NAME=VALUE between spaces, named as GET "
		"/v1/admin/tuner does"},
};
#define KEY_COUNT (sizeof config_keys / sizeof config_keys[0])
const size_t config_key_count = KEY_COUNT;
_Static_assert(KEY_COUNT <= CONFIG_KEYS_MAX, "struct config remembers too few sources");

struct action_flag {
	const char *name;
	enum config_action action;
	const char *help;
};

static const struct action_flag action_flags[] = {
	{"print-config", CONFIG_PRINT, "print the effective settings as an INI file and exit"},
	{"check-config", CONFIG_CHECK, "check the settings and exit"},
	{"rebuild-index", CONFIG_REBUILD, "make the chunk index anew from the packs and exit"},
	{"help", CONFIG_HELP, "print this and exit"},
	{"version", CONFIG_VERSION, "print the version and exit"},
};
#define ACTION_COUNT (sizeof action_flags / sizeof action_flags[0])

bool
config_key_is(const char *given, size_t len, const char *name)
{
	if (strlen(name) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((given[i] == '-' ? '_' : given[i]) != (name[i] == '-' ? '_' : name[i]))
			return false;
	return true;
}

const struct config_key *
config_key_find(const char *name, size_t len)
{
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (config_key_is(name, len, config_keys[i].name))
			return &config_keys[i];
	return NULL;
}

static enum rc
set_defaults(struct config *c, struct err *err)
{
	struct config_place p = {.source = CONFIG_FROM_DEFAULT, .text = "default"};

	for (size_t i = 0; i < KEY_COUNT; i++)
		if (config_value_set(&config_keys[i], i, &p, config_keys[i].fallback, c, err) !=
			RC_OK)
			return err->rc;
	return RC_OK;
}

/* ---- environment ---- */

static void
env_name(const struct config_key *k, char *out, size_t out_bytes)
{
	size_t n = (size_t)snprintf(out, out_bytes, ENV_PREFIX "%s", k->name);

	for (size_t i = 0; i < n && i < out_bytes; i++)
		out[i] = (char)toupper((unsigned char)out[i]);
}

static const char *
env_value(char *const *env, const char *name)
{
	size_t len = strlen(name);

	for (; env != NULL && *env != NULL; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}

/* Refusing to start would be wrong here: an orchestrator that runs a service named "digstore" puts
 * DIGSTORE_PORT and more of its own into the environment. */
static void
warn_unknown_env(const char *entry)
{
	static const char *const others[] = {"CONFIG", "ABORT_ON_BUG", "BUILD", "TEST_"};
	const char *name = entry + strlen(ENV_PREFIX);
	size_t len = strcspn(name, "=");
	char lower[64];

	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (strncmp(name, others[i], strlen(others[i])) == 0)
			return;
	if (len >= sizeof lower)
		return;
	for (size_t i = 0; i < len; i++)
		lower[i] = (char)tolower((unsigned char)name[i]);
	if (config_key_find(lower, len) == NULL)
		log_event(LOG_LEVEL_WARN, "config_unknown_variable", "name=%s%.*s", ENV_PREFIX,
			(int)len, name);
}

static enum rc
load_env(char *const *env, struct config *c, struct err *err)
{
	for (size_t i = 0; i < KEY_COUNT; i++) {
		struct config_place p = {.source = CONFIG_FROM_ENV};
		env_name(&config_keys[i], p.text, sizeof p.text);
		const char *value = env_value(env, p.text);
		if (value != NULL &&
			config_value_set(&config_keys[i], i, &p, value, c, err) != RC_OK)
			return err->rc;
	}
	for (; env != NULL && *env != NULL; env++)
		if (strncmp(*env, ENV_PREFIX, strlen(ENV_PREFIX)) == 0)
			warn_unknown_env(*env);
	return RC_OK;
}

/* ---- flags ---- */

struct flag {
	const char *name; /* without "--" */
	size_t name_len;
	const char *value; /* NULL: a bool or an action that stands alone */
};

/* Whether the flag takes its value from the next argument when it has no '='. */
static bool
wants_value(const char *name, size_t len)
{
	const struct config_key *k = config_key_find(name, len);

	return config_key_is(name, len, "config") || (k != NULL && k->type != KEY_BOOL);
}

/* The flag at argv[*i]; *i moves past what was used. */
static enum rc
next_flag(const struct config_input *in, int *i, struct flag *out, struct err *err)
{
	const char *arg = in->argv[(*i)++];

	if (strncmp(arg, "--", 2) != 0 || arg[2] == '\0')
		return err_set(err, RC_INVALID, NULL,
			"unexpected argument \"%.80s\"; see digstored --help", arg);
	out->name = arg + 2;
	out->name_len = strcspn(out->name, "=");
	out->value = out->name[out->name_len] == '=' ? out->name + out->name_len + 1 : NULL;
	if (out->value != NULL || !wants_value(out->name, out->name_len))
		return RC_OK;
	if (*i >= in->argc)
		return err_set(err, RC_INVALID, NULL, "%.80s needs a value", arg);
	out->value = in->argv[(*i)++];
	return RC_OK;
}

static const struct action_flag *
find_action(const struct flag *f)
{
	for (size_t i = 0; i < ACTION_COUNT; i++)
		if (f->value == NULL && config_key_is(f->name, f->name_len, action_flags[i].name))
			return &action_flags[i];
	return NULL;
}

/* First round over the flags: what to do, and which file. */
static enum rc
scan_flags(const struct config_input *in, enum config_action *action, const char **file,
	struct err *err)
{
	struct flag f;

	for (int i = 1; i < in->argc;) {
		if (next_flag(in, &i, &f, err) != RC_OK)
			return err->rc;
		const struct action_flag *a = find_action(&f);
		if (a != NULL && *action != CONFIG_HELP && *action != CONFIG_VERSION)
			*action = a->action;
		if (config_key_is(f.name, f.name_len, "config"))
			*file = f.value;
	}
	return RC_OK;
}

static enum rc
load_flags(const struct config_input *in, struct config *c, struct err *err)
{
	struct flag f;

	for (int i = 1; i < in->argc;) {
		if (next_flag(in, &i, &f, err) != RC_OK)
			return err->rc;
		if (find_action(&f) != NULL || config_key_is(f.name, f.name_len, "config"))
			continue;
		const struct config_key *k = config_key_find(f.name, f.name_len);
		if (k == NULL)
			return err_set(err, RC_INVALID, NULL,
				"unknown flag --%.*s; see digstored --help", (int)f.name_len,
				f.name);
		struct config_place p = {.source = CONFIG_FROM_FLAG};
		snprintf(p.text, sizeof p.text, "--%.*s", (int)f.name_len, f.name);
		const char *value = f.value != NULL ? f.value : "true";
		if (config_value_set(k, (size_t)(k - config_keys), &p, value, c, err) != RC_OK)
			return err->rc;
	}
	return RC_OK;
}

/* ---- all of it ---- */

static enum rc
check_listen(const struct config *c, struct err *err)
{
	struct endpoint e;

	for (size_t i = 0; i < c->listen.count; i++) {
		const char *text = c->listen.items[i];
		if (endpoint_parse(text, &e, err) != RC_OK)
			return err->rc;
		if (!endpoint_is_local(&e) && !c->insecure_no_auth)
			return err_set(err, RC_INVALID, NULL,
				"listen = %.64s would let other machines in, and there is no "
				"authentication yet: listen at 127.0.0.1, [::1] or unix:/path, or "
				"say --insecure-no-auth if everybody who reaches that address may "
				"read, write and delete everything",
				text);
	}
	return RC_OK;
}

static enum rc
check_all(const struct config *c, struct err *err)
{
	if (check_listen(c, err) != RC_OK)
		return err->rc;
	if (c->stage_ttl_ms > c->stage_ttl_max_ms)
		return err_set(err, RC_INVALID, NULL, "stage_ttl is longer than stage_ttl_max");
	return RC_OK;
}

static enum rc
load_all(const struct config_input *in, struct config *c, enum config_action *action,
	struct err *err)
{
	const char *file = env_value(in->env, ENV_PREFIX "CONFIG");

	if (set_defaults(c, err) != RC_OK || scan_flags(in, action, &file, err) != RC_OK)
		return err->rc;
	if (*action == CONFIG_HELP || *action == CONFIG_VERSION)
		return RC_OK;
	bool given = file != NULL && file[0] != '\0';
	if (!given)
		file = in->file_default;
	if (file != NULL && config_ini_load(file, given, c, err) != RC_OK)
		return err->rc;
	if (load_env(in->env, c, err) != RC_OK || load_flags(in, c, err) != RC_OK)
		return err->rc;
	return check_all(c, err);
}

enum rc
config_load(const struct config_input *in, struct config *out, enum config_action *action,
	struct err *err)
{
	memset(out, 0, sizeof *out);
	*action = CONFIG_RUN;
	enum rc rc = load_all(in, out, action, err);
	if (rc != RC_OK)
		config_done(out);
	return rc;
}

void
config_done(struct config *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < KEY_COUNT; i++)
		config_value_done(&config_keys[i], c);
	memset(c, 0, sizeof *c);
}

bool
config_is_given(const struct config *c, const char *name)
{
	const struct config_key *k = config_key_find(name, strlen(name));

	return k != NULL && c->source[k - config_keys] != CONFIG_FROM_DEFAULT;
}

/* ---- printing ---- */

void
config_print(const struct config *c, struct buf *out)
{
	static const char *const sources[] = {"default", "file", "environment", "flag"};
	const char *section = "";

	for (size_t i = 0; i < KEY_COUNT; i++) {
		const struct config_key *k = &config_keys[i];
		if (strcmp(section, k->section) != 0)
			buf_addf(out, "%s[%s]\n", i > 0 ? "\n" : "", k->section);
		section = k->section;
		buf_addf(out, "# %s (%s)\n%s = ", k->help, sources[c->source[i]], k->name);
		config_value_print(k, c, out);
		buf_add_str(out, "\n");
	}
}

static void
help_key(const struct config_key *k, struct buf *out)
{
	char low[CONFIG_NUMBER_BYTES];
	char high[CONFIG_NUMBER_BYTES];
	char flag[64];
	bool ranged = k->type == KEY_INT || k->type == KEY_BYTES || k->type == KEY_DURATION;

	snprintf(flag, sizeof flag, "%s", k->name);
	for (char *p = flag; *p != '\0'; p++)
		if (*p == '_')
			*p = '-';
	buf_addf(out, "  --%-28s %s\n", flag, k->help);
	buf_addf(out, "  %-30s default %s", "", k->fallback[0] != '\0' ? k->fallback : "empty");
	if (k->choices != NULL) {
		buf_addf(out, "; one of %s", k->choices);
	} else if (ranged) {
		config_value_number(k, k->min, low);
		config_value_number(k, k->max, high);
		buf_addf(out, "; %s to %s", low, high);
	}
	buf_add_str(out, "\n");
}

void
config_help(struct buf *out)
{
	const char *section = "";

	buf_add_str(out,
		"Usage: digstored [--NAME=VALUE | --NAME VALUE]...\n\n"
		"Every setting can be given as a flag, as a variable DIGSTORE_NAME, or as\n"
		"\"name = value\" in an INI file; the first of these that names it wins.\n\n");
	for (size_t i = 0; i < ACTION_COUNT; i++)
		buf_addf(out, "  --%-28s %s\n", action_flags[i].name, action_flags[i].help);
	buf_addf(out, "  --%-28s INI file to read (default %s, if it exists)\n", "config FILE",
		CONFIG_FILE_DEFAULT);
	for (size_t i = 0; i < KEY_COUNT; i++) {
		if (strcmp(section, config_keys[i].section) != 0)
			buf_addf(out, "\n[%s]\n", config_keys[i].section);
		section = config_keys[i].section;
		help_key(&config_keys[i], out);
	}
}
