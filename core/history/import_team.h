/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_IMPORT_TEAM_H
#define DG_IMPORT_TEAM_H

/* import_team: a step of an import done by several threads at once. */

#define IMPORT_TEAM_MAX 8 /* more would only wait for the same file system and the same workers */

/* Call fn(arg) on the calling thread and on helpers beside it, threads in all (1 to
 * IMPORT_TEAM_MAX), and return when all calls have: helpers end with it. Where no thread can be had
 * there are fewer. */
void import_team_run(unsigned threads, void (*fn)(void *arg), void *arg);

#endif
