#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh PROGRAM [ARGUMENT...]: run one test program of `make check`, with an end to its patience.
# A replayed fuzz target (fuzz_NAME) gets the folder of its corpus as its argument. With
# DIGSTORE_QUICK set the tests that start a PostgreSQL are skipped.
set -eu
program=$1
shift
case "$program ${DIGSTORE_QUICK:+quick}" in
*tests/db/*\ quick) exit 77 ;;
esac
name=$(basename "$program")
case $program in
*tests/fuzz/*) set -- "${srcdir:-.}/tests/fuzz/corpus/${name#fuzz_}" ;;
esac
exec timeout -k 5 "${DIGSTORE_TEST_SECONDS:-180}" "$program" "$@"
