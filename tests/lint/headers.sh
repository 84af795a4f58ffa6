#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every header compiles alone, with what its layer may see and nothing before it, and has the guard
# DG_<FILE>_H.
. "$(dirname "$0")/common.sh"
cc=${CC:-cc}
command -v ${cc%% *} >/dev/null || exit 77
flags="-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror -fsyntax-only"
pq=$(pkg-config --cflags libpq 2>/dev/null || :)

for header in $(c_files $LAYERS tests bench | grep '\.h$'); do
	name=$(basename "$header" .h | tr a-z- A-Z_)
	guard="DG_${name}_H"
	got=$(sed -n 's/^#ifndef[[:space:]]*//p' "$header" | head -n 1)
	[ "$got" = "$guard" ] || complain "$header" 1 "guard is '$got', not $guard"
	grep -q "^#define $guard\$" "$header" || complain "$header" 1 "#define $guard is missing"
done

# One compilation a header, two at a time.
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
for layer in $LAYERS; do
	includes=$(layer_includes $layer)
	# main.c's own view: a server header for it alone would be listed here.
	[ $layer != store ] || includes="$includes $pq"
	for header in $(c_files $layer | grep '\.h$'); do
		echo "$includes -include $header"
	done
done >"$work/jobs"
xargs -P 2 -I '{}' sh -c "$cc $flags {} -x c /dev/null" <"$work/jobs" >"$work/out" 2>&1 || bad=1
grep -E '(error|warning):' "$work/out" | sed -E 's/^([^:]*:[0-9]+):[0-9]+: /\1: /' | sort -u
exit $bad
