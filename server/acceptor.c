/* SPDX-License-Identifier: Apache-2.0 */

/* One thread that accepts, keeps deadlines and lingers.
 *
 * MHD could accept by itself, but then it serves one listening socket, picks the loop by chance,
 * and MHD_quiesce_daemon can abort the process when an event loop leaves the listening socket at
 * the same moment (0.9.75: it insists on removing it from the epoll set itself). Here several
 * listeners feed the least busy loop, and at the limit of connections we just stop to accept.
 *
 * Blocks on: epoll_wait only. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "http_impl.h"
#include "log.h"

#define NS_PER_MS      UINT64_C(1000000)
#define EVENTS_MAX     64
#define ACCEPTS_MAX    64  /* of one listener in a row */
#define RETRY_MS       100 /* after accept found no descriptor or memory */
#define LINGER_LOOK_MS 200 /* how late an end of lingering may be noticed */
#define DROP_BYTES     (64u << 10)
#define DROP_ROUNDS    16 /* reads of one lingering socket in a row */

/* What an epoll event points to starts with this. */
enum watch_kind {
	WATCH_WAKE,
	WATCH_LISTENER,
	WATCH_LINGER,
};

struct straggler {
	enum watch_kind kind;
	int fd;
	uint64_t deadline_ns;
	uint64_t bytes_left;
	struct straggler *next;
	struct straggler **prev;
};

struct watch {
	enum watch_kind kind;
	int fd;
};

/* What only the thread itself knows. */
struct acceptor {
	struct http *h;
	struct watch wake;
	struct watch *listeners;
	size_t listener_count;
	bool armed;        /* listeners are watched */
	uint64_t retry_ns; /* do not accept before */
	uint64_t ticked_ns;
	uint64_t poked_ns;
	uint8_t drop[DROP_BYTES];
};

void
acceptor_wake(struct http *h)
{
	uint64_t one = 1;

	if (write(h->wake_fd, &one, sizeof one) != (ssize_t)sizeof one && errno != EAGAIN)
		bug("the acceptor cannot be woken: errno %d", errno);
}

/* ---- lingering ---- */

void
acceptor_linger(struct http *h, int fd)
{
	struct straggler *l;

	if (h->o.linger_timeout_ms == 0 || atomic_load(&h->stopping))
		return;
	l = calloc(1, sizeof *l);
	if (l == NULL)
		return;
	l->kind = WATCH_LINGER;
	l->deadline_ns = clock_mono_ns() + h->o.linger_timeout_ms * NS_PER_MS;
	l->bytes_left = h->o.linger_bytes;
	pthread_mutex_lock(&h->linger_mtx);
	l->fd = h->linger_count < LINGER_MAX ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (l->fd < 0) {
		pthread_mutex_unlock(&h->linger_mtx);
		free(l);
		return;
	}
	l->next = h->lingers;
	l->prev = &h->lingers;
	if (l->next != NULL)
		l->next->prev = &l->next;
	h->lingers = l;
	h->linger_count++;
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = l};
	epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, l->fd, &e);
	pthread_mutex_unlock(&h->linger_mtx);
}

static void
linger_end(struct http *h, struct straggler *l)
{
	pthread_mutex_lock(&h->linger_mtx);
	*l->prev = l->next;
	if (l->next != NULL)
		l->next->prev = l->prev;
	h->linger_count--;
	pthread_mutex_unlock(&h->linger_mtx);
	/* closing alone would not take it out of the set while MHD's descriptor is still open */
	epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, l->fd, NULL);
	close(l->fd);
	free(l);
}

static void
linger_drop(struct acceptor *a, struct straggler *l)
{
	for (int i = 0; i < DROP_ROUNDS; i++) {
		ssize_t n = recv(l->fd, a->drop, sizeof a->drop, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0 || (uint64_t)n >= l->bytes_left) {
			linger_end(a->h, l);
			return;
		}
		l->bytes_left -= (uint64_t)n;
	}
}

