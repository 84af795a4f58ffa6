/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ENDPOINT_H
#define DG_ENDPOINT_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "err.h"

/* endpoint: an address to listen at, as text and as a bound socket.
 *
 * Text: "127.0.0.1:8420", "[::1]:8420", "localhost:8420" (127.0.0.1), "*:8420" (every IPv4 and IPv6
 * address), "unix:/path/of/socket". Names are not looked up. Port 0 lets the kernel choose. */

struct endpoint {
	socklen_t addr_len;
	union {
		struct sockaddr any;
		struct sockaddr_storage storage;
		struct sockaddr_un un;
	} addr;
	bool dual_stack; /* IPv6 socket that takes IPv4 too */
};

/* RC_INVALID kind "invalid-field" with a text that names the forms that are allowed. */
enum rc endpoint_parse(const char *text, struct endpoint *out, struct err *err);
/* Nobody outside this machine can connect to it: loopback or a Unix socket. */
bool endpoint_is_local(const struct endpoint *e);
/* A listening, non-blocking, close-on-exec socket. A Unix socket file that nobody answers at is
 * replaced, and gets mode 0660. RC_INVALID: the address is in use or not ours; the text names it.
 * RC_IO. */
enum rc endpoint_listen(const struct endpoint *e, int *fd, struct err *err);
/* Remove the file of a Unix socket; nothing for others. */
void endpoint_unlink(const struct endpoint *e);

#define ENDPOINT_TEXT_BYTES 160
/* The address as text, in numbers, into out (ENDPOINT_TEXT_BYTES). */
void endpoint_format(const struct endpoint *e, char *out);
/* The address the socket really has ("127.0.0.1:43210") into out (ENDPOINT_TEXT_BYTES). */
void endpoint_text(int fd, char *out);

#endif
