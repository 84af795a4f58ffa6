#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# embed_file.sh NAME FILE: print C that defines NAME (the bytes of FILE) and NAME_bytes (how many).
# A byte array and not a string: C11 promises no more than 4,095 characters for a literal.
set -eu
name=$1
file=$2
test -s "$file" || {
	echo "embed_file.sh: $file is empty or missing" >&2
	exit 1
}
echo "const uint8_t ${name}[] = {"
od -An -v -tu1 "$file" | sed 's/ *\([0-9][0-9]*\)/\1,/g'
echo "};"
echo "const size_t ${name}_bytes = sizeof($name);"
