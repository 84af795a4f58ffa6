#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Test the benchmark itself: what it makes of figures, and one run of everything at a tiny scale
# against the server just built. Skips where there is no pytest, and when DIGSTORE_QUICK is set.
set -eu
[ -z "${DIGSTORE_QUICK:-}" ] || exit 77
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON3:-/usr/bin/python3}
if ! "$python" -c 'import pytest' 2>/dev/null; then
	echo "no pytest: install python3-pytest"
	exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
cd "$here"
exec "$python" -m pytest -p no:cacheprovider -q "$@" .
