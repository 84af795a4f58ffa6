/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_COMMIT_FIELDS_H
#define DG_COMMIT_FIELDS_H

#include <stdbool.h>

#include "commit.h"
#include "json_body.h"
#include "request.h"

/* commit_fields: the members of a JSON body that say what a commit shall be. */

#define COMMIT_METADATA_COUNT_MAX 64
#define COMMIT_METADATA_KEY_MAX   64
#define COMMIT_METADATA_VALUE_MAX 1024

enum commit_field {
	COMMIT_FIELD_REF,
	COMMIT_FIELD_MESSAGE,
	COMMIT_FIELD_AUTHOR,
	COMMIT_FIELD_MODE,
	COMMIT_FIELD_PARENT,
	COMMIT_FIELD_METADATA,
	COMMIT_FIELDS,
};

/* What json_body_take is to expect of them: ref, message, author, mode, expected_parent, metadata;
 * none is required. */
extern const struct json_field commit_fields[COMMIT_FIELDS];

/* Check the taken fields (COMMIT_FIELDS of them, in that order) and fill in what they say or what
 * stands for it: ref, message, author, mode, the expected parent, metadata. Texts are borrowed from
 * the fields, and from *metadata, which is the caller's to free() in any case, NULL if there is
 * none. false: rq is answered. */
bool commit_fields_take(struct request *rq, const struct json_field *fields,
	struct commit_request *q, char **metadata);

#endif
