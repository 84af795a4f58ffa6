/* SPDX-License-Identifier: Apache-2.0 */
#include "import_team.h"

#include <pthread.h>
#include <stddef.h>

struct step {
	void (*fn)(void *arg);
	void *arg;
};

static void *
helper_main(void *arg)
{
	const struct step *s = arg;

	s->fn(s->arg);
	return NULL;
}

void
import_team_run(unsigned threads, void (*fn)(void *arg), void *arg)
{
	pthread_t helpers[IMPORT_TEAM_MAX];
	struct step step = {fn, arg};
	unsigned started = 0;

	while (started + 1 < threads && started + 1 < IMPORT_TEAM_MAX &&
		pthread_create(&helpers[started], NULL, helper_main, &step) == 0)
		started++;
	fn(arg);
	while (started > 0)
		pthread_join(helpers[--started], NULL);
}