/* Returns whether some are left. */
static bool
linger_expire(struct http *h, uint64_t now_ns)
{
	struct straggler *l;
	struct straggler *next;

	pthread_mutex_lock(&h->linger_mtx);
	l = h->lingers;
	pthread_mutex_unlock(&h->linger_mtx);
	/* only this thread removes; others add at the head, before l */
	for (; l != NULL; l = next) {
		next = l->next;
		if (now_ns >= l->deadline_ns)
			linger_end(h, l);
	}
	pthread_mutex_lock(&h->linger_mtx);
	bool left = h->lingers != NULL;
	pthread_mutex_unlock(&h->linger_mtx);
	return left;
}

/* ---- accepting ---- */

static bool
has_room(struct http *h)
{
	pthread_mutex_lock(&h->conns_mtx);
	bool room = h->conn_count < h->connections_max;
	pthread_mutex_unlock(&h->conns_mtx);
	return room;
}

/* Descriptors or memory ran out: the connection stays in the kernel's queue. */
static void
back_off(struct acceptor *a, int errnum)
{
	a->retry_ns = clock_mono_ns() + RETRY_MS * NS_PER_MS;
	log_event(LOG_LEVEL_WARN, "accept_failed", "errno=%d retry_ms=%d", errnum, RETRY_MS);
}

/* False: nothing more to take now. */
static bool
accept_one(struct acceptor *a, int listen_fd)
{
	struct sockaddr_storage addr;
	socklen_t addr_len = sizeof addr;

	memset(&addr, 0, sizeof addr);
	int fd = accept4(
		listen_fd, (struct sockaddr *)&addr, &addr_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		conn_add(a->h, fd, (struct sockaddr *)&addr,
			addr_len > 0 ? addr_len : (socklen_t)sizeof(sa_family_t));
		return true;
	}
	switch (errno) {
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		back_off(a, errno);
		return false;
	case EAGAIN:
		return false;
	default: /* that one connection failed before it was taken */
		return true;
	}
}

static void
accept_some(struct acceptor *a, int listen_fd)
{
	for (int i = 0; i < ACCEPTS_MAX && has_room(a->h); i++)
		if (!accept_one(a, listen_fd))
			return;
}

/* Watch the listeners if we could take a connection; level-triggered events of listeners that we
 * leave alone would otherwise spin. */
static void
arm_listeners(struct acceptor *a, uint64_t now_ns)
{
	/* before the look, so that a close after the look wakes us */
	atomic_store(&a->h->at_limit, true);
	bool room = has_room(a->h);
	bool want = room && now_ns >= a->retry_ns;

	if (room)
		atomic_store(&a->h->at_limit, false);
	if (want == a->armed)
		return;
	for (size_t i = 0; i < a->listener_count; i++) {
		struct epoll_event e = {.events = want ? EPOLLIN : 0, .data.ptr = &a->listeners[i]};
		epoll_ctl(a->h->epoll_fd, EPOLL_CTL_MOD, a->listeners[i].fd, &e);
	}
	a->armed = want;
}

/* Those that connected before we said so get a 503 and not a reset. */
static void
close_listeners(struct acceptor *a)
{
	for (size_t i = 0; i < a->listener_count; i++) {
		accept_some(a, a->listeners[i].fd);
		epoll_ctl(a->h->epoll_fd, EPOLL_CTL_DEL, a->listeners[i].fd, NULL);
		close(a->listeners[i].fd);
		endpoint_unlink(&a->h->listeners[i].at);
	}
	a->listener_count = 0;
}

/* ---- the thread ---- */

static void
handle_event(struct acceptor *a, const struct epoll_event *e)
{
	const enum watch_kind *kind = e->data.ptr;
	const struct watch *w = e->data.ptr;
	uint64_t count;

	switch (*kind) {
	case WATCH_WAKE:
		if (read(w->fd, &count, sizeof count) < 0 && errno != EAGAIN)
			bug("the acceptor's eventfd fails: errno %d", errno);
		return;
	case WATCH_LISTENER:
		accept_some(a, w->fd);
		return;
	case WATCH_LINGER:
		linger_drop(a, e->data.ptr);
		return;
	}
}

