/* SPDX-License-Identifier: Apache-2.0 */
#include "show_repo.h"

#include "show_entry.h"

json_t *
show_repo(const struct repo *repo)
{
	return json_pack("{s:s, s:s, s:I, s:o}", "name", repo->name, "description",
		repo_description(repo), "chunk_target_bytes",
		(json_int_t)repo->space.chunker.target, "created_at", show_time(repo->created_us));
}
