/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "machine.h"

/* Whatever limits there are here: it is neither nothing nor more than the machine has. */
static void
memory_is_that_of_the_machine_at_most(void **state)
{
	uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	(void)state;

	assert_true(machine_memory_bytes() > 0);
	assert_true(machine_memory_bytes() <= all);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_that_of_the_machine_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
