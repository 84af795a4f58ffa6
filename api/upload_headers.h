/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_UPLOAD_HEADERS_H
#define DG_UPLOAD_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sha256.h"

/* upload_headers: what the headers of an upload say, as pure functions of their values.
 *
 * Values are NUL-terminated; NULL means that the header was not sent. Nothing here allocates.
 * Threads: any. */

#define UPLOAD_TOTAL_UNKNOWN UINT64_MAX

/* Which bytes of a file a body is. */
struct upload_range {
	uint64_t first;
	uint64_t last;  /* inclusive */
	uint64_t total; /* above last; UPLOAD_TOTAL_UNKNOWN: "*" */
};

/* "bytes FIRST-LAST/TOTAL", where TOTAL may be a star, and nothing else. RC_INVALID kind
 * "invalid-header". */
enum rc upload_headers_range(const char *value, struct upload_range *out, struct err *err);

/* The digest of the whole content that Repr-Digest (a dictionary of RFC 9651, of which sha-256
 * counts and other algorithms are passed over) and X-Checksum-Sha256 (64 hex digits) ask for.
 * *given is false, and *out untouched, if neither asks for one. RC_INVALID kind "invalid-header",
 * or "digest-mismatch" if both do and they differ: no content has two digests. */
enum rc upload_headers_digest(const char *repr_digest, const char *checksum, bool *given,
	struct sha256 *out, struct err *err);

enum upload_coding {
	UPLOAD_IDENTITY,
	UPLOAD_GZIP,
	UPLOAD_ZSTD,
};
/* Content-Encoding; none is identity. RC_INVALID kind "unsupported-encoding": none of these. */
enum rc upload_headers_coding(const char *value, enum upload_coding *out, struct err *err);

/* Whether value, a Content-Type, is this media type ("application/zip"), with any parameters. */
bool upload_headers_is_type(const char *value, const char *type);

/* What an archive may be, as its headers tell. */
struct upload_archive {
	bool tar, zip;   /* formats */
	bool gzip, zstd; /* filters around it */
	bool deny_plain; /* one of the filters must be there */
};
/* Content-Type and Content-Encoding of an archive. What "curl --data-binary" says by itself says
 * nothing. RC_INVALID kind "unsupported-media-type" or "unsupported-encoding". */
enum rc upload_headers_archive(
	const char *type, const char *coding, struct upload_archive *out, struct err *err);

/* The boundary parameter of a multipart Content-Type into out (bytes_max and a NUL). RC_INVALID
 * kind "form-invalid": it is missing, or not 1 to bytes_max characters of RFC 2046. */
enum rc upload_headers_boundary(const char *value, char *out, size_t bytes_max, struct err *err);

#endif
