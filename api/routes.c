/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "ops.h"

const struct op *const routes[] = {
	/* the server */
	&op_root_get,
	&op_health_get,
	&op_ready_get,
	&op_metrics_get,
	&op_openapi_yaml_get,
	&op_openapi_json_get,
	/* administration */
	&op_monitor_get,
	&op_tuner_get,
	&op_tuner_put,
	&op_recompression_get,
	&op_recompression_control,
	/* repositories */
	&op_repo_list,
	&op_repo_get,
	&op_repo_create,
	&op_repo_delete,
	/* stages */
	&op_stage_list,
	&op_stage_open,
	&op_stage_create,
	&op_stage_get,
	&op_stage_delete,
	&op_stage_commit,
	/* staged files */
	&op_stage_file_put,
	&op_stage_file_get,
	&op_stage_file_head,
	&op_stage_file_delete,
	&op_stage_file_list,
	&op_stage_archive_put,
	&op_stage_archive_post,
	&op_stage_form_post,
	/* imports */
	&op_import_create,
	&op_import_list,
	&op_import_get,
	&op_import_delete,
	/* trees */
	&op_tree_file_put,
	&op_tree_archive_put,
	&op_tree_archive_post,
	&op_tree_list,
	&op_tree_file_get,
	&op_tree_file_head,
	&op_tree_archive_get,
	/* commits and refs */
	&op_commit_list,
	&op_commit_get,
	&op_diff_get,
	&op_ref_list,
	&op_ref_get,
	&op_ref_put,
	&op_ref_delete,
	/* progress */
	&op_stage_progress,
	&op_stage_events,
	&op_progress_list,
	&op_events_all,
	NULL,
};
