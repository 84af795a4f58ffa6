/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "commit_form.h"

static struct commit_fields
example(const struct sha256 *parent)
{
	struct commit_fields f = {
		.parent = parent,
		.created_us = 1800000000123456,
		.files = 3,
		.bytes = 70000,
		.ref = "main",
		.author = "A. U. Thor <author@example.com>",
		.message = "first\n\nbody \xc3\xa9",
		.metadata = "{\"a\":1}",
		.receipt = "{}",
	};

	memset(f.tree.b, 0x44, sizeof f.tree.b);
	return f;
}

static void
check_fields(const struct commit *c, const struct commit_fields *f)
{
	struct sha256 id;

	sha256_of(c->canonical.data, c->canonical.len, &id);
	assert_true(sha256_equal(&c->id, &id));
	assert_true(sha256_equal(&c->tree, &f->tree));
	assert_int_equal(c->has_parent, f->parent != NULL);
	if (f->parent != NULL)
		assert_true(sha256_equal(&c->parent, f->parent));
	assert_int_equal(c->created_us, f->created_us);
	assert_int_equal(c->files, f->files);
	assert_int_equal(c->bytes, f->bytes);
	assert_string_equal(c->ref, f->ref);
	assert_string_equal(c->author, f->author);
	assert_string_equal(c->message, f->message);
	assert_string_equal(c->metadata, f->metadata);
	assert_string_equal(c->receipt, f->receipt);
}

static struct commit_fields
fields_of(const struct commit *c)
{
	return (struct commit_fields){
		.tree = c->tree,
		.parent = c->has_parent ? &c->parent : NULL,
		.created_us = c->created_us,
		.files = c->files,
		.bytes = c->bytes,
		.ref = c->ref,
		.author = c->author,
		.message = c->message,
		.metadata = c->metadata,
		.receipt = c->receipt,
	};
}

/* Decode any bytes under the id they would have; if they are a commit, they are its only form. */
static enum rc
decode_any(const uint8_t *data, size_t len)
{
	struct err err = ERR_INIT;
	struct commit c, again;
	struct sha256 id;
	uint8_t *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	memcpy(copy, data, len);
	sha256_of(data, len, &id);
	enum rc rc = commit_form_decode(&id, copy, len, &c, &err);
	assert_int_equal(rc, err.rc);
	if (rc == RC_OK) {
		struct commit_fields f = fields_of(&c);
		assert_int_equal(commit_form_encode(&f, &again, &err), RC_OK);
		assert_int_equal(again.canonical.len, len);
		assert_memory_equal(again.canonical.data, data, len);
		commit_done(&again);
		commit_done(&c);
	} else {
		assert_int_equal(rc, RC_CORRUPT);
		assert_string_equal(err.kind, "corrupt-data");
	}
	free(copy);
	return rc;
}

static void
fields_come_back(void **state)
{
	struct sha256 parent;
	struct commit c, back;
	struct err err = ERR_INIT;
	(void)state;

	memset(parent.b, 0x55, sizeof parent.b);
	for (int with = 0; with < 2; with++) {
		struct commit_fields f = example(with ? &parent : NULL);
		assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
		check_fields(&c, &f);
		assert_int_equal(
			commit_form_decode(&c.id, c.canonical.data, c.canonical.len, &back, &err),
			RC_OK);
		check_fields(&back, &f);
		commit_done(&back);
		commit_done(&c);
	}
}

static void
extremes_come_back(void **state)
{
	char *message = calloc(1, COMMIT_MESSAGE_BYTES_MAX + 1);
	char *metadata = calloc(1, COMMIT_METADATA_BYTES_MAX + 1);
	struct err err = ERR_INIT;
	struct commit c;
	(void)state;

	assert_true(message != NULL && metadata != NULL);
	memset(message, 'm', COMMIT_MESSAGE_BYTES_MAX);
	memset(metadata, '\xff', COMMIT_METADATA_BYTES_MAX);
	struct commit_fields f = example(NULL);
	f.created_us = INT64_MIN;
	f.files = f.bytes = UINT64_MAX;
	f.message = message;
	f.metadata = metadata;
	assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
	check_fields(&c, &f);
	assert_int_equal(decode_any(c.canonical.data, c.canonical.len), RC_OK);
	commit_done(&c);
	f = (struct commit_fields){
		.ref = "", .author = "", .message = "", .metadata = "", .receipt = ""};
	assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
	check_fields(&c, &f);
	commit_done(&c);
	free(message);
	free(metadata);
}

