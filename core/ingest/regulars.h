/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_REGULARS_H
#define DG_REGULARS_H

/* regulars: is it worth a moment to wait for more files before a group is committed?
 *
 * Clients that upload one file after the other come back soon after they were answered; a group
 * that has all of them costs one sync and one transaction instead of two. Those the last group
 * answered and who have not come back yet are expected. A lone client never waits: it is itself the
 * one that came back. When those expected stay away, the next groups do not wait: 1, 3, 7, … of
 * them, up to REGULARS_SKIP_MAX, until waiting has paid again. Not thread-safe: the commit queue's
 * lock guards it. */

#define REGULARS_SKIP_MAX 255

struct regulars {
	unsigned waiting;  /* files in the queue that somebody waits for */
	unsigned answered; /* files of the last group */
	unsigned returned; /* files that came since it was answered */
	unsigned skip;     /* groups that will not wait */
	unsigned skipped;  /* how many that were the last time */
};

/* So many files have come. */
void regulars_come(struct regulars *r, unsigned files);
/* A group is to be made: how many files are worth waiting for; 0: go. */
unsigned regulars_expected(struct regulars *r);
/* Of those expected so many came. */
void regulars_learn(struct regulars *r, unsigned expected, unsigned came);
/* The group takes all that wait. */
void regulars_leave(struct regulars *r);
/* The group's files are about to be answered. */
void regulars_answer(struct regulars *r, unsigned files);

#endif
