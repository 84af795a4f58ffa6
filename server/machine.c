/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hex.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* The first line of a file that begins with prefix, without it and its newline. */
static bool
find_line(const char *path, const char *prefix, char *out, size_t out_bytes)
{
	FILE *f = fopen(path, "re");
	size_t len = strlen(prefix);
	bool found = false;

	if (f == NULL)
		return false;
	while (!found && fgets(out, (int)out_bytes, f) != NULL)
		found = strncmp(out, prefix, len) == 0;
	fclose(f);
	if (!found)
		return false;
	memmove(out, out + len, strlen(out + len) + 1);
	out[strcspn(out, "\n")] = '\0';
	return true;
}

/* The limit of one group; most if it has none ("max") or is not there. */
static uint64_t
group_limit(const char *group, uint64_t most)
{
	char path[1100];
	char text[64];
	uint64_t limit;

	snprintf(path, sizeof path, CGROUP_ROOT "%s/memory.max", group);
	if (!find_line(path, "", text, sizeof text) || !parse_u64(text, strlen(text), &limit))
		return most;
	return limit < most ? limit : most;
}

uint64_t
machine_memory_bytes(void)
{
	uint64_t bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	char group[1024];

	if (!find_line("/proc/self/cgroup", "0::", group, sizeof group))
		return bytes;
	/* a limit of any group above counts as well */
	for (char *end = group + strlen(group); end != NULL; end = strrchr(group, '/')) {
		*end = '\0';
		bytes = group_limit(group, bytes);
	}
	return bytes;
}

void
machine_share_pools(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (getenv("MALLOC_ARENA_MAX") == NULL)
		mallopt(M_ARENA_MAX, cores < 4 ? 1 : (int)(cores / 2));
}
