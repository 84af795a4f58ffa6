/* SPDX-License-Identifier: Apache-2.0 */
#include "put_prefix.h"

#include <jansson.h>
#include <string.h>

#include "problem.h"

enum rc
put_prefix_from(const char *text, char *out, struct err *err)
{
	size_t len = strlen(text);

	out[0] = '\0';
	if (len == 0)
		return RC_OK;
	if (len > 1 && text[len - 1] == '/')
		len--;
	if (path_check(text, len, err) != RC_OK)
		return err->rc;
	memcpy(out, text, len);
	memcpy(out + len, "/", 2);
	return RC_OK;
}

bool
put_prefix_take(struct request *rq, char *out)
{
	const char *text = request_query(rq, "prefix");
	struct err err = ERR_INIT;

	if (put_prefix_from(text != NULL ? text : "", out, &err) == RC_OK)
		return true;
	reply_problem_with(rq, &err, json_pack("{s:s}", "field", "prefix"));
	return false;
}
