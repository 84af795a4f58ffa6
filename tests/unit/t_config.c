/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "log.h"

#define ARGS_MAX 16

static struct config config;
static enum config_action action;
static struct err err;
static char file_path[64];

/* The file default is what write_file() wrote last; args and env end with NULL. */
static enum rc
load(const char *const *args, const char *const *env)
{
	char *argv[ARGS_MAX + 1] = {strdup("digstored")};
	char *envp[ARGS_MAX + 1] = {NULL};
	int argc = 1;
	int n = 0;

	for (; args != NULL && args[argc - 1] != NULL; argc++)
		argv[argc] = strdup(args[argc - 1]);
	for (; env != NULL && env[n] != NULL; n++)
		envp[n] = strdup(env[n]);
	struct config_input in = {.argc = argc,
		.argv = argv,
		.env = envp,
		.file_default = file_path[0] != '\0' ? file_path : NULL};
	config_done(&config);
	err = (struct err)ERR_INIT;
	enum rc rc = config_load(&in, &config, &action, &err);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	for (int i = 0; i < n; i++)
		free(envp[i]);
	return rc;
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void
write_bytes(const void *data, size_t len)
{
	if (file_path[0] == '\0') {
		snprintf(file_path, sizeof file_path, "/tmp/t_config.XXXXXX");
		close(mkstemp(file_path));
	}
	FILE *f = fopen(file_path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static void
write_file(const char *text)
{
	write_bytes(text, strlen(text));
}

static int
teardown(void **state)
{
	(void)state;
	config_done(&config);
	if (file_path[0] != '\0')
		unlink(file_path);
	file_path[0] = '\0';
	return 0;
}

static int
setup(void **state)
{
	log_set_level(LOG_LEVEL_ERROR);
	return teardown(state);
}

static void
expect_text(const char *part)
{
	if (strstr(err.text, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, err.text);
}

/* ---- tests ---- */

static void
test_defaults(void **state)
{
	(void)state;
	assert_int_equal(load(NULL, NULL), RC_OK);
	assert_int_equal(action, CONFIG_RUN);
	assert_int_equal(config.listen.count, 1);
	assert_string_equal(config.listen.items[0], "127.0.0.1:8420");
	assert_string_equal(config.data_dir, "./var");
	assert_string_equal(config.database_url, "");
	assert_false(config.insecure_no_auth);
	assert_true(config.pack_direct);
	assert_int_equal(config.log_level, LOG_LEVEL_INFO);
	assert_int_equal(config.chunk_target_bytes, 65536);
	assert_int_equal(config.slab_memory_bytes, 64 << 20);
	assert_int_equal(config.stage_ttl_ms, UINT64_C(7) * 24 * 3600 * 1000);
}

static void
test_precedence(void **state)
{
	(void)state;
	write_file("data_dir = /file\nuser = filer\n[http]\nop_threads = 3\n");
	assert_int_equal(load(NULL, NULL), RC_OK);
	assert_string_equal(config.data_dir, "/file");
	assert_int_equal(config.op_threads, 3);
	assert_int_equal(
		load(NULL, LIST("DIGSTORE_DATA_DIR=/env", "DIGSTORE_OP_THREADS=4", "OTHER=x")),
		RC_OK);
	assert_string_equal(config.data_dir, "/env");
	assert_string_equal(config.user, "filer");
	assert_int_equal(config.op_threads, 4);
	assert_int_equal(load(LIST("--data-dir=/flag", "--op_threads", "5"),
				 LIST("DIGSTORE_DATA_DIR=/env", "DIGSTORE_OP_THREADS=4")),
		RC_OK);
	assert_string_equal(config.data_dir, "/flag");
	assert_int_equal(config.op_threads, 5);
	assert_true(config_is_given(&config, "data_dir"));
	assert_true(config_is_given(&config, "user"));
	assert_false(config_is_given(&config, "tuner"));
	assert_false(config_is_given(&config, "no_such_key"));
	/* also if it is what it would have been */
	assert_int_equal(load(LIST("--tuner", "on"), NULL), RC_OK);
	assert_true(config_is_given(&config, "tuner"));
}

static void
test_flags(void **state)
{
	(void)state;
	assert_int_equal(
		load(LIST("--insecure-no-auth", "--log-level", "debug", "--pack-direct=no",
			     "--slab-memory=1GiB", "--stage-ttl", "36h", "--database-url="),
			NULL),
		RC_OK);
	assert_true(config.insecure_no_auth);
	assert_false(config.pack_direct);
	assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(config.slab_memory_bytes, 1 << 30);
	assert_int_equal(config.stage_ttl_ms, 36 * 3600 * 1000);
	assert_int_equal(load(LIST("--colour=red"), NULL), RC_INVALID);
	expect_text("--colour");
	assert_int_equal(load(LIST("--data-dir"), NULL), RC_INVALID);
	expect_text("needs a value");
	assert_int_equal(load(LIST("start"), NULL), RC_INVALID);
	expect_text("\"start\"");
	assert_int_equal(load(LIST("--"), NULL), RC_INVALID);
	assert_int_equal(load(LIST("-x"), NULL), RC_INVALID);
	assert_int_equal(load(LIST("--insecure-no-auth=maybe"), NULL), RC_INVALID);
	expect_text("true or false");
	assert_int_equal(load(LIST("--help=yes"), NULL), RC_INVALID);
	assert_int_equal(load(LIST("--op-threads=0"), NULL), RC_INVALID);
	expect_text("--op-threads: op_threads = \"0\": must be from 1 to 256");
}

static void
test_actions(void **state)
{
	(void)state;
	assert_int_equal(load(LIST("--print-config"), NULL), RC_OK);
	assert_int_equal(action, CONFIG_PRINT);
	assert_int_equal(load(LIST("--check-config", "--op-threads=9"), NULL), RC_OK);
	assert_int_equal(action, CONFIG_CHECK);
	assert_int_equal(load(LIST("--version"), NULL), RC_OK);
	assert_int_equal(action, CONFIG_VERSION);
	/* help is given even where the rest is wrong */
	assert_int_equal(load(LIST("--nonsense=1", "--help", "--check-config"),
				 LIST("DIGSTORE_OP_THREADS=x")),
		RC_OK);
	assert_int_equal(action, CONFIG_HELP);
}

static void
test_lists(void **state)
{
	(void)state;
	write_file("[server]\nlisten = 127.0.0.1:1, [::1]:2 ,unix:/run/x\n");
	assert_int_equal(load(NULL, NULL), RC_OK);
	assert_int_equal(config.listen.count, 3);
	assert_string_equal(config.listen.items[1], "[::1]:2");
	assert_string_equal(config.listen.items[2], "unix:/run/x");
	assert_int_equal(
		load(LIST("--listen=127.0.0.1:5", "--listen", "127.0.0.1:6"), NULL), RC_OK);
	assert_int_equal(config.listen.count, 2);
	assert_string_equal(config.listen.items[0], "127.0.0.1:5");
	assert_int_equal(load(LIST("--listen="), NULL), RC_INVALID);
	assert_int_equal(load(LIST("--listen=127.0.0.1:1,,127.0.0.1:2"), NULL), RC_INVALID);
}

static void
test_folders(void **state)
{
	static const char *const bad[] = {"relative", "./x", "/tmp/../etc", "/tmp/..", "/tmp/.",
		"//tmp", "/tmp//x", "/tmp,", "/no/such/folder", "/etc/passwd"};
	char flag[100];

	(void)state;
	assert_int_equal(load(NULL, NULL), RC_OK);
	assert_int_equal(config.import_roots.count, 0);
	write_file("[imports]\nimport_roots = /tmp, /usr/share/\n");
	assert_int_equal(load(NULL, NULL), RC_OK);
	assert_int_equal(config.import_roots.count, 2);
	assert_string_equal(config.import_roots.items[0], "/tmp");
	assert_string_equal(config.import_roots.items[1], "/usr/share/");
	assert_int_equal(load(LIST("--import-roots=/"), NULL), RC_OK);
	assert_int_equal(config.import_roots.count, 1);
	assert_int_equal(load(LIST("--import-roots="), NULL), RC_OK);
	assert_int_equal(config.import_roots.count, 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(flag, sizeof flag, "--import-roots=%s", bad[i]);
		if (load(LIST(flag), NULL) != RC_INVALID)
			fail_msg("accepted: %s", flag);
		expect_text("--import-roots: import_roots = ");
	}
	write_file("# none\n[imports]\nimport_roots = /no/such/folder\n");
	assert_int_equal(load(NULL, NULL), RC_INVALID);
	expect_text(":3: import_roots = \"/no/such/folder\": must be a directory that exists");
}

static void
test_file_errors_name_the_line(void **state)
{
	static const struct {
		const char *text;
		const char *line;
		const char *part;
	} bad[] = {
		{"\n\ncolour = red\n", ":3:", "unknown key: \"colour\""},
		{"[http]\nop_threads = 1\nop_threads = 2\n", ":3:", "is set already in line 2"},
		{"op_threads = 1\n[http]\nop_threads = 2\n", ":3:", "is set already in line 1"},
		{"# x\n[paint]\n", ":2:", "unknown section: \"paint\""},
		{"[http\n", ":1:", "not a section"},
		{"[server]\nop_threads = 1\n", ":2:", "belongs in section [http]"},
		{"just words\n", ":1:", "name = value"},
		{"op_threads = many\n", ":1:", "a whole number"},
		{"op_threads = 257\n", ":1:", "from 1 to 256"},
		{"op_threads = -1\n", ":1:", "a whole number"},
		{"op_threads =\n", ":1:", "a whole number"},
		{"slab_memory = 64\n", ":1:", "from 8MiB to 64GiB"},
		{"slab_memory = 64MB\n", ":1:", "a size like"},
		{"slab_memory = 99999999999999999TiB\n", ":1:", "a size like"},
		{"stage_ttl = 7\n", ":1:", "a time like"},
		{"stage_ttl = 7w\n", ":1:", "a time like"},
		{"chunk_target = 48KiB\n", ":1:", "one of 16KiB 32KiB 64KiB 128KiB"},
		{"log_level = loud\n", ":1:", "one of error warn info debug"},
		{"log_level =\n", ":1:", "one of error warn info debug"},
		{"pack_direct = 2\n", ":1:", "true or false"},
		{"data_dir =\n", ":1:", "a path"},
		{"data_dir = \"a\tb\"\n", ":1:", "control bytes"},
		{"http.data_dir = x\n", ":1:", "unknown key"},
		{"# x\nlisten = 127.0.0.1:1, nowhere\n", ":2:", "listen: \"nowhere\""},
		{"listen = 127.0.0.1:99999\n", ":1:", "listen: \"127.0.0.1:99999\""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		write_file(bad[i].text);
		if (load(NULL, NULL) != RC_INVALID)
			fail_msg("accepted: %s", bad[i].text);
		expect_text(bad[i].line);
		expect_text(bad[i].part);
		expect_text(file_path);
		assert_null(config.data_dir);
	}
}

static void
test_file_forms(void **state)
{
	(void)state;
	write_file("; comment\r\n  # another\r\nserver.data_dir = \"/a b#c\"  \r\n"
		   "[http]\r\n\top-threads=6\r\n[database]\r\n"
		   "database_url = postgresql://u:p=w#x@h/db?a=b");
	assert_int_equal(load(NULL, NULL), RC_OK);
	assert_string_equal(config.data_dir, "/a b#c");
	assert_int_equal(config.op_threads, 6);
	assert_string_equal(config.database_url, "postgresql://u:p=w#x@h/db?a=b");
	assert_int_equal(load(LIST("--config=/nowhere/at/all"), NULL), RC_IO);
	expect_text("/nowhere/at/all");
	assert_int_equal(load(NULL, LIST("DIGSTORE_CONFIG=/nowhere")), RC_IO);
	write_bytes("data_dir = a\0b\n", 15);
	assert_int_equal(load(NULL, NULL), RC_INVALID);
	expect_text("not a text file");
	unlink(file_path);
	assert_int_equal(load(NULL, NULL), RC_OK);
}

static void
test_listen_is_guarded(void **state)
{
	static const char *const open[] = {
		"0.0.0.0:8420", "*:8420", "[::]:8420", "10.0.0.1:80", "127.0.0.1:1,[fe80::1]:2"};
	static const char *const bad[] = {"8420", "localhost", "example.org:80", "127.0.0.1:x",
		"127.0.0.1:65536", "127.0.0.1:-1", "::1:80", "[::1:80", "unix:relative", ""};
	char flag[100];

	(void)state;
	for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
		snprintf(flag, sizeof flag, "--listen=%s", open[i]);
		assert_int_equal(load(LIST(flag), NULL), RC_INVALID);
		expect_text("--insecure-no-auth");
		assert_int_equal(load(LIST(flag, "--insecure-no-auth"), NULL), RC_OK);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(flag, sizeof flag, "--listen=%s", bad[i]);
		assert_int_equal(load(LIST(flag, "--insecure-no-auth"), NULL), RC_INVALID);
		expect_text("--listen: ");
	}
	assert_int_equal(load(NULL, LIST("DIGSTORE_LISTEN=nowhere")), RC_INVALID);
	expect_text("DIGSTORE_LISTEN: listen: ");
	assert_int_equal(
		load(LIST("--listen=localhost:1,127.9.9.9:2,[::1]:3,unix:/x"), NULL), RC_OK);
	assert_int_equal(load(LIST("--stage-ttl=31d"), NULL), RC_INVALID);
	expect_text("stage_ttl_max");
}

/* What --print-config prints is a file that means the same. */
static void
test_print_round_trip(void **state)
{
	struct buf first;
	struct buf second;

	(void)state;
	buf_init(&first, 1 << 20);
	buf_init(&second, 1 << 20);
	assert_int_equal(
		load(LIST("--data-dir= spaces and \"quotes\" ", "--slab-memory=100MiB",
			     "--listen=[::1]:1,unix:/x", "--drain-timeout=1500ms",
			     "--linger-bytes=0", "--log-level=warn", "--import-roots=/tmp, /usr"),
			LIST("DIGSTORE_USER=me")),
		RC_OK);
	config_print(&config, &first);
	assert_non_null(strstr(buf_cstr(&first), "(environment)\nuser = \"me\""));
	assert_non_null(strstr(buf_cstr(&first), "(flag)\nslab_memory = 100MiB"));
	assert_non_null(strstr(buf_cstr(&first), "(default)\nop_threads = 8"));
	write_file(buf_cstr(&first));
	assert_int_equal(load(NULL, NULL), RC_OK);
	assert_string_equal(config.data_dir, " spaces and \"quotes\" ");
	assert_int_equal(config.drain_timeout_ms, 1500);
	config_print(&config, &second);
	/* only the sources differ */
	write_file(buf_cstr(&second));
	assert_int_equal(load(NULL, NULL), RC_OK);
	buf_clear(&first);
	config_print(&config, &first);
	assert_string_equal(buf_cstr(&first), buf_cstr(&second));
	buf_done(&first);
	buf_done(&second);
}

static void
test_help_names_every_key(void **state)
{
	struct buf help;
	struct buf print;

	(void)state;
	buf_init(&help, 1 << 20);
	buf_init(&print, 1 << 20);
	config_help(&help);
	assert_int_equal(load(NULL, NULL), RC_OK);
	config_print(&config, &print);
	int keys = 0;
	for (const char *line = buf_cstr(&print); line != NULL; line = strchr(line, '\n')) {
		char flag[80];
		line += *line == '\n';
		size_t len = strcspn(line, " \n");
		if (len == 0 || strncmp(line + len, " = ", 3) != 0)
			continue;
		snprintf(flag, sizeof flag, "  --%.*s ", (int)len, line);
		for (char *p = flag; *p != '\0'; p++)
			if (*p == '_')
				*p = '-';
		if (strstr(buf_cstr(&help), flag) == NULL)
			fail_msg("%s is not in the help", flag);
		keys++;
	}
	assert_true(keys > 20);
	buf_done(&help);
	buf_done(&print);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_precedence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flags, setup, teardown),
		cmocka_unit_test_setup_teardown(test_actions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folders, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_errors_name_the_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_forms, setup, teardown),
		cmocka_unit_test_setup_teardown(test_listen_is_guarded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_print_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_help_names_every_key, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
