/* SPDX-License-Identifier: Apache-2.0 */

/* The table of open connections, by descriptor, and their deadlines.
 *
 * Why a deadline never hits a stranger's socket: a connection is cut by shutdown() while conns_mtx
 * is held and only if MHD has started it; MHD tells us that a connection is closed (conn_notify
 * takes conns_mtx and removes it) before it closes the descriptor. So while we hold the lock the
 * number still means that connection. If MHD fails to take a connection it closes the descriptor
 * without a word; such an entry is never started, never cut, and goes when its number comes again.
 */

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "http_impl.h"
#include "log.h"

#define NS_PER_MS   UINT64_C(1000000)
#define END_LOOK_MS 5000 /* longer than a few ticks, shorter than most idle connections live */

void
conn_set_state(struct conn *c, enum conn_state state)
{
	if (atomic_load_explicit(&c->state, memory_order_relaxed) == (unsigned)state)
		return;
	atomic_store_explicit(&c->since_ns, clock_mono_ns(), memory_order_relaxed);
	atomic_store_explicit(&c->state, (unsigned)state, memory_order_release);
}

static struct loop *
least_busy(struct http *h)
{
	struct loop *best = &h->loops[0];

	for (int i = 1; i < h->o.threads; i++) {
		struct loop *l = &h->loops[i];
		size_t a = atomic_load(&l->active);
		size_t b = atomic_load(&best->active);
		if (a < b ||
			(a == b && atomic_load(&l->connections) < atomic_load(&best->connections)))
			best = l;
	}
	return best;
}

/* Called with conns_mtx held. */
static void
forget(struct http *h, int fd)
{
	struct conn *c = h->conns[fd];

	h->conns[fd] = NULL;
	h->conn_count--;
	atomic_fetch_sub(&c->loop->connections, 1);
	free(c);
}

static struct conn *
enter(struct http *h, int fd)
{
	struct conn *c = (size_t)fd < h->conns_cap ? calloc(1, sizeof *c) : NULL;

	if (c == NULL)
		return NULL;
	c->fd = fd;
	c->loop = least_busy(h);
	atomic_store(&c->since_ns, clock_mono_ns());
	pthread_mutex_lock(&h->conns_mtx);
	if (h->conns[fd] != NULL)
		forget(h, fd);
	h->conns[fd] = c;
	h->conn_count++;
	pthread_mutex_unlock(&h->conns_mtx);
	atomic_fetch_add(&c->loop->connections, 1);
	return c;
}

void
conn_add(struct http *h, int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	struct conn *c = enter(h, fd);

	if (c == NULL) {
		close(fd);
		return;
	}
	struct loop *loop = c->loop;
	atomic_fetch_add(&h->accepted, 1);
	if (MHD_add_connection(loop->mhd, fd, addr, addr_len) == MHD_YES)
		return;
	log_event(LOG_LEVEL_WARN, "connection_not_taken", "fd=%d", fd);
	pthread_mutex_lock(&h->conns_mtx);
	forget(h, fd);
	pthread_mutex_unlock(&h->conns_mtx);
}

/* MHD takes up to 128 events from epoll and, if it got exactly so many, waits for more before it
 * handles them: a burst of a multiple of 128 then hangs until something else happens (0.9.75,
 * MHD_epoll). A connection that is closed already is something else. */
void
conn_poke_loops(struct http *h)
{
	struct sockaddr addr = {.sa_family = AF_UNIX};
	int pair[2];

	for (int i = 0; i < h->o.threads; i++) {
		if (atomic_load(&h->loops[i].connections) < CONN_POKE_MIN)
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
			return;
		close(pair[1]);
		MHD_add_connection(h->loops[i].mhd, pair[0], &addr, sizeof addr.sa_family);
	}
}

bool
conn_want_pokes(const struct http *h)
{
	for (int i = 0; i < h->o.threads; i++)
		if (atomic_load(&h->loops[i].connections) >= CONN_POKE_MIN)
			return true;
	return false;
}

static void
started(struct http *h, struct MHD_Connection *con, void **ctx)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD);

	pthread_mutex_lock(&h->conns_mtx);
	struct conn *c = info != NULL ? h->conns[info->connect_fd] : NULL;
	/* NULL: from conn_poke_loops */
	if (c != NULL)
		c->started = true;
	pthread_mutex_unlock(&h->conns_mtx);
	*ctx = c;
}

