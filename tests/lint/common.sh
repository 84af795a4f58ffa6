# SPDX-License-Identifier: Apache-2.0
# What the lint scripts share: sourced, not run. Each of them is silent when all is well; otherwise
# it prints `file:line: reason` and exits 1. 77 means: a tool it needs is not here.
set -u
LC_ALL=C
export LC_ALL
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
bad=0

LAYERS="base store core api server"

# complain FILE LINE REASON (LINE may be empty)
complain() {
	bad=1
	if [ -n "$2" ]; then
		printf '%s\n' "$1:$2: $3"
	else
		printf '%s\n' "$1: $3"
	fi
}

# In a checkout, where git can tell what belongs to the project.
is_checkout() {
	[ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$top" ]
}

# Every file of the project, sorted, one a line, generated ones left out.
tree_files() {
	if is_checkout; then
		git ls-files -co --exclude-standard | while read -r file; do
			[ ! -f "$file" ] || echo "$file"
		done
	else
		find . -name .git -prune -o -path './build*' -prune -o -path ./var -prune \
			-o -path ./_build -prune -o -path ./_inst -prune \
			-o -name autom4te.cache -prune -o -name node_modules -prune \
			-o -name __pycache__ -prune -o -name .pytest_cache -prune \
			-o -name .deps -prune -o -type f \
			! -name '*.o' ! -name '*.a' ! -name '*.log' ! -name '*.trs' ! -name '*~' \
			! -name .dirstamp ! -name '*_data.c' ! -path ./api/openapi.json \
			! -path ./server/digstored.service ! -path ./Makefile ! -path ./Makefile.in \
			! -path ./configure ! -path ./aclocal.m4 ! -path ./config.status \
			! -path ./digstored ! -path './digstore-*.tar.gz' ! -path ./bench/micro \
			! -path './tests/unit/t_*[!ch]' ! -path './tests/db/t_*[!ch]' \
			! -path './tests/fuzz/fuzz_*[!ch]' -print | sed 's|^\./||'
	fi | sort
}

# C files below the given folders.
c_files() (
	for folder in "$@"; do
		tree_files | grep "^$folder/.*\.[ch]\$"
	done
)

# The folders that are -I for the given layer, as the Makefile has them.
layer_includes() {
	core="-Icore/ingest -Icore/history -Icore/read -Icore/care"
	case $1 in
	base) echo "-Ibase" ;;
	store) echo "-Istore -Ibase" ;;
	core) echo "$core -Istore -Ibase" ;;
	api) echo "-Iapi $core -Ibase" ;;
	server) echo "-Iserver -Iapi -Ibase" ;;
	esac
}

# The layer a file is in: the first part of its path.
layer_of() {
	echo "${1%%/*}"
}

# C on standard input with comments and string literals blanked, lines kept.
strip_c() {
	awk '
	{
		line = $0; out = ""; n = length(line); i = 1
		while (i <= n) {
			c = substr(line, i, 1); two = substr(line, i, 2)
			if (in_comment) {
				if (two == "*/") { in_comment = 0; i += 2 } else i++
				continue
			}
			if (two == "/*") { in_comment = 1; out = out " "; i += 2; continue }
			if (two == "//") break
			if (c == "\"" || c == "\047") {
				quote = c; i++
				while (i <= n) {
					d = substr(line, i, 1)
					if (d == "\\") { i += 2; continue }
					i++
					if (d == quote) break
				}
				out = out quote quote
				continue
			}
			out = out c; i++
		}
		print out
	}'
}
