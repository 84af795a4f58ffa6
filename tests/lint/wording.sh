#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What no file of the project may say: absolute paths of one person's machine, hosts of package
# registries (they differ from site to site and do not belong in lock files), who or what typed the
# text, and references to things a reader of this tree cannot open.
. "$(dirname "$0")/common.sh"

# The patterns are written so that they do not match themselves.
rules='(^|[^A-Za-z0-9_.)}-])/wor[k](/|$|[^A-Za-z0-9_.-])|an absolute path of a workplace
/home/[a-z]+/|an absolute path of a person
\.\./share[d](/|$|[^A-Za-z])|a path outside the tree
registry[.]npmjs|a package registry
registry[.]yarnpkg|a package registry
(deb|security|ftp)[.]debian[.]org|a package registry
(pypi|pythonhosted)[.]org|a package registry
(index[.]|registry-1[.])?docker[.]io|a package registry
crates[.]io|a package registry
proxy[.]golang[.]org|a package registry
"resolved": *"http|a download address in a lock file: npm config omit-lockfile-registry-resolved
(^|[^A-Za-z0-9_./+-])A[I]([^A-Za-z0-9_/+=-]|$)|who typed it
(^|[^A-Za-z])LL[M]s?([^A-Za-z0-9]|$)|who typed it
[Cc]laud[e]|who typed it
[Aa]nthropi[c]|who typed it
Chat[G]PT|who typed it
(language|large) mode[l]|who typed it
[Cc]o-[Aa]uthored-[Bb]y|who typed it
(this|an earlier|the last|the next|previous|earlier|later|my) sessio[n]([^A-Za-z]|$)|how it was written
(sub|helper )agen[t]|how it was written
[Bb]lueprin[t]|how it was written
(^|[^A-Za-z])[Ii]ssu[e] #?[0-9]|a number nobody here can look up
(^|[ (])#[0-9]{1,4}([ ,.;:)]|$)|a number nobody here can look up
(^|[^A-Za-z])(TOD[O]|FIXM[E]|XX[X])([^A-Za-z]|$)|unfinished work belongs in the tracker'

files=$(tree_files | grep -vE '^(LICENSE|tests/fuzz/corpus/|tests/.*\.bin$)')
while IFS= read -r rule; do
	pattern=${rule%|*}
	reason=${rule##*|}
	hits=$(grep -nHIE -e "$pattern" $files 2>/dev/null) || continue
	bad=1
	printf '%s\n' "$hits" | cut -c1-160 | while IFS= read -r hit; do
		file=${hit%%:*}
		rest=${hit#*:}
		printf '%s\n' "$file:${rest%%:*}: $reason: ${rest#*:}"
	done
done <<END
$rules
END
exit $bad
