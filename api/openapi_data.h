/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_OPENAPI_DATA_H
#define DG_OPENAPI_DATA_H

#include <stddef.h>
#include <stdint.h>

/* openapi_data: the contract itself, as written and as JSON, embedded at build time. Neither ends
 * in a NUL. */

extern const uint8_t openapi_yaml[];
extern const size_t openapi_yaml_bytes;
extern const uint8_t openapi_json[];
extern const size_t openapi_json_bytes;

#endif
