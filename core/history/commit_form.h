/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_COMMIT_FORM_H
#define DG_COMMIT_FORM_H

#include "commit.h"

/* commit_form: the canonical bytes of a commit (their layout stands in commit.h). */

struct commit_fields {
	struct sha256 tree;
	const struct sha256 *parent; /* NULL: none */
	int64_t created_us;
	uint64_t files, bytes;
	const char *ref, *author, *message, *metadata, *receipt;
};

/* Fill *out, id included, from the fields. RC_NOMEM. */
enum rc commit_form_encode(const struct commit_fields *f, struct commit *out, struct err *err);
/* Fill *out from canonical bytes, which are copied, and check that id is their SHA-256.
 * RC_CORRUPT kind "corrupt-data"; RC_NOMEM. */
enum rc commit_form_decode(const struct sha256 *id, const uint8_t *data, size_t len,
	struct commit *out, struct err *err);

#endif