/* Ids name commits for ever: the layout in commit.h gives these. */
static void
ids_are_these(void **state)
{
	struct sha256 parent;
	struct err err = ERR_INIT;
	struct commit c;
	char hex[SHA256_HEX_BYTES];
	(void)state;

	memset(parent.b, 0x55, sizeof parent.b);
	struct commit_fields f = example(NULL);
	assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
	assert_memory_equal(c.canonical.data, "DGSTCMT\1", 8);
	sha256_hex(&c.id, hex);
	assert_string_equal(
		hex, "7e469210978fd263c014eca03571ab70a4a662523df232b27a9479fa08abda93");
	commit_done(&c);
	f.parent = &parent;
	assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
	sha256_hex(&c.id, hex);
	assert_string_equal(
		hex, "f47656fea1fd1f17bf9048e58b8c78dcc21bc0bd73c68a448ca5f44da4b11a1e");
	commit_done(&c);
}

static void
every_field_changes_the_id(void **state)
{
	struct sha256 parent = {{1}}, ids[10];
	struct err err = ERR_INIT;
	(void)state;

	for (int what = 0; what < 10; what++) {
		struct commit_fields f = example(what == 1 ? &parent : NULL);
		struct commit c;
		f.tree.b[0] ^= what == 2;
		f.created_us += what == 3;
		f.files += what == 4;
		f.bytes += what == 5;
		if (what == 6)
			f.ref = "main2";
		/* the same letters, with the borders elsewhere */
		if (what == 7) {
			f.ref = "mainA";
			f.author = ". U. Thor <author@example.com>";
		}
		if (what == 8)
			f.message = "";
		if (what == 9)
			f.receipt = "{\"a\":1}";
		assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
		ids[what] = c.id;
		for (int other = 0; other < what; other++)
			assert_false(sha256_equal(&ids[what], &ids[other]));
		commit_done(&c);
	}
}

/* ---- hostile bytes ---- */

static void
bytes_under_another_id_are_refused(void **state)
{
	struct err err = ERR_INIT;
	struct commit c, back;
	(void)state;

	struct commit_fields f = example(NULL);
	assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
	for (size_t at = 0; at < c.canonical.len; at++) {
		err_clear(&err);
		c.canonical.data[at] ^= 1;
		assert_int_equal(
			commit_form_decode(&c.id, c.canonical.data, c.canonical.len, &back, &err),
			RC_CORRUPT);
		c.canonical.data[at] ^= 1;
	}
	commit_done(&c);
}

static void
cuts_and_additions_are_seen(void **state)
{
	struct sha256 parent = {{1}};
	struct err err = ERR_INIT;
	struct commit c;
	(void)state;

	struct commit_fields f = example(&parent);
	assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
	for (size_t cut = 0; cut < c.canonical.len; cut++)
		assert_int_equal(decode_any(c.canonical.data, cut), RC_CORRUPT);
	assert_int_equal(decode_any(c.canonical.data, c.canonical.len), RC_OK);
	buf_add_u8(&c.canonical, 0);
	assert_int_equal(decode_any(c.canonical.data, c.canonical.len), RC_CORRUPT);
	commit_done(&c);
}

static void
flips_do_no_harm(void **state)
{
	struct sha256 parent = {{1}};
	struct err err = ERR_INIT;
	struct commit c;
	size_t good = 0;
	(void)state;

	for (int with = 0; with < 2; with++) {
		struct commit_fields f = example(with ? &parent : NULL);
		assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
		for (size_t at = 0; at < c.canonical.len; at++) {
			for (unsigned v = 1; v < 256; v += 1 + at % 4) {
				c.canonical.data[at] ^= (uint8_t)v;
				good += decode_any(c.canonical.data, c.canonical.len) == RC_OK;
				c.canonical.data[at] ^= (uint8_t)v;
			}
		}
		commit_done(&c);
	}
	assert_true(good > 0);
}

/* Lengths that promise more than there is, up to what would wrap. */
static void
wild_lengths_are_refused(void **state)
{
	static const uint32_t wild[] = {
		UINT32_MAX, UINT32_MAX - 3, 0x80000000, 0x7fffffff, 1 << 20, 100000};
	struct err err = ERR_INIT;
	struct commit c;
	(void)state;

	struct commit_fields f = example(NULL);
	assert_int_equal(commit_form_encode(&f, &c, &err), RC_OK);
	size_t at = 7 + 1 + 32 + 1 + 3 * 8;
	for (int text = 0; text < 5; text++) {
		uint32_t len = get_u32(c.canonical.data + at);
		for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
			put_u32(c.canonical.data + at, wild[i]);
			assert_int_equal(decode_any(c.canonical.data, c.canonical.len), RC_CORRUPT);
		}
		put_u32(c.canonical.data + at, len);
		at += 4 + len;
	}
	assert_int_equal(at, c.canonical.len);
	commit_done(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_come_back),
		cmocka_unit_test(extremes_come_back),
		cmocka_unit_test(ids_are_these),
		cmocka_unit_test(every_field_changes_the_id),
		cmocka_unit_test(bytes_under_another_id_are_refused),
		cmocka_unit_test(cuts_and_additions_are_seen),
		cmocka_unit_test(flips_do_no_harm),
		cmocka_unit_test(wild_lengths_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
