/* SPDX-License-Identifier: Apache-2.0 */
#include "media_type.h"

#include <stdbool.h>
#include <string.h>

#define EXTENSION_BYTES_MAX 15

struct media_type {
	const char *extension;
	const char *type;
};

/* Sorted by extension. Sources are text/plain, so that a browser shows them; the types are those of
 * the IANA registry where there is one. */
static const struct media_type types[] = {
	{"7z", "application/x-7z-compressed"},
	{"aac", "audio/aac"},
	{"apk", "application/vnd.android.package-archive"},
	{"asc", "text/plain"},
	{"avi", "video/x-msvideo"},
	{"avif", "image/avif"},
	{"bmp", "image/bmp"},
	{"br", "application/x-brotli"},
	{"bz2", "application/x-bzip2"},
	{"c", "text/plain"},
	{"cc", "text/plain"},
	{"cfg", "text/plain"},
	{"conf", "text/plain"},
	{"cpp", "text/plain"},
	{"css", "text/css"},
	{"csv", "text/csv"},
	{"deb", "application/vnd.debian.binary-package"},
	{"diff", "text/plain"},
	{"dmg", "application/x-apple-diskimage"},
	{"doc", "application/msword"},
	{"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
	{"epub", "application/epub+zip"},
	{"flac", "audio/flac"},
	{"gif", "image/gif"},
	{"go", "text/plain"},
	{"gz", "application/gzip"},
	{"h", "text/plain"},
	{"hpp", "text/plain"},
	{"htm", "text/html"},
	{"html", "text/html"},
	{"ico", "image/vnd.microsoft.icon"},
	{"ics", "text/calendar"},
	{"ini", "text/plain"},
	{"iso", "application/x-iso9660-image"},
	{"jar", "application/java-archive"},
	{"java", "text/plain"},
	{"jpeg", "image/jpeg"},
	{"jpg", "image/jpeg"},
	{"js", "text/javascript"},
	{"json", "application/json"},
	{"jsonl", "application/jsonl"},
	{"log", "text/plain"},
	{"m4a", "audio/mp4"},
	{"m4v", "video/x-m4v"},
	{"md", "text/markdown"},
	{"mjs", "text/javascript"},
	{"mkv", "video/x-matroska"},
	{"mov", "video/quicktime"},
	{"mp3", "audio/mpeg"},
	{"mp4", "video/mp4"},
	{"mpeg", "video/mpeg"},
	{"mpg", "video/mpeg"},
	{"odp", "application/vnd.oasis.opendocument.presentation"},
	{"ods", "application/vnd.oasis.opendocument.spreadsheet"},
	{"odt", "application/vnd.oasis.opendocument.text"},
	{"ogg", "audio/ogg"},
	{"ogv", "video/ogg"},
	{"opus", "audio/ogg"},
	{"otf", "font/otf"},
	{"parquet", "application/vnd.apache.parquet"},
	{"patch", "text/plain"},
	{"pdf", "application/pdf"},
	{"pem", "application/x-pem-file"},
	{"png", "image/png"},
	{"ppt", "application/vnd.ms-powerpoint"},
	{"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
	{"py", "text/plain"},
	{"rar", "application/vnd.rar"},
	{"rpm", "application/x-rpm"},
	{"rs", "text/plain"},
	{"rst", "text/plain"},
	{"rtf", "application/rtf"},
	{"sh", "text/plain"},
	{"sql", "application/sql"},
	{"svg", "image/svg+xml"},
	{"tar", "application/x-tar"},
	{"tgz", "application/gzip"},
	{"tif", "image/tiff"},
	{"tiff", "image/tiff"},
	{"toml", "application/toml"},
	{"ttf", "font/ttf"},
	{"txt", "text/plain"},
	{"wasm", "application/wasm"},
	{"wav", "audio/x-wav"},
	{"webm", "video/webm"},
	{"webp", "image/webp"},
	{"whl", "application/zip"},
	{"woff", "font/woff"},
	{"woff2", "font/woff2"},
	{"xhtml", "application/xhtml+xml"},
	{"xls", "application/vnd.ms-excel"},
	{"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
	{"xml", "application/xml"},
	{"xz", "application/x-xz"},
	{"yaml", "application/yaml"},
	{"yml", "application/yaml"},
	{"zip", "application/zip"},
	{"zst", "application/zstd"},
};

static const char *
find(const char *extension)
{
	size_t low = 0;
	size_t high = sizeof types / sizeof types[0];

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(extension, types[mid].extension);
		if (order == 0)
			return types[mid].type;
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

const char *
media_type_of(const char *path, size_t len)
{
	char extension[EXTENSION_BYTES_MAX + 1];
	size_t n = 0;
	const char *type = NULL;

	while (n < len && path[len - 1 - n] != '.' && path[len - 1 - n] != '/')
		n++;
	/* a dot, and something before it: ".log" is a name */
	bool is_extension = n > 0 && n <= EXTENSION_BYTES_MAX && n + 1 < len &&
			    path[len - 1 - n] == '.' && path[len - 2 - n] != '/';
	if (is_extension) {
		for (size_t i = 0; i < n; i++) {
			char c = path[len - n + i];
			extension[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
		}
		extension[n] = '\0';
		type = find(extension);
	}
	return type != NULL ? type : "application/octet-stream";
}
