/* SPDX-License-Identifier: Apache-2.0 */
#include "put_prefix.h"

#include <jansson.h>
#include <string.h>

#include "problem.h"

bool
put_prefix_take(struct request *rq, char *out)
{
	const char *text = request_query(rq, "prefix");
	struct err err = ERR_INIT;

	out[0] = '\0';
	if (text == NULL || *text == '\0')
		return true;
	size_t len = strlen(text);
	if (len > 1 && text[len - 1] == '/')
		len--;
	if (path_check(text, len, &err) != RC_OK) {
		reply_problem_with(rq, &err, json_pack("{s:s}", "field", "prefix"));
		return false;
	}
	memcpy(out, text, len);
	memcpy(out + len, "/", 2);
	return true;
}
