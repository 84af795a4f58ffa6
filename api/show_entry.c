/* SPDX-License-Identifier: Apache-2.0 */
#include "show_entry.h"

#include <string.h>

#include "clock.h"

void
show_file_id_text(const struct content *c, char *out)
{
	const char *kind = c->kind == CONTENT_RECIPE ? "recipe:" : "chunk:";
	size_t len = strlen(kind);

	memcpy(out, kind, len);
	sha256_hex(&c->id, out + len);
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

/* Of what JSON escapes only the quote can be in a checked path. */
void
show_path_text(struct buf *out, const char *path, size_t len)
{
	buf_add_u8(out, '"');
	for (const char *quote; (quote = memchr(path, '"', len)) != NULL;) {
		size_t before = (size_t)(quote - path);
		buf_add(out, path, before);
		buf_add(out, "\\\"", 2);
		path += before + 1;
		len -= before + 1;
	}
	buf_add(out, path, len);
	buf_add_u8(out, '"');
}

static void
add_mtime(struct buf *out, int64_t mtime_ns)
{
	char text[CLOCK_RFC3339_NS_BYTES];

	if (mtime_ns == 0) {
		buf_add_str(out, "null");
		return;
	}
	clock_rfc3339_ns(mtime_ns, text);
	buf_add_u8(out, '"');
	buf_add_str(out, text);
	buf_add_u8(out, '"');
}

void
show_entry_fields(struct buf *out, const struct tree_entry *e)
{
	char id[SHOW_FILE_ID_BYTES];
	const uint8_t mode[] = {(uint8_t)('0' + (e->mode >> 6 & 7)),
		(uint8_t)('0' + (e->mode >> 3 & 7)), (uint8_t)('0' + (e->mode & 7))};

	show_file_id_text(&e->content, id);
	buf_add_str(out, ",\"size\":");
	buf_add_decimal(out, e->content.size);
	buf_add_str(out, ",\"file_id\":\"");
	buf_add_str(out, id);
	buf_add_str(out, "\",\"mode\":\"0");
	buf_add(out, mode, sizeof mode);
	buf_add_str(out, "\",\"mtime\":");
	add_mtime(out, e->mtime_ns);
}

void
show_entry_text(struct buf *out, const struct tree_entry *e)
{
	buf_add_str(out, "{\"path\":");
	show_path_text(out, e->path, e->path_len);
	buf_add_str(out, ",\"type\":\"file\"");
	show_entry_fields(out, e);
	buf_add_u8(out, '}');
}

void
show_prefix_text(struct buf *out, const char *name, size_t len)
{
	buf_add_str(out, "{\"path\":");
	show_path_text(out, name, len);
	buf_add_str(out, ",\"type\":\"prefix\"}");
}
