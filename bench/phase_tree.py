# SPDX-License-Identifier: Apache-2.0
"""Phase tree: a snapshot of a million files, listed and pushed to. Digstore's alone: to nginx a
directory is a directory."""

import json
import os

import rows
from targets import Failure

ENTRIES = 1_000_000
TARS = 4
PAGE = 1_000
PAGES = 2_000
PUSHES = 200
# Enough for every count of pages below to be there at the smallest scale.
ENTRIES_MIN = 8_000


def digstore(bench, repetition):
    folder = bench.fresh("tree", "digstore", repetition)
    entries = bench.scaled(ENTRIES, ENTRIES_MIN) // TARS * TARS
    with rows.digstore(bench, folder) as server:
        build_row(bench, server, entries, repetition)
        queries = walk(bench, server, entries)
        if queries:
            list_row(bench, server, queries, repetition)
        push_row(bench, server, repetition)
    rows.forget(folder)


def build_row(bench, server, entries, repetition):
    """Tars made on the way, each a commit: no input on disk, and no archive above the limit."""
    url = server.url("/v1/repos/tree/trees/main/archive?message=bench")
    script = 'set -e; "$1" --count "$2" --first "$3" | curl -sS --fail-with-body -o "$4" -T - "$5"'
    with bench.row(server, "tree-build", repetition) as (result, meter):
        result.operations = entries
        for part in range(TARS):
            each = entries // TARS
            bench.command(
                meter, ["sh", "-c", script, "sh", os.path.join(bench.tools, "treetar"), str(each),
                        str(part * each), os.path.join(server.folder, f"tree-{part}.json"), url],
                each * 1024)


def walk(bench, server, entries):
    """Outside of the time: every page once. The query of each page; the entries are counted."""
    queries, seen, last = [f"limit={PAGE}"], 0, ""
    problem = ""
    try:
        while True:
            status, body = server.get(f"/v1/repos/tree/trees/main/files?{queries[-1]}")
            if status != 200:
                raise Failure(f"page {len(queries)} answered {status}")
            page = json.loads(body)
            paths = [item["path"] for item in page["items"]]
            if [last, *paths] != sorted({last, *paths}):
                raise Failure(f"page {len(queries)} is out of order")
            seen, last = seen + len(paths), paths[-1]
            if page["next_cursor"] is None:
                break
            queries.append(f"limit={PAGE}&cursor={page['next_cursor']}")
        if seen != entries:
            problem = f"{seen:,} entries where {entries:,} should be"
    except (Failure, OSError, ValueError, LookupError) as failure:
        problem = str(failure)
    return queries if bench.check(server, "listing", problem) else []


def list_row(bench, server, queries, repetition):
    # The last page may be a short one.
    full = queries[:-1] if len(queries) > 1 else queries
    with bench.row(server, "tree-list", repetition) as (result, meter):
        rows.get_list(bench, server, result, meter, "/v1/repos/tree/trees/main/files?", full, 1,
                      "--count", str(bench.scaled(PAGES, 100)), "--random", "1")


def push_row(bench, server, repetition):
    """Each push is a commit of its own on top of the one before."""
    with bench.row(server, "tree-push", repetition) as (result, meter):
        rows.put_files(bench, server, result, meter, "/v1/repos/tree/trees/main/files/pushed/", 1,
                       bench.scaled(PUSHES, 20))


TARGETS = {"digstore": digstore}