static int
next_timeout_ms(const struct acceptor *a, uint64_t now_ns, bool lingering)
{
	uint64_t tick_ms = a->h->o.tick_ms;
	uint64_t since_ms = (now_ns - a->ticked_ns) / NS_PER_MS;
	uint64_t ms = since_ms < tick_ms ? tick_ms - since_ms : 0;

	if (lingering && ms > LINGER_LOOK_MS)
		ms = LINGER_LOOK_MS;
	if (now_ns < a->retry_ns && ms > RETRY_MS)
		ms = RETRY_MS;
	if (conn_want_pokes(a->h) && ms > CONN_POKE_MS)
		ms = CONN_POKE_MS;
	return (int)ms;
}

static void
acceptor_loop(struct acceptor *a)
{
	struct http *h = a->h;
	struct epoll_event events[EVENTS_MAX];
	bool lingering = false;

	while (!atomic_load(&h->acceptor_stop)) {
		uint64_t now_ns = clock_mono_ns();
		int n = epoll_wait(
			h->epoll_fd, events, EVENTS_MAX, next_timeout_ms(a, now_ns, lingering));
		for (int i = 0; i < n; i++)
			handle_event(a, &events[i]);
		now_ns = clock_mono_ns();
		lingering = linger_expire(h, now_ns);
		if (http_is_quiesced(h) && a->listener_count > 0)
			close_listeners(a);
		arm_listeners(a, now_ns);
		if (now_ns - a->poked_ns >= CONN_POKE_MS * NS_PER_MS) {
			conn_poke_loops(h);
			a->poked_ns = now_ns;
		}
		if (now_ns - a->ticked_ns >= h->o.tick_ms * NS_PER_MS) {
			conn_tick(h, now_ns - a->ticked_ns);
			a->ticked_ns = now_ns;
		}
	}
}

static void
acceptor_free(struct acceptor *a)
{
	if (a == NULL)
		return;
	free(a->listeners);
	free(a);
}

static void *
acceptor_main(void *arg)
{
	struct acceptor *a = arg;

	acceptor_loop(a);
	close_listeners(a);
	acceptor_free(a);
	return NULL;
}

static bool
watch(struct http *h, struct watch *w)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = w};

	return epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, w->fd, &e) == 0;
}

static struct acceptor *
acceptor_open(struct http *h)
{
	struct acceptor *a = calloc(1, sizeof *a);

	if (a == NULL)
		return NULL;
	a->h = h;
	a->armed = true;
	a->ticked_ns = clock_mono_ns();
	a->wake = (struct watch){WATCH_WAKE, h->wake_fd};
	a->listeners = calloc(h->o.listener_count + 1, sizeof *a->listeners);
	bool ok = a->listeners != NULL && watch(h, &a->wake);
	for (size_t i = 0; ok && i < h->o.listener_count; i++) {
		a->listeners[i] = (struct watch){WATCH_LISTENER, h->listeners[i].fd};
		ok = watch(h, &a->listeners[i]);
		a->listener_count++;
	}
	if (!ok) {
		acceptor_free(a);
		return NULL;
	}
	return a;
}

enum rc
acceptor_start(struct http *h, struct err *err)
{
	struct acceptor *a = acceptor_open(h);

	if (a == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "no memory to accept connections");
	int e = pthread_create(&h->acceptor, NULL, acceptor_main, a);
	if (e != 0) {
		acceptor_free(a);
		return err_errno(err, e, "start the thread that accepts connections", NULL);
	}
	h->acceptor_runs = true;
	return RC_OK;
}

void
acceptor_done(struct http *h)
{
	linger_expire(h, UINT64_MAX);
}

void
acceptor_stop(struct http *h)
{
	if (!h->acceptor_runs)
		return;
	atomic_store(&h->acceptor_stop, true);
	acceptor_wake(h);
	pthread_join(h->acceptor, NULL);
	h->acceptor_runs = false;
}
