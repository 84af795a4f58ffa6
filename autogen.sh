#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make ./configure out of configure.ac.
#
# configure as autoconf writes it removes stale core dumps with `rm -f core *.core`. We have a folder
# of that name: every probe would complain, and the exit trap would leave confdefs.h behind. So that
# word is taken out here. A rebuild rule of make may write configure anew without this script; for
# that case confdefs.h also stands in DISTCLEANFILES.
set -eu
cd "$(dirname "$0")"
autoreconf -fi "$@"
sed -i 's/rm -f core /rm -f /' configure
if grep -q 'rm -f core\b' configure; then
	echo "autogen.sh: configure still removes core: this autoconf writes it in another form" >&2
	exit 1
fi
