#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The contract and the code name the same operations, and a limit that openapi.yaml states under
# x-limits is that of the header which defines it (there in capitals), where one does.
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

headers=$(c_files $LAYERS | grep '\.h$')
while read -r name value line; do
	macro=$(echo "$name" | tr a-z- A-Z_)
	header=$(grep -lE "^#define[[:space:]]+$macro[[:space:]]" $headers | head -n 1)
	[ -n "$header" ] || continue
	# A header with nothing but what it includes; sh does the arithmetic, without suffixes and casts.
	expression=$(printf '#include "%s"\n@ %s\n' "$(basename "$header")" "$macro" |
		${CC:-cc} $(layer_includes "$(layer_of "$header")") -E -P -x c - 2>/dev/null |
		sed -n 's/^@ //p' | sed 's/\([0-9]\)[uUlL]\{1,3\}/\1/g; s/([a-z0-9_]*_t)//g')
	number=$( (echo $((expression))) 2>/dev/null) || number="'$expression'"
	[ "$number" = "$value" ] ||
		complain $contract "$line" "$name is $value, but $macro of $header is $number"
done <"$work/limits"
exit $bad
