/* SPDX-License-Identifier: Apache-2.0 */
#include "http.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "cond.h"
#include "hex.h"
#include "http_impl.h"
#include "log.h"
#include "rand.h"

/* Descriptors for packs, database connections and the rest of the process. */
#define NOFILE_RESERVE       512
#define MHD_LINES_PER_SECOND 20

/* ---- what MHD tells us ---- */

/* Its lines are mostly about clients that went away, so a flood of them is no news. */
static bool
may_log(struct http *h)
{
	uint64_t second = clock_mono_ns() / 1000000000u;
	uint64_t old = atomic_load(&h->log_window);
	uint64_t new;

	do {
		new = old >> 8 == second ? old + 1 : second << 8;
		if ((new & 0xff) >= MHD_LINES_PER_SECOND)
			return false;
	} while (!atomic_compare_exchange_weak(&h->log_window, &old, new));
	return true;
}

static void log_mhd(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static void
log_mhd(void *cls, const char *fmt, va_list ap)
{
	char line[300];

	if (!may_log(cls))
		return;
	int n = vsnprintf(line, sizeof line, fmt, ap);
	if (n > 0 && (size_t)n < sizeof line && line[n - 1] == '\n')
		line[n - 1] = '\0';
	log_event(LOG_LEVEL_DEBUG, "mhd", "text=\"%s\"", line);
}

static void
panic(void *cls, const char *file, unsigned line, const char *reason)
{
	(void)cls;
	log_event(LOG_LEVEL_ERROR, "mhd_panic", "at=%s:%u reason=\"%s\"", file, line, reason);
	abort();
}

/* The router decodes. MHD's own decoding would end a path at %00. */
static size_t
keep_escapes(void *cls, struct MHD_Connection *con, char *text)
{
	(void)cls;
	(void)con;
	return strlen(text);
}

/* ---- starting ---- */

/* Raise the soft limit of open files as far as we may. Returns what we have. */
static size_t
raise_nofile(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return 1024;
	if (r.rlim_cur < r.rlim_max) {
		rlim_t before = r.rlim_cur;
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) != 0)
			r.rlim_cur = before;
	}
	/* a table of this size is kept, so an unlimited system gets a limit */
	return r.rlim_cur < 1u << 20 ? (size_t)r.rlim_cur : 1u << 20;
}

static void
set_connection_limit(struct http *h)
{
	size_t nofile = raise_nofile();
	size_t reserve = NOFILE_RESERVE + LINGER_MAX;
	size_t most = nofile > 2 * reserve ? nofile - reserve : nofile / 2;

	h->conns_cap = nofile;
	h->connections_max = h->o.connections_max < most ? h->o.connections_max : most;
	if (h->connections_max < h->o.connections_max)
		log_event(LOG_LEVEL_INFO, "connections_limited", "wanted=%zu have=%zu nofile=%zu",
			h->o.connections_max, h->connections_max, nofile);
}

static enum rc
start_loop(struct http *h, struct loop *l, struct err *err)
{
	unsigned timeout_s = (unsigned)((h->o.connection_timeout_ms + 999) / 1000);

	l->http = h;
	l->mhd = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
					  MHD_USE_ITC | MHD_USE_ERROR_LOG |
					  MHD_USE_NO_LISTEN_SOCKET,
		0, NULL, NULL, exchange_handle, l, MHD_OPTION_EXTERNAL_LOGGER, log_mhd, h,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->connections_max + 1,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, h->o.connection_memory_bytes,
		MHD_OPTION_CONNECTION_TIMEOUT, timeout_s, MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_NOTIFY_COMPLETED, exchange_completed, l, MHD_OPTION_NOTIFY_CONNECTION,
		conn_notify, l, MHD_OPTION_URI_LOG_CALLBACK, exchange_begin, l,
		MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_END);
	if (l->mhd == NULL)
		return err_errno(err, errno != 0 ? errno : EIO, "start an HTTP thread", NULL);
	return RC_OK;
}

static enum rc
start_all(struct http *h, struct err *err)
{
	h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	h->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (h->epoll_fd < 0 || h->wake_fd < 0)
		return err_errno(err, errno, "prepare to accept connections", NULL);
	set_connection_limit(h);
	h->conns = calloc(h->conns_cap, sizeof(struct conn *));
	h->loops = calloc((size_t)h->o.threads, sizeof *h->loops);
	if (h->conns == NULL || h->loops == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "no memory for connections");
	MHD_set_panic_func(panic, NULL);
	for (int i = 0; i < h->o.threads; i++)
		if (start_loop(h, &h->loops[i], err) != RC_OK)
			return err->rc;
	return acceptor_start(h, err);
}

static void
init_locks(struct http *h)
{

	cond_init(&h->drained);
	pthread_mutex_init(&h->exchanges_mtx, NULL);
	pthread_mutex_init(&h->conns_mtx, NULL);
	pthread_mutex_init(&h->linger_mtx, NULL);
}

