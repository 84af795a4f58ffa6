#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The contract and the code name the same operations, and the limits that openapi.yaml states under
# x-limits are those of base/limits.h (there in capitals), where limits.h names them.
. "$(dirname "$0")/common.sh"
contract=openapi.yaml
[ -f $contract ] || {
	complain $contract "" "missing"
	exit 1
}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# name<TAB>file:line, of the contract and of the code
sed -n 's/^[[:space:]]*operationId:[[:space:]]*["'\'']*\([A-Za-z0-9_]*\)["'\'']*[[:space:]]*$/\1/p' \
	$contract | sort >"$work/contract"
for file in $(c_files api | grep '\.c$'); do
	sed -n 's/.*\.id[[:space:]]*=[[:space:]]*"\([A-Za-z0-9_]*\)".*/\1/p' "$file"
done | sort >"$work/code"

for name in $(uniq -d "$work/contract"); do
	complain $contract "$(grep -n "operationId:.*$name" $contract | tail -n 1 | cut -d: -f1)" \
		"operationId $name stands twice"
done
for name in $(sort -u "$work/contract" | comm -23 - "$work/code"); do
	complain $contract \
		"$(grep -nE "operationId:[^A-Za-z0-9_]*$name[^A-Za-z0-9_]*\$" $contract |
			head -n 1 | cut -d: -f1)" "operationId $name: no struct op in api/ has this id"
done
for name in $(sort -u "$work/contract" | comm -13 - "$work/code"); do
	where=$(grep -n "\.id[[:space:]]*=[[:space:]]*\"$name\"" api/*.c | head -n 1)
	complain "${where%%:*}" "$(echo "$where" | cut -d: -f2)" "$name is not in $contract, or stands twice"
done

# An operation that no route leads to.
[ ! -f api/routes.c ] || for name in $(sort -u "$work/code"); do
	grep -qE "&op_$name\>" api/routes.c || complain api/routes.c "" "$name is not in the table"
done

# x-limits: a mapping of name: number, at any depth of indentation.
awk '
	/^[ ]*x-limits:[ ]*$/ { match($0, /^ */); depth = RLENGTH; inside = 1; next }
	inside && /^[ ]*(#.*)?$/ { next }
	inside {
		match($0, /^ */)
		if (RLENGTH <= depth) { inside = 0; next }
		line = $0
		gsub(/["\047,]|#.*/, "", line)
		if (split(line, part, ":") == 2) {
			gsub(/[ _]*$/, "", part[2]); gsub(/^ */, "", part[2]); gsub(/^ */, "", part[1])
			if (part[2] ~ /^[0-9]+$/) print part[1], part[2], NR
		}
	}' $contract >"$work/limits"

[ ! -f base/limits.h ] || while read -r name value line; do
	macro=$(echo "$name" | tr a-z- A-Z_)
	grep -qE "^#define[[:space:]]+$macro[[:space:]]" base/limits.h || continue
	expression=$(printf '#include "limits.h"\n@ %s\n' "$macro" | ${CC:-cc} -Ibase -E -P -x c - |
		sed -n 's/^@ //p' | sed 's/\([0-9]\)[uUlL]\{1,3\}/\1/g; s/([a-z0-9_]*_t)//g')
	number=$((expression)) 2>/dev/null || number="'$expression'"
	[ "$number" = "$value" ] ||
		complain $contract "$line" "$name is $value, but $macro of base/limits.h is $number"
done <"$work/limits"
exit $bad
