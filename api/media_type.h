/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_MEDIA_TYPE_H
#define DG_MEDIA_TYPE_H

#include <stddef.h>

/* The media type of a file by what is behind the last dot of its name, in either case;
 * "application/octet-stream" if that says nothing. path need not end in NUL. Static. Threads: any.
 * No charset is claimed: nobody has looked into the file. */
const char *media_type_of(const char *path, size_t len);

#endif