static struct http *
http_new(const struct http_options *o)
{
	struct http *h = calloc(1, sizeof *h);
	uint8_t boot[4];

	if (h == NULL)
		return NULL;
	h->listeners = calloc(o->listener_count + 1, sizeof *h->listeners);
	if (h->listeners == NULL) {
		free(h);
		return NULL;
	}
	memcpy(h->listeners, o->listeners, o->listener_count * sizeof *o->listeners);
	h->o = *o;
	h->o.listeners = NULL; /* the caller's array ends with the call */
	if (h->o.tick_ms == 0)
		h->o.tick_ms = 1000;
	h->epoll_fd = -1;
	h->wake_fd = -1;
	rand_bytes(boot, sizeof boot);
	hex_encode(boot, sizeof boot, h->boot_id);
	init_locks(h);
	return h;
}

enum rc
http_start(const struct http_options *o, struct http **out, struct err *err)
{
	struct http *h = http_new(o);

	*out = NULL;
	if (h == NULL) {
		err_set(err, RC_NOMEM, "no-memory", "no memory for the HTTP server");
	} else if (start_all(h, err) == RC_OK) {
		*out = h;
		return RC_OK;
	}
	/* no acceptor runs, so the listeners are still open */
	for (size_t i = 0; i < o->listener_count; i++) {
		close(o->listeners[i].fd);
		endpoint_unlink(&o->listeners[i].at);
	}
	http_free(h);
	return err->rc;
}

/* ---- stopping ---- */

bool
http_is_quiesced(const struct http *h)
{
	return atomic_load(&h->quiesced);
}

void
http_quiesce(struct http *h)
{
	atomic_store(&h->quiesced, true);
	acceptor_wake(h);
	exchange_wake_all(h);
}

size_t
http_drain(struct http *h, uint64_t timeout_ms)
{
	uint64_t until_ns = clock_mono_ns() + timeout_ms * 1000000;
	int e = 0;

	pthread_mutex_lock(&h->exchanges_mtx);
	while (h->in_flight > 0 && e == 0)
		e = cond_wait_until(&h->drained, &h->exchanges_mtx, until_ns);
	size_t left = h->in_flight;
	pthread_mutex_unlock(&h->exchanges_mtx);
	return left;
}

static void
wait_for_resumers(struct http *h)
{
	while (atomic_load(&h->resumers) > 0)
		sched_yield();
}

/* MHD_stop_daemon must not find a suspended connection. From `stopping` on no handler leaves one
 * suspended: either it sees the flag, or it was about to wait when exchange_wake_all posted, and
 * then gate_wait is refused and it resumes by itself. Those that waited before are resumed here, or
 * by somebody who is counted in resumers. After that no gate says WAITING, so nobody calls MHD. */
void
http_stop(struct http *h)
{
	acceptor_stop(h);
	if (atomic_exchange(&h->stopping, true))
		return;
	exchange_wake_all(h);
	wait_for_resumers(h);
	for (int i = 0; h->loops != NULL && i < h->o.threads; i++)
		if (h->loops[i].mhd != NULL)
			MHD_stop_daemon(h->loops[i].mhd);
	acceptor_done(h);
}

static void
free_conns(struct http *h)
{
	for (size_t fd = 0; h->conns != NULL && fd < h->conns_cap; fd++)
		free(h->conns[fd]);
	free(h->conns);
}

void
http_free(struct http *h)
{
	if (h == NULL)
		return;
	http_stop(h);
	wait_for_resumers(h);
	if (h->exchanges != NULL) {
		bug("requests are owed an end that will not come");
		return; /* whoever comes late must still find us */
	}
	if (h->epoll_fd >= 0)
		close(h->epoll_fd);
	if (h->wake_fd >= 0)
		close(h->wake_fd);
	free_conns(h);
	free(h->loops);
	free(h->listeners);
	pthread_mutex_destroy(&h->exchanges_mtx);
	pthread_mutex_destroy(&h->conns_mtx);
	pthread_mutex_destroy(&h->linger_mtx);
	pthread_cond_destroy(&h->drained);
	free(h);
}

void
http_latency(const struct http *h, enum http_kind kind, struct histogram_view *out)
{
	histogram_read(&h->latency[kind], out);
}

struct http_stats
http_stats(struct http *h)
{
	struct http_stats s = {
		.connections_accepted = atomic_load(&h->accepted),
		.connections_cut = atomic_load(&h->cut),
		.body_bytes_in = atomic_load(&h->bytes_in),
		.body_bytes_out = atomic_load(&h->bytes_out),
		.requests = atomic_load(&h->next_id),
	};

	for (int i = 0; i < 6; i++)
		s.status[i] = atomic_load(&h->status_count[i]);
	pthread_mutex_lock(&h->conns_mtx);
	s.connections = h->conn_count;
	pthread_mutex_unlock(&h->conns_mtx);
	pthread_mutex_lock(&h->exchanges_mtx);
	s.requests_active = h->in_flight;
	pthread_mutex_unlock(&h->exchanges_mtx);
	return s;
}
