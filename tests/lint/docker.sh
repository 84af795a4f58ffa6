#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The container files against the tree, without building an image: packages are those of ./dev (or
# the run-time library that belongs to one of its -dev packages), copied paths and named files exist,
# ports are published to loopback only, the user is not root.
. "$(dirname "$0")/common.sh"
dockerfile=docker/Dockerfile

# The packages of an array in ./dev.
dev_packages() {
	awk -v name="$1" '
	index($0, name "=(") == 1 { inside = 1; sub(/^[^(]*\(/, "") }
	inside { line = $0; sub(/\).*/, "", line); print line }
	/\)/ { inside = 0 }' dev | tr -s '\t ' '\n\n' | grep .
}

line_of() {
	grep -nwF -e "$1" $dockerfile | head -n 1 | cut -d: -f1
}

# The words after `apt-get install` up to `&&`, per stage.
installed() {
	awk -v stage="$1" '
	/^FROM / { n++ }
	n == stage { gsub(/\\$/, ""); text = text " " $0 }
	END {
		sub(/.*apt-get install/, "", text); sub(/&&.*/, "", text)
		count = split(text, word, /[ \t]+/)
		for (i = 1; i <= count; i++)
			if (word[i] == "-o") i++
			else if (word[i] != "" && word[i] !~ /^-/) print word[i]
	}' $dockerfile
}

known=$(for list in PACKAGES_BUILD PACKAGES_RUN PACKAGES_TEST; do dev_packages $list; done)
for package in $(installed 1); do
	echo "$known" | grep -qxF -e "$package" ||
		complain $dockerfile "$(line_of "$package")" "$package is in no package list of ./dev"
done
for package in $(dev_packages PACKAGES_BUILD); do
	installed 1 | grep -qxF -e "$package" ||
		complain $dockerfile "" "the build stage lacks $package, which ./dev installs"
done

# A run-time library must be what a -dev package of ours depends on, where dpkg can tell.
depends=$(dpkg-query -W -f='${Depends}, ' $(dev_packages PACKAGES_BUILD | grep -e '-dev$') \
	2>/dev/null | tr ',|' '\n\n' | sed 's/^ *//; s/[ (:].*//')
for package in $(installed 2); do
	case $package in
	tini) continue ;;
	esac
	echo "$known" | grep -qxF -e "$package" && continue
	[ -z "$depends" ] || echo "$depends" | grep -qxF -e "$package" ||
		complain $dockerfile "$(line_of "$package")" "$package belongs to no -dev package of ./dev"
done
for package in $(dev_packages PACKAGES_RUN); do
	installed 2 | grep -qxF -e "$package" ||
		complain $dockerfile "" "the run stage lacks $package, which ./dev installs"
done

# Paths of the tree.
for path in autogen.sh configure.ac $dockerfile; do
	[ -e $path ] || complain $path "" "missing, and docker/ needs it"
done
sed -n 's/^COPY \([^-][^ ]*\) .*/\1/p' $dockerfile | while read -r path; do
	[ -e "$path" ] || echo "$dockerfile: COPY $path: no such path"
done | grep . && bad=1
grep -q '^core' docker/Dockerfile.dockerignore &&
	complain docker/Dockerfile.dockerignore "" "this leaves out our folder core"
for file in docker/compose*.yaml; do
	named=$(sed -n 's/^ *dockerfile: *//p' "$file" | sort -u)
	[ -z "$named" ] || [ -f "$named" ] || complain "$file" "" "no such Dockerfile: $named"
	grep -nE '^ *- *"?([0-9.]+:)?[0-9]+:[0-9]+"? *$' "$file" | grep -v '127\.0\.0\.1:' |
		while IFS= read -r hit; do
			echo "$file:${hit%%:*}: published beyond 127.0.0.1, and there is no authentication"
		done | grep . && bad=1
	for volume in $(sed -n 's/^ *- *\(\/*[a-z.][^:]*\):\/.*/\1/p' "$file"); do
		grep -q "^  $volume:" "$file" || complain "$file" "" "volume $volume is not declared"
	done
done

# The last stage.
user=$(sed -n 's/^USER  *//p' $dockerfile | tail -n 1)
case $user in
'' | root | 0) complain $dockerfile "" "the image runs as root" ;;
*) grep -q "useradd" $dockerfile || complain $dockerfile "" "user $user has no passwd entry" ;;
esac
for word in HEALTHCHECK VOLUME STOPSIGNAL ENTRYPOINT; do
	grep -q "^$word " $dockerfile || complain $dockerfile "" "no $word"
done
exit $bad
