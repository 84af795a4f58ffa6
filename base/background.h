/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_BACKGROUND_H
#define DG_BACKGROUND_H

#include <stdbool.h>

/* background: threads that shall have only what nobody else wants. */

/* Make the calling thread one that runs when a processor has nothing else to do (SCHED_IDLE, the
 * lowest nice value and idle disk priority on top). There is no way back for it without privileges:
 * give it work that holds no lock and no transaction, because one that waits for a processor keeps
 * what it holds. false: the system refused (a sandbox); it runs as before, or less favoured. */
bool background_enter(void);

/* Give memory that was freed back to the system, as far as the allocator can. Milliseconds; takes
 * the allocator's locks. */
void background_give_memory(void);

#endif
