/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "parse.h"
#include "pilot.h"
#include "problem.h"
#include "services.h"
#include "show_entry.h"

#define ROWS_MAX                                                                                   \
	(MONITOR_SECONDS_MAX > MONITOR_MINUTES_MAX ? MONITOR_SECONDS_MAX : MONITOR_MINUTES_MAX)

static json_t *
show_value(uint64_t value)
{
	return value == MONITOR_NONE ? json_null() : json_integer((json_int_t)value);
}

/* A series each figure: what a chart wants, and the names are said once. */
static json_t *
show_figures(const struct monitor_row *rows, size_t count)
{
	json_t *figures = json_array();

	for (size_t i = 0; i < MONITOR_FIGURES; i++) {
		const struct monitor_figure *f = monitor_figure(i);
		json_t *values = json_array();
		for (size_t k = 0; k < count; k++)
			json_array_append_new(values, show_value(rows[k].values[i]));
		json_array_append_new(
			figures, json_pack("{s:s, s:s, s:s, s:o}", "name", f->name, "unit", f->unit,
					 "what", f->what, "values", values));
	}
	return figures;
}

static json_t *
show_times(const struct monitor_row *rows, size_t count)
{
	json_t *times = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(times, show_time(rows[i].at_us));
	return times;
}

static bool
parse_since(struct request *rq, int64_t *since_us)
{
	const char *text = request_query(rq, "since");
	int64_t ns = 0;

	if (text != NULL && !mtime_from_text(text, &ns)) {
		parse_refuse_query(rq, "since",
			"since must be a time like 2026-02-28T09:30:00Z or seconds since 1970");
		return false;
	}
	*since_us = ns / 1000;
	return true;
}

static const char *const resolutions[] = {"second", "minute", NULL};
static const int interval_ms[] = {1000, 60000};

static void
answer(struct request *rq)
{
	unsigned which = MONITOR_SECOND;
	int64_t since_us;
	struct err err = ERR_INIT;

	if (!parse_choice(rq, "resolution", resolutions, &which) || !parse_since(rq, &since_us))
		return;
	struct monitor_row *rows = malloc(ROWS_MAX * sizeof *rows);
	if (rows == NULL) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
		return;
	}
	size_t count = pilot_rows(
		rq->srv->pilot, (enum monitor_resolution)which, since_us, rows, ROWS_MAX);
	reply_header(rq, "Cache-Control", "no-store");
	reply_json(rq, 200,
		json_pack("{s:s, s:i, s:o, s:o}", "resolution", resolutions[which], "interval_ms",
			interval_ms[which], "at", show_times(rows, count), "figures",
			show_figures(rows, count)));
	free(rows);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

static const char *const query[] = {"resolution", "since", NULL};

const struct op op_monitor_get = {
	.id = "monitor_get",
	.method = METHOD_GET,
	.path = "/v1/admin/monitor",
	.query = query,
	.run = run,
};
