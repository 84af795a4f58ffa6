/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hex.h"

/* The kernel cuts it to net.core.somaxconn. */
#define LISTEN_BACKLOG 1024

#define FORMS "use 127.0.0.1:8420, [::1]:8420, localhost:8420, *:8420 (every address) or unix:/path"

static enum rc
parse_unix(const char *path, struct endpoint *out, struct err *err)
{
	size_t len = strlen(path);

	if (path[0] != '/')
		return err_set(err, RC_INVALID, "invalid-field",
			"unix:%s is no absolute path; " FORMS, path);
	if (len >= sizeof out->addr.un.sun_path)
		return err_set(err, RC_INVALID, "invalid-field",
			"the path of a Unix socket has at most %zu bytes, unix:%s has %zu",
			sizeof out->addr.un.sun_path - 1, path, len);
	out->addr.un.sun_family = AF_UNIX;
	memcpy(out->addr.un.sun_path, path, len + 1);
	out->addr_len = (socklen_t)sizeof out->addr.un;
	return RC_OK;
}

static bool
fill_ip4(const char *host, uint16_t port, struct endpoint *out)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
		return false;
	memcpy(&out->addr, &in, sizeof in);
	out->addr_len = (socklen_t)sizeof in;
	return true;
}

static bool
fill_ip6(const char *host, uint16_t port, struct endpoint *out)
{
	struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (inet_pton(AF_INET6, host, &in.sin6_addr) != 1)
		return false;
	memcpy(&out->addr, &in, sizeof in);
	out->addr_len = (socklen_t)sizeof in;
	return true;
}

static bool
fill_host(const char *host, uint16_t port, struct endpoint *out)
{
	size_t len = strlen(host);
	char inner[INET6_ADDRSTRLEN];

	if (strcmp(host, "localhost") == 0)
		return fill_ip4("127.0.0.1", port, out);
	if (strcmp(host, "*") == 0) {
		out->dual_stack = true;
		return fill_ip6("::", port, out);
	}
	if (host[0] != '[')
		return fill_ip4(host, port, out);
	if (len < 3 || host[len - 1] != ']' || len - 2 >= sizeof inner)
		return false;
	memcpy(inner, host + 1, len - 2);
	inner[len - 2] = '\0';
	return fill_ip6(inner, port, out);
}

enum rc
endpoint_parse(const char *text, struct endpoint *out, struct err *err)
{
	const char *colon = strrchr(text, ':');
	struct endpoint e;
	char host[64];
	uint64_t port;

	memset(&e, 0, sizeof e);
	if (strncmp(text, "unix:", 5) == 0) {
		enum rc rc = parse_unix(text + 5, &e, err);
		if (rc == RC_OK)
			*out = e;
		return rc;
	}
	if (colon == NULL || (size_t)(colon - text) >= sizeof host)
		return err_set(err, RC_INVALID, "invalid-field",
			"\"%.100s\" is no address to listen at; " FORMS, text);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	if (!parse_u64(colon + 1, strlen(colon + 1), &port) || port > UINT16_MAX)
		return err_set(err, RC_INVALID, "invalid-field",
			"\"%.100s\" has no port from 0 to 65535; " FORMS, text);
	if (!fill_host(host, (uint16_t)port, &e))
		return err_set(err, RC_INVALID, "invalid-field",
			"\"%.100s\" is no numeric address; " FORMS, text);
	*out = e;
	return RC_OK;
}

bool
endpoint_is_local(const struct endpoint *e)
{
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;

	switch (e->addr.any.sa_family) {
	case AF_UNIX:
		return true;
	case AF_INET:
		memcpy(&in4, &e->addr, sizeof in4);
		return ntohl(in4.sin_addr.s_addr) >> 24 == 127;
	default:
		memcpy(&in6, &e->addr, sizeof in6);
		return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
	}
}

/* A socket file is stale if nobody accepts there. Anything else at the path is left alone, and
 * bind() then says that it is there. */
static void
remove_stale(const struct endpoint *e)
{
	struct stat st;
	int fd;

	if (lstat(e->addr.un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (connect(fd, &e->addr.any, e->addr_len) != 0 && errno == ECONNREFUSED)
		unlink(e->addr.un.sun_path);
	close(fd);
}

static enum rc
bind_and_listen(int fd, const struct endpoint *e, struct err *err)
{
	int family = e->addr.any.sa_family;
	int on = 1;
	int v6only = !e->dual_stack;

	if (family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
	if (family == AF_UNIX)
		remove_stale(e);
	if (bind(fd, &e->addr.any, e->addr_len) != 0) {
		int e_bind = errno;
		char text[ENDPOINT_TEXT_BYTES];
		endpoint_format(e, text);
		if (e_bind == EADDRINUSE)
			return err_set(err, RC_INVALID, "invalid-field",
				"cannot listen at %s: the address is in use by another process",
				text);
		if (e_bind == EADDRNOTAVAIL)
			return err_set(err, RC_INVALID, "invalid-field",
				"cannot listen at %s: this machine has no such address", text);
		return err_errno(err, e_bind, "listen at", text);
	}
	if (family == AF_UNIX)
		(void)chmod(e->addr.un.sun_path, 0660);
	if (listen(fd, LISTEN_BACKLOG) != 0)
		return err_errno(err, errno, "listen", NULL);
	return RC_OK;
}

enum rc
endpoint_listen(const struct endpoint *e, int *out, struct err *err)
{
	int fd = socket(e->addr.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*out = -1;
	if (fd < 0)
		return err_errno(err, errno, "open a socket", NULL);
	enum rc rc = bind_and_listen(fd, e, err);
	if (rc != RC_OK) {
		close(fd);
		return rc;
	}
	*out = fd;
	return RC_OK;
}

void
endpoint_unlink(const struct endpoint *e)
{
	if (e->addr.any.sa_family == AF_UNIX)
		unlink(e->addr.un.sun_path);
}

void
endpoint_format(const struct endpoint *e, char *out)
{
	char host[INET6_ADDRSTRLEN] = "?";
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;

	switch (e->addr.any.sa_family) {
	case AF_UNIX:
		snprintf(out, ENDPOINT_TEXT_BYTES, "unix:%s", e->addr.un.sun_path);
		break;
	case AF_INET:
		memcpy(&in4, &e->addr, sizeof in4);
		inet_ntop(AF_INET, &in4.sin_addr, host, sizeof host);
		snprintf(out, ENDPOINT_TEXT_BYTES, "%s:%u", host, ntohs(in4.sin_port));
		break;
	case AF_INET6:
		memcpy(&in6, &e->addr, sizeof in6);
		inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
		snprintf(out, ENDPOINT_TEXT_BYTES, "[%s]:%u", host, ntohs(in6.sin6_port));
		break;
	default:
		snprintf(out, ENDPOINT_TEXT_BYTES, "?");
		break;
	}
}

void
endpoint_text(int fd, char *out)
{
	struct endpoint e;

	memset(&e, 0, sizeof e);
	e.addr_len = (socklen_t)sizeof e.addr;
	if (getsockname(fd, &e.addr.any, &e.addr_len) != 0)
		memset(&e, 0, sizeof e);
	endpoint_format(&e, out);
}
