#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Who may include whom: server -> api -> core -> store -> base, and every foreign header in its one
# home. The -I lists of the Makefile fence our own headers already; headers in the compiler's default
# path (microhttpd.h, jansson.h, …) are fenced only here.
. "$(dirname "$0")/common.sh"

# may LAYER FILE: the layers FILE of LAYER may include from.
may() {
	case $2 in
	server/main.c | server/jobs.c) echo "server api core store base" ;;
	server/*) echo "server api base" ;;
	api/*) echo "api core base" ;;
	core/*) echo "core store base" ;;
	store/*) echo "store base" ;;
	base/*) echo "base" ;;
	esac
}

# room FILE HEADER: core's rooms. ingest knows what a content is, but nothing of paths, stages,
# trees or commits; nobody outside care/ leans on it.
room() {
	case "$1 $2" in
	core/ingest/*\ core/ingest/*) ;;
	core/ingest/*\ core/history/content.h) ;;
	core/ingest/*\ core/*) echo "core/ingest may not know $2" ;;
	core/care/*\ core/care/*) ;;
	core/*\ core/care/*) echo "only core/care may include $2" ;;
	esac
}

# foreign FILE HEADER: say why FILE may not include <HEADER>.
foreign() {
	case $2 in
	microhttpd.h)
		case $1 in server/*) return ;; esac
		echo "libmicrohttpd belongs in server/"
		;;
	jansson.h)
		case $1 in api/*) return ;; esac
		echo "jansson belongs in api/"
		;;
	libpq-fe.h | libpq/* | postgres_ext.h)
		case $1 in store/db*.[ch] | store/migrate.c | store/pg*.c) return ;; esac
		echo "libpq belongs in store/db*, store/migrate.c and store/pg*.c"
		;;
	openssl/* | zstd.h | zstd_errors.h | xxhash.h)
		case $1 in base/*) return ;; esac
		echo "OpenSSL, zstd and xxhash belong in base/"
		;;
	archive.h | archive_entry.h | zlib.h)
		case $1 in core/*archive*.[ch]) return ;; esac
		echo "libarchive and zlib belong in core's archive files"
		;;
	esac
}

# Names must be unique in the tree: includes are bare.
headers=$(c_files $LAYERS | grep '\.h$')
c_files $LAYERS tests bench | sed 's|.*/||' | sort | uniq -d | while read -r name; do
	echo "$name: this file name exists more than once:" \
		$(c_files $LAYERS tests bench | grep "/$name\$")
done | grep . && bad=1

includes=$(for file in $(c_files $LAYERS); do
	grep -Hn '^[[:space:]]*#[[:space:]]*include' "$file"
done | sed -n 's/^\([^:]*\):\([0-9]*\):[^<"]*\([<"]\)\([^>"]*\)[>"].*/\1 \2 \3 \4/p')

found=$(echo "$includes" | while read -r file line kind name; do
	[ -n "$file" ] || continue
	if [ "$kind" = '<' ]; then
		why=$(foreign "$file" "$name")
		[ -z "$why" ] || complain "$file" "$line" "<$name>: $why"
		continue
	fi
	case $name in
	*/*) complain "$file" "$line" "\"$name\": includes are bare names" ;;
	esac
	target=$(echo "$headers" | grep "/$name\$" | head -n 1)
	if [ -z "$target" ]; then
		why=$(foreign "$file" "$name")
		complain "$file" "$line" "\"$name\": ${why:-no such header in the tree}"
		continue
	fi
	case " $(may "$(layer_of "$file")" "$file") " in
	*" $(layer_of "$target") "*) ;;
	*) complain "$file" "$line" "$(layer_of "$file")/ may not include $target" ;;
	esac
	why=$(room "$file" "$target")
	[ -z "$why" ] || complain "$file" "$line" "$why"
done)
[ -z "$found" ] || {
	echo "$found"
	bad=1
}
exit $bad
