#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every C file is as clang-format 14 (Debian 12's) writes it with our .clang-format; another version
# writes other spaces, so it does not count. `format.sh --fix` rewrites the files.
. "$(dirname "$0")/common.sh"
tool=
for name in clang-format-14 clang-format; do
	if $name --version 2>/dev/null | grep -q 'version 14\.'; then
		tool=$name
		break
	fi
done
[ -n "$tool" ] || {
	echo "no clang-format 14"
	exit 77
}
files=$(c_files $LAYERS tests bench)
[ -n "$files" ] || exit 0
if [ "${1:-}" = --fix ]; then
	# Some comments settle only in a second pass.
	$tool -i $files && exec $tool -i $files
fi
$tool --dry-run -Werror $files 2>&1 |
	sed -nE 's/^([^:]*:[0-9]+):[0-9]+: error: .*/\1: not as clang-format writes it: run .\/dev fmt/p' |
	sort -t: -k1,1 -u | grep . && bad=1
exit $bad
