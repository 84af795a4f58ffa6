/* SPDX-License-Identifier: Apache-2.0 */
#include "config_ini.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_value.h"

#define FILE_BYTES_MAX (1u << 20)

struct ini {
	const char *path;
	unsigned line;
	char section[32];
	unsigned seen_line[CONFIG_KEYS_MAX]; /* 0 = not yet */
};

static enum rc
refuse_line(const struct ini *ini, const char *what, const char *text, struct err *err)
{
	return err_set(
		err, RC_INVALID, NULL, "%s:%u: %s: \"%.80s\"", ini->path, ini->line, what, text);
}

static char *
trim(char *s)
{
	s += strspn(s, " \t\r");
	size_t len = strlen(s);
	while (len > 0 && strchr(" \t\r", s[len - 1]) != NULL)
		len--;
	s[len] = '\0';
	return s;
}

static bool
section_exists(const char *name)
{
	for (size_t i = 0; i < config_key_count; i++)
		if (strcmp(config_keys[i].section, name) == 0)
			return true;
	return false;
}

static enum rc
read_section(struct ini *ini, char *line, struct err *err)
{
	size_t len = strlen(line);

	if (line[len - 1] != ']' || len - 2 >= sizeof ini->section)
		return refuse_line(ini, "not a section", line, err);
	line[len - 1] = '\0';
	if (!section_exists(trim(line + 1)))
		return refuse_line(ini, "unknown section", line + 1, err);
	snprintf(ini->section, sizeof ini->section, "%s", trim(line + 1));
	return RC_OK;
}

/* The key of a line, named alone or as section.name, before the first section or in its own. */
static const struct config_key *
find_line_key(const struct ini *ini, const char *name)
{
	const char *dot = strchr(name, '.');
	const char *bare = dot != NULL ? dot + 1 : name;
	const struct config_key *k = config_key_find(bare, strlen(bare));

	if (k == NULL)
		return NULL;
	if (dot != NULL && !config_key_is(name, (size_t)(dot - name), k->section))
		return NULL;
	if (dot == NULL && ini->section[0] != '\0' && strcmp(ini->section, k->section) != 0)
		return NULL;
	return k;
}

static char *
unquote(char *value)
{
	size_t len = strlen(value);

	if (len < 2 || value[0] != '"' || value[len - 1] != '"')
		return value;
	value[len - 1] = '\0';
	return value + 1;
}

static enum rc
read_assignment(struct ini *ini, char *line, struct config *c, struct err *err)
{
	char *eq = strchr(line, '=');
	struct config_place p = {.source = CONFIG_FROM_FILE};

	if (eq == NULL)
		return refuse_line(ini, "neither a section nor name = value", line, err);
	*eq = '\0';
	char *name = trim(line);
	const struct config_key *k = find_line_key(ini, name);
	if (k == NULL) {
		const struct config_key *other = config_key_find(name, strlen(name));
		if (other == NULL)
			return refuse_line(ini, "unknown key", name, err);
		return err_set(err, RC_INVALID, NULL, "%s:%u: \"%s\" belongs in section [%s]",
			ini->path, ini->line, name, other->section);
	}
	unsigned *seen = &ini->seen_line[k - config_keys];
	if (*seen != 0)
		return err_set(err, RC_INVALID, NULL, "%s:%u: \"%s\" is set already in line %u",
			ini->path, ini->line, k->name, *seen);
	*seen = ini->line;
	snprintf(p.text, sizeof p.text, "%.250s:%u", ini->path, ini->line);
	return config_value_set(k, (size_t)(k - config_keys), &p, unquote(trim(eq + 1)), c, err);
}

static enum rc
parse_ini(const char *path, char *text, struct config *c, struct err *err)
{
	struct ini ini = {.path = path};

	while (text != NULL) {
		char *line = text;
		char *end = strchr(text, '\n');
		text = end != NULL ? end + 1 : NULL;
		if (end != NULL)
			*end = '\0';
		ini.line++;
		line = trim(line);
		if (line[0] == '\0' || line[0] == '#' || line[0] == ';')
			continue;
		enum rc rc = line[0] == '[' ? read_section(&ini, line, err)
					    : read_assignment(&ini, line, c, err);
		if (rc != RC_OK)
			return rc;
	}
	return RC_OK;
}

/* The whole file as text into *out (owned by the caller). */
static enum rc
read_text(int fd, const char *path, char **out, struct err *err)
{
	struct buf b;
	uint8_t piece[4096];
	ssize_t n;

	buf_init(&b, FILE_BYTES_MAX);
	while ((n = read(fd, piece, sizeof piece)) > 0)
		buf_add(&b, piece, (size_t)n);
	if (n < 0)
		err_errno(err, errno, "read the configuration file", path);
	else if (!buf_ok(&b) || memchr(b.data, '\0', b.len) != NULL)
		err_set(err, RC_INVALID, NULL, "%s: not a text file of at most %u bytes", path,
			FILE_BYTES_MAX);
	else if ((*out = strdup(buf_cstr(&b))) == NULL)
		err_set(err, RC_NOMEM, "no-memory", "no memory for the settings");
	buf_done(&b);
	return err->rc;
}

enum rc
config_ini_load(const char *path, bool must_exist, struct config *c, struct err *err)
{
	char *text = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT && !must_exist)
		return RC_OK;
	if (fd < 0) {
		err_set(err, RC_IO, NULL, "cannot read the configuration file %s", path);
		return err_detail(err, "errno %d", errno);
	}
	if (read_text(fd, path, &text, err) == RC_OK)
		parse_ini(path, text, c, err);
	free(text);
	close(fd);
	return err->rc;
}
