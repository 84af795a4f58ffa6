/* SPDX-License-Identifier: Apache-2.0 */
#include "show_entry.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"

#define SECOND_NS INT64_C(1000000000)

void
show_file_id_text(const struct content *c, char *out)
{
	char hex[SHA256_HEX_BYTES];

	sha256_hex(&c->id, hex);
	snprintf(out, SHOW_FILE_ID_BYTES, "%s:%s", c->kind == CONTENT_RECIPE ? "recipe" : "chunk",
		hex);
}

json_t *
show_file_id(const struct content *c)
{
	char text[SHOW_FILE_ID_BYTES];

	show_file_id_text(c, text);
	return json_string(text);
}

json_t *
show_hash(const struct sha256 *h)
{
	char hex[SHA256_HEX_BYTES];

	sha256_hex(h, hex);
	return json_string(hex);
}

json_t *
show_time(int64_t wall_us)
{
	char text[CLOCK_RFC3339_BYTES];

	clock_rfc3339(wall_us, text);
	return json_string(text);
}

json_t *
show_mtime(int64_t mtime_ns)
{
	char whole[CLOCK_RFC3339_BYTES];
	char text[CLOCK_RFC3339_BYTES + 12];
	int64_t seconds = mtime_ns / SECOND_NS;
	int64_t ns = mtime_ns % SECOND_NS;

	if (mtime_ns == 0)
		return json_null();
	if (ns < 0) {
		ns += SECOND_NS;
		seconds--;
	}
	clock_rfc3339(seconds * 1000000, whole);
	int len = snprintf(
		text, sizeof text, "%.*s.%09lld", (int)strcspn(whole, "."), whole, (long long)ns);
	while (text[len - 1] == '0')
		len--;
	if (text[len - 1] == '.')
		len--;
	text[len] = 'Z';
	return json_stringn(text, (size_t)len + 1);
}

json_t *
show_mode(uint32_t mode)
{
	char text[8];

	snprintf(text, sizeof text, "0%03o", (unsigned)mode & 0777);
	return json_string(text);
}

json_t *
show_entry(const struct tree_entry *e)
{
	return json_pack("{s:o, s:s, s:I, s:o, s:o, s:o}", "path",
		json_stringn(e->path, e->path_len), "type", "file", "size",
		(json_int_t)e->content.size, "file_id", show_file_id(&e->content), "mode",
		show_mode(e->mode), "mtime", show_mtime(e->mtime_ns));
}

json_t *
show_prefix(const char *name, size_t len)
{
	return json_pack("{s:o, s:s}", "path", json_stringn(name, len), "type", "prefix");
}

json_t *
show_page(json_t *items, json_t *cursor)
{
	return json_pack(
		"{s:o, s:o}", "items", items, "next_cursor", cursor != NULL ? cursor : json_null());
}