void
conn_notify(
	void *cls, struct MHD_Connection *con, void **ctx, enum MHD_ConnectionNotificationCode code)
{
	struct loop *loop = cls;
	struct http *h = loop->http;
	struct conn *c = *ctx;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		started(h, con, ctx);
		return;
	}
	if (c == NULL)
		return;
	*ctx = NULL;
	pthread_mutex_lock(&h->conns_mtx);
	forget(h, c->fd);
	pthread_mutex_unlock(&h->conns_mtx);
	if (atomic_load(&h->at_limit))
		acceptor_wake(h);
}

/* MHD waits for edges, and takes a read that was not full for the end of what there is: of a FIN
 * that came together with the last bytes it never hears (0.9.75, recv_param_adapter). Shutting down
 * the side that the client has shut down already changes nothing and makes another edge. */
void
conn_repeat_end(const struct conn *c)
{
	char byte;

	if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		shutdown(c->fd, SHUT_RD);
}

/* The HTTP thread looks after each piece of a body. What it does not see are bytes that are no
 * body: the end of a chunk, part of a request line. Ends that come alone need nobody to look. */
static bool
may_have_missed_end(const struct conn *c, uint64_t now_ns)
{
	unsigned state = atomic_load_explicit(&c->state, memory_order_acquire);
	uint64_t since = atomic_load_explicit(&c->since_ns, memory_order_relaxed);

	if (state == CONN_BODY)
		return true;
	return state != CONN_BUSY && now_ns < since + END_LOOK_MS * NS_PER_MS;
}

/* Over each stretch of body_rate_grace in which we waited for body bytes, enough must have come.
 * Time in which we kept the client waiting does not count. The first time the HTTP thread is asked
 * to answer 408 with the next piece; if none comes in another tick, the connection is cut. */
static bool
is_body_too_slow(const struct http *h, struct conn *c, uint64_t elapsed_ns)
{
	uint64_t bytes = atomic_load_explicit(&c->body_bytes, memory_order_relaxed);
	uint64_t grace_ns = h->o.body_rate_grace_ms * NS_PER_MS;

	if (h->o.body_rate_min_bytes == 0)
		return false;
	if (atomic_load_explicit(&c->too_slow, memory_order_relaxed))
		return true;
	if (bytes < c->window_bytes) { /* another request */
		c->window_bytes = 0;
		c->window_ns = 0;
	}
	c->window_ns += elapsed_ns;
	if (c->window_ns < grace_ns)
		return false;
	uint64_t want = (uint64_t)((double)h->o.body_rate_min_bytes * (double)c->window_ns / 1e9);
	if (bytes - c->window_bytes < want)
		atomic_store_explicit(&c->too_slow, true, memory_order_relaxed);
	c->window_bytes = bytes;
	c->window_ns = 0;
	return false;
}

static bool
is_overdue(const struct http *h, struct conn *c, uint64_t now_ns, uint64_t elapsed_ns)
{
	enum conn_state state =
		(enum conn_state)atomic_load_explicit(&c->state, memory_order_acquire);
	uint64_t since = atomic_load_explicit(&c->since_ns, memory_order_relaxed);
	uint64_t age_ms = now_ns > since ? (now_ns - since) / NS_PER_MS : 0;

	if (state != CONN_BODY) {
		c->window_ns = 0;
		c->window_bytes = atomic_load_explicit(&c->body_bytes, memory_order_relaxed);
	}
	switch (state) {
	case CONN_NEW:
	case CONN_HEADERS:
		return age_ms > h->o.header_timeout_ms;
	case CONN_IDLE:
		/* MHD ends one that is silent; this one drips bytes of a request line */
		return age_ms > h->o.connection_timeout_ms + h->o.header_timeout_ms;
	case CONN_BODY:
		return is_body_too_slow(h, c, elapsed_ns);
	case CONN_BUSY:
		return false;
	}
	return false;
}

void
conn_tick(struct http *h, uint64_t elapsed_ns)
{
	uint64_t now_ns = clock_mono_ns();
	size_t cut = 0;

	pthread_mutex_lock(&h->conns_mtx);
	for (size_t fd = 0; fd < h->conns_cap; fd++) {
		struct conn *c = h->conns[fd];
		if (c == NULL || !c->started || c->is_cut)
			continue;
		if (!is_overdue(h, c, now_ns, elapsed_ns)) {
			if (may_have_missed_end(c, now_ns))
				conn_repeat_end(c);
			continue;
		}
		shutdown(c->fd, SHUT_RDWR);
		c->is_cut = true;
		cut++;
	}
	pthread_mutex_unlock(&h->conns_mtx);
	if (cut > 0) {
		atomic_fetch_add(&h->cut, cut);
		log_event(LOG_LEVEL_DEBUG, "connections_cut", "count=%zu", cut);
	}
}
