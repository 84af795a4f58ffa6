#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Nobody forgets a file: every .c and .h of the layers, of bench/ and of tests/ is listed in its
# folder's Makefile.inc.
#
#   sources.sh          complain about what is missing or gone
#   sources.sh --fix    write the Makefile.inc files anew from what is there
#   sources.sh --list   print every file of the project (make dist copies them)
#
# A test or benchmark program is built with the layers whose headers it includes and those below:
# the topmost header decides. A helper beside it (same folder, no main) is compiled in where its
# header is included, or where a `/* With: helper.c */` line asks for it.
. "$(dirname "$0")/common.sh"

# list NAME FILE...: a make variable, one file a line.
list() {
	printf '%s =' "$1"
	shift
	for file in "$@"; do
		printf ' \\\n\t%s' "$file"
	done
	printf '\n'
}

heading() {
	echo "# SPDX-License-Identifier: Apache-2.0"
	echo "# Written by tests/lint/sources.sh --fix; add a file, run it, commit both."
}

emit_layer() {
	heading
	list "lib${1}_a_SOURCES" $(c_files "$1" | grep -v '_data\.c$')
}

emit_store() {
	emit_layer store
	list MIGRATIONS $(tree_files | grep '^migrations/[0-9]*_.*\.sql$')
}

emit_server() {
	heading
	# main and jobs see every layer; the rest sees only what is below server/.
	list libserver_a_SOURCES $(c_files server | grep -vE '^server/(main|jobs)\.[ch]$')
	list digstored_SOURCES $(c_files server | grep -E '^server/(main|jobs)\.[ch]$')
}

# Bare names of the headers FILE includes, its helpers' included too.
headers_of() {
	for file in "$@"; do
		sed -n 's/^[ \t]*#[ \t]*include[ \t]*"\([^"]*\)".*/\1/p' "$file"
	done
}

# The topmost layer whose header is among the names on standard input.
topmost_layer() {
	layer_headers=$layer_headers awk '
	BEGIN {
		split("base store core api server", order, " ")
		for (i in order) rank[order[i]] = i
		n = split(ENVIRON["layer_headers"], list, "\n")
		for (i = 1; i <= n; i++) {
			split(list[i], part, "/")
			name = list[i]; sub(/.*\//, "", name)
			home[name] = part[1]
		}
		top = 1
	}
	($1 in rank) && rank[$1] > top { top = rank[$1] }
	($1 in home) && rank[home[$1]] > top { top = rank[home[$1]] }
	END { print order[top] }'
}

# helpers FOLDER FILE: the helper sources FILE asks for.
helpers() {
	{
		headers_of "$2" | sed 's/\.h$/.c/'
		sed -n 's|^/\* With: \(.*\) \*/.*|\1|p' "$2" | tr ' ,' '\n\n'
	} | sort -u | while read -r helper; do
		[ ! -f "$1/$helper" ] || echo "$1/$helper"
	done
}

# emit_program NAME FOLDER LOWEST_LAYER LIBS SOURCE...
emit_program() {
	name=$(echo "$1" | tr -c 'A-Za-z0-9\n' _)
	folder=$2
	lowest=$3
	libs=$4
	shift 4
	sources=$({
		for source in "$@"; do
			echo "$source"
			helpers "$folder" "$source"
		done
		# Helpers of helpers, one step: deeper nesting is not worth having.
		for source in "$@"; do
			for helper in $(helpers "$folder" "$source"); do
				helpers "$folder" "$helper"
			done
		done
	} | awk '!seen[$0]++')
	headers=$(headers_of $sources | sort -u | while read -r header; do
		[ ! -f "$folder/$header" ] || echo "$folder/$header"
	done)
	layer=$({ headers_of $sources $headers; echo "$lowest"; } | topmost_layer)
	upper=$(echo "$layer" | tr a-z A-Z)
	echo
	list "${name}_SOURCES" $sources $headers
	see=$upper
	[ "$layer" != server ] || see=ALL
	echo "${name}_CPPFLAGS = \$(SEE_$see) -I\$(srcdir)/$folder${libs:+ \$(TEST_CPPFLAGS)}"
	echo "${name}_LDADD = \$(LINK_$upper)${libs:+ $libs}"
}

has_main() {
	grep -q '^main(' "$1"
}

emit_bench() {
	heading
	programs=
	for file in $(c_files bench | grep '\.c$'); do
		! has_main "$file" || programs="$programs ${file%.c}"
	done
	list BENCHES $programs
	for program in $programs; do
		emit_program "$program" bench base "" "$program.c"
	done
}

emit_tests() {
	heading
	unit=$(c_files tests/unit | sed -n 's|^\(tests/unit/t_.*\)\.c$|\1|p')
	db=$(c_files tests/db | sed -n 's|^\(tests/db/t_.*\)\.c$|\1|p')
	fuzz=$(c_files tests/fuzz | sed -n 's|^tests/fuzz/fuzz_target_\(.*\)\.c$|\1|p')
	list LINT_TESTS $(tree_files | grep '^tests/lint/.*\.sh$' | grep -v '/common\.sh$')
	list UNIT_TESTS $unit
	list DB_TESTS $db
	list FUZZ_TESTS $(for target in $fuzz; do echo "tests/fuzz/fuzz_$target"; done)
	for program in $unit; do
		emit_program "$program" tests/unit base '$(CMOCKA_LIBS)' "$program.c"
	done
	for program in $db; do
		emit_program "$program" tests/db store '$(CMOCKA_LIBS)' "$program.c"
	done
	for target in $fuzz; do
		emit_program "tests/fuzz/fuzz_$target" tests/fuzz base "" \
			"tests/fuzz/fuzz_target_$target.c" tests/fuzz/fuzz_main.c
	done
}

emit() {
	case $1 in
	store | bench | tests | server) "emit_$1" ;;
	*) emit_layer "$1" ;;
	esac
}

[ "${1:-}" != --list ] || {
	tree_files
	exit
}

layer_headers=$(c_files $LAYERS | grep '\.h$')
wanted=$(mktemp) || exit 1
trap 'rm -f "$wanted"' EXIT
for folder in $LAYERS bench tests; do
	(emit "$folder") >"$wanted" # a subshell: emit uses names of ours
	inc=$folder/Makefile.inc
	if [ "${1:-}" = --fix ]; then
		cmp -s "$wanted" "$inc" || cat "$wanted" >"$inc"
		continue
	fi
	if [ ! -f "$inc" ]; then
		complain "$inc" "" "missing: run tests/lint/sources.sh --fix"
		continue
	fi
	cmp -s "$wanted" "$inc" && continue
	# Name the files; a difference in another line is named as such.
	named=$(diff "$inc" "$wanted" | sed -n \
		-e 's|^> *\t\([^ ]*\).*|\1 is not listed|p' -e 's|^< *\t\([^ ]*\).*|\1 is listed and gone|p')
	echo "${named:-out of date}" | sort -u | while read -r what; do
		echo "$inc: $what: run tests/lint/sources.sh --fix"
	done
	bad=1
done
exit $bad
