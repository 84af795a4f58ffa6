#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every file says its licence: C files in their first line, others in one of the first three.
. "$(dirname "$0")/common.sh"
tag='SPDX-License-Identifier: Apache-2.0'

for file in $(tree_files); do
	case $file in
	*.[ch])
		[ "$(head -n 1 "$file")" = "/* $tag */" ] ||
			complain "$file" 1 "the first line is not /* $tag */"
		;;
	*.sh | *.py | *.sql | *.yaml | *.yml | *.ac | *.am | *.inc | *.in | *.js | *.mjs | *.css | \
		*.html | *.conf | dev | .ci/run | bench/run | bench/regress | */Dockerfile)
		head -n 3 "$file" | grep -q "$tag" || complain "$file" 1 "no '$tag' in the first lines"
		;;
	esac
done
exit $bad
