/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_GATE_H
#define DG_GATE_H

#include <stdatomic.h>
#include <stdbool.h>

/* gate: one atomic word between the HTTP thread of a request and everybody who wakes it.
 *
 * The HTTP thread owns the connection and suspends it when it must wait. Others post: new room, new
 * bytes, a finished phase. Each post is one atomic exchange of the whole word, and it is the
 * poster's last touch of the request unless the old word says that it must resume or finish it.
 *
 * Why a resume is neither lost nor doubled:
 *  1. The HTTP thread calls gate_enter (WOKEN off) before it looks at the state, and suspends the
 *     connection before it calls gate_wait (WAITING on, refused if WOKEN is on). So a post is
 *     either before gate_enter, and its effect is seen; or between, and gate_wait is refused and
 *     the HTTP thread itself resumes; or after, and the poster sees WAITING.
 *  2. A post takes WAITING away as it sees it, so of several posts one resumes. Until that one has
 *     called MHD_resume_connection the connection stays suspended, hence alive; no other can free
 *     it. After the call the poster touches nothing of the request.
 *  3. A finished phase (ADMITTED, DONE) and the wake-up are one exchange: the HTTP thread cannot
 * see the phase finished, answer and free the request while the poster still has a wake to do.
 *  4. OWED is on while somebody else will post the end of a phase. A connection that ends meanwhile
 *     (only a forced stop does that to a suspended one) sets DETACHED and leaves the request to
 * that post, which sees DETACHED and finishes it. Both are exchanges, so exactly one of the two
 *     finishes it. */

#define GATE_WAITING  0x01u /* suspended, nobody has resumed it yet */
#define GATE_WOKEN    0x02u /* posted since the HTTP thread last looked */
#define GATE_ADMITTED 0x04u /* admission ended on a worker */
#define GATE_DONE     0x08u /* request_complete() was called */
#define GATE_OWED     0x10u /* ADMITTED or DONE will come */
#define GATE_DETACHED 0x20u /* the connection is gone */

struct gate {
	_Atomic unsigned word;
};

/* HTTP thread: about to look. Returns what was posted so far. */
static inline unsigned
gate_enter(struct gate *g)
{
	return atomic_fetch_and(&g->word, ~GATE_WOKEN);
}

/* HTTP thread, connection already suspended: wait. False: a post came first, resume it yourself. */
static inline bool
gate_wait(struct gate *g)
{
	unsigned old = atomic_load(&g->word);

	do {
		if (old & GATE_WOKEN)
			return false;
	} while (!atomic_compare_exchange_weak(&g->word, &old, old | GATE_WAITING));
	return true;
}

/* HTTP thread: somebody else will post the end of the phase. */
static inline void
gate_owe(struct gate *g)
{
	atomic_fetch_or(&g->word, GATE_OWED);
}

/* Anybody: turn bits on (and OWED off if they end a phase) and wake. If the old word has WAITING,
 * the caller resumes the connection; if it has DETACHED and bits ended the phase, it finishes the
 * request; otherwise it touches the request no more. */
static inline unsigned
gate_post(struct gate *g, unsigned bits)
{
	unsigned off = GATE_WAITING | (bits != 0 ? GATE_OWED : 0);
	unsigned old = atomic_load(&g->word);

	while (!atomic_compare_exchange_weak(&g->word, &old, (old & ~off) | bits | GATE_WOKEN))
		;
	return old;
}

/* HTTP thread, the connection ended. True: nobody owes anything, finish the request now. */
static inline bool
gate_detach(struct gate *g)
{
	return !(atomic_fetch_or(&g->word, GATE_DETACHED) & GATE_OWED);
}

#endif
