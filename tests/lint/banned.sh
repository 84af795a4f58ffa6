#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Functions we do not call, with what to use instead. A line that has a written reason says
# `lint: allow NAME` in a comment on the same line.
. "$(dirname "$0")/common.sh"

# pattern|instead
rules='strcpy|a bounded copy: snprintf or memcpy with a checked length
strcat|struct buf or snprintf
stpcpy|a bounded copy
sprintf|snprintf
vsprintf|vsnprintf
gets|fgets or read
strtok|strchr or strcspn
strtok_r|strchr or strcspn
atoi|parse_u64 of hex.h
atol|parse_u64 of hex.h
atoll|parse_u64 of hex.h
strtol|parse_u64 of hex.h
strtoll|parse_u64 of hex.h
strtoul|parse_u64 of hex.h
strtoull|parse_u64 of hex.h
gmtime|clock.h, or gmtime_r
localtime|clock.h
ctime|clock.h
asctime|clock.h
strerror|err_errno of err.h, or strerror_r
rand|rand.h
srand|rand.h
random|rand.h
system|posix_spawn or exec
popen|posix_spawn or exec
alloca|an array of fixed size or the heap
tmpnam|mkstemp
mktemp|mkstemp
PQexec|the statements of db.h'

names=$(echo "$rules" | sed 's/|.*//')
pattern=$(echo $names | tr ' ' '|')
work=$(mktemp) || exit 1
trap 'rm -f "$work"' EXIT

for file in $(c_files $LAYERS tests bench); do
	strip_c <"$file" | grep -nE "(^|[^A-Za-z0-9_])($pattern)[[:space:]]*\(" | while IFS= read -r hit; do
		line=${hit%%:*}
		name=$(printf '%s\n' "${hit#*:}" | grep -oE "(^|[^A-Za-z0-9_])($pattern)[[:space:]]*\(" |
			head -n 1 | sed 's/^[^A-Za-z0-9_]//; s/[[:space:]]*($//')
		case "$file $name" in
		store/*\ PQexec | tests/*\ PQexec | bench/*\ strto*) continue ;;
		esac
		sed -n "${line}p" "$file" | grep -q "lint: allow $name" && continue
		instead=$(echo "$rules" | sed -n "s/^$name|//p")
		echo "$file:$line: $name() is banned: use $instead"
	done
done >"$work"
cat "$work"
[ ! -s "$work" ] || exit 1
