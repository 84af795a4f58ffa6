/* SPDX-License-Identifier: Apache-2.0 */
/* What is logged is read back: standard error is a file while a line is made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"

static int saved_stderr = -1;
static int file = -1;
static char text[1 << 20];

static void
capture(void)
{
	saved_stderr = dup(STDERR_FILENO);
	file = memfd_create("log", MFD_CLOEXEC);
	assert_true(saved_stderr >= 0 && file >= 0);
	assert_int_equal(fcntl(file, F_SETFL, O_APPEND), 0);
	assert_int_equal(dup2(file, STDERR_FILENO), STDERR_FILENO);
}

/* What came since capture; its length. */
static size_t
captured(void)
{
	assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
	ssize_t n = pread(file, text, sizeof text - 1, 0);
	assert_true(n >= 0);
	text[n] = '\0';
	close(saved_stderr);
	close(file);
	return (size_t)n;
}

static void
a_line_is_time_level_event_values(void **state)
{
	(void)state;
	capture();
	log_event(LOG_LEVEL_INFO, "started", "port=%d name=%s", 80, "x");
	size_t len = captured();
	assert_true(len > 28);
	/* 2026-11-22T10:11:12.345678Z */
	assert_int_equal(text[4], '-');
	assert_int_equal(text[10], 'T');
	assert_int_equal(text[26], 'Z');
	assert_string_equal(text + 27, " info started port=80 name=x\n");
}

static void
levels_are_kept_apart(void **state)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	(void)state;

	for (int max = LOG_LEVEL_ERROR; max <= LOG_LEVEL_DEBUG; max++) {
		log_set_level((enum log_level)max);
		capture();
		for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++)
			log_event((enum log_level)level, "e", "x");
		captured();
		for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
			char wanted[32];
			snprintf(wanted, sizeof wanted, " %s e x\n", names[level]);
			assert_int_equal(strstr(text, wanted) != NULL, level <= max);
		}
	}
	log_set_level(LOG_LEVEL_INFO);
	for (int i = 0; i < 4; i++)
		assert_int_equal(log_level_parse(names[i]), i);
	assert_int_equal(log_level_parse(""), -1);
	assert_int_equal(log_level_parse("Error"), -1);
	assert_int_equal(log_level_parse("infos"), -1);
}

/* No client can write a line of its own, or move the cursor of the terminal. */
static void
one_event_is_one_line(void **state)
{
	char all[256];
	(void)state;

	for (int i = 1; i < 256; i++)
		all[i - 1] = (char)i;
	all[255] = '\0';
	capture();
	log_event(LOG_LEVEL_ERROR, "e", "path=%s", all);
	size_t len = captured();
	assert_int_equal(text[len - 1], '\n');
	for (size_t i = 0; i + 1 < len; i++)
		assert_true((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
	assert_non_null(strstr(text, "ABCDEF"));
}

static void
long_lines_are_cut(void **state)
{
	static char value[4000];
	(void)state;

	for (size_t n = 1400; n < sizeof value; n += n < 1600 ? 1 : 97) {
		memset(value, 'v', n);
		value[n] = '\0';
		capture();
		log_event(LOG_LEVEL_ERROR, "e", "%s", value);
		size_t len = captured();
		assert_true(len < 1600);
		assert_int_equal(text[len - 1], '\n');
		assert_int_equal(text[len - 2], 'v');
		assert_null(memchr(text, '\0', len));
	}
}

#define THREADS 8
#define LINES   500

static void *
log_lines(void *arg)
{
	const char *name = arg;

	for (int i = 0; i < LINES; i++)
		log_event(LOG_LEVEL_WARN, "line", "%.*s", 20 + i % 40, name);
	return NULL;
}

static void
lines_of_threads_do_not_mix(void **state)
{
	static char names[THREADS][64];
	pthread_t threads[THREADS];
	int lines = 0;
	(void)state;

	capture();
	for (int i = 0; i < THREADS; i++) {
		memset(names[i], 'a' + i, sizeof names[i] - 1);
		assert_int_equal(pthread_create(&threads[i], NULL, log_lines, names[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	captured();
	for (char *at = text, *end; *at != '\0'; at = end + 1, lines++) {
		end = strchr(at, '\n');
		assert_non_null(end);
		const char *value = strstr(at, " warn line ");
		assert_non_null(value);
		for (const char *p = value += 11; p < end; p++)
			assert_int_equal(*p, *value);
		assert_true(end - value >= 20 && end - value < 60);
	}
	assert_int_equal(lines, THREADS * LINES);
}

static void
a_lost_line_is_counted(void **state)
{
	unsigned long before = log_dropped();
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	(void)state;

	assert_true(full >= 0);
	saved_stderr = dup(STDERR_FILENO);
	dup2(full, STDERR_FILENO);
	log_event(LOG_LEVEL_ERROR, "e", "x");
	log_event(LOG_LEVEL_DEBUG, "e", "not even tried");
	close(STDERR_FILENO);
	log_event(LOG_LEVEL_ERROR, "e", "x");
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(full);
	assert_int_equal(log_dropped() - before, 2);
}

static void
a_bug_is_logged_and_counted(void **state)
{
	unsigned long before = bug_count();
	(void)state;

	unsetenv("DIGSTORE_ABORT_ON_BUG");
	capture();
	bug("that was %s", "wrong");
	captured();
	assert_int_equal(bug_count() - before, 1);
	assert_non_null(strstr(text, " error bug at="));
	assert_non_null(strstr(text, "t_log.c:"));
	assert_non_null(strstr(text, "what=\"that was wrong\""));
}

static void
a_bug_ends_a_test(void **state)
{
	int status;
	(void)state;

	pid_t pid = fork();
	if (pid == 0) {
		const struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		setenv("DIGSTORE_ABORT_ON_BUG", "1", 1);
		sigaction(SIGABRT, &(struct sigaction){.sa_handler = SIG_DFL}, NULL); /* cmocka's */
		close(STDERR_FILENO);
		bug("end");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_time_level_event_values),
		cmocka_unit_test(levels_are_kept_apart),
		cmocka_unit_test(one_event_is_one_line),
		cmocka_unit_test(long_lines_are_cut),
		cmocka_unit_test(lines_of_threads_do_not_mix),
		cmocka_unit_test(a_lost_line_is_counted),
		cmocka_unit_test(a_bug_is_logged_and_counted),
		cmocka_unit_test(a_bug_ends_a_test),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
