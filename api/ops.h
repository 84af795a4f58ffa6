/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_OPS_H
#define DG_OPS_H

#include "request.h"

/* ops: every operation of openapi.yaml, one a file. routes.c lists them all; NULL ends it. */

extern const struct op *const routes[];

/* the server */
extern const struct op op_root_get;
extern const struct op op_health_get;
extern const struct op op_ready_get;
extern const struct op op_metrics_get;
extern const struct op op_openapi_yaml_get;
extern const struct op op_openapi_json_get;

/* administration */
extern const struct op op_monitor_get;
extern const struct op op_tuner_get;
extern const struct op op_tuner_put;
extern const struct op op_recompression_get;
extern const struct op op_recompression_control;

/* repositories */
extern const struct op op_repo_list;
extern const struct op op_repo_get;
extern const struct op op_repo_create;
extern const struct op op_repo_delete;

/* stages */
extern const struct op op_stage_list;
extern const struct op op_stage_open;
extern const struct op op_stage_create;
extern const struct op op_stage_get;
extern const struct op op_stage_delete;
extern const struct op op_stage_commit;

/* staged files */
extern const struct op op_stage_file_put;
extern const struct op op_stage_file_get;
extern const struct op op_stage_file_head;
extern const struct op op_stage_file_delete;
extern const struct op op_stage_file_list;
extern const struct op op_stage_archive_put;
extern const struct op op_stage_archive_post;
extern const struct op op_stage_form_post;

/* imports */
extern const struct op op_import_create;
extern const struct op op_import_list;
extern const struct op op_import_get;
extern const struct op op_import_delete;

/* trees */
extern const struct op op_tree_file_put;
extern const struct op op_tree_archive_put;
extern const struct op op_tree_archive_post;
extern const struct op op_tree_list;
extern const struct op op_tree_file_get;
extern const struct op op_tree_file_head;
extern const struct op op_tree_archive_get;

/* commits and refs */
extern const struct op op_commit_list;
extern const struct op op_commit_get;
extern const struct op op_diff_get;
extern const struct op op_ref_list;
extern const struct op op_ref_get;
extern const struct op op_ref_put;
extern const struct op op_ref_delete;

/* progress */
extern const struct op op_stage_progress;
extern const struct op op_stage_events;
extern const struct op op_progress_list;
extern const struct op op_events_all;

#endif
