# SPDX-License-Identifier: Apache-2.0
"""Phase parallel: many at once, who all want their share.

The files are slices of the big one (sliceload.c), half of each compressible, all different.
"""

import checks
import rows

UPLOADS = 200
# 10 MB on average.
SIZES = (1_000_000, 4_000_000, 8_000_000, 12_000_000, 24_000_000, 11_000_000)
EQUAL_UPLOADS = 100
EQUAL_BYTES = 10_000_000
READERS = 64
READS_EACH = 2
CHECKED_EVERY = 25


def digstore(bench, repetition):
    folder = bench.fresh("parallel", "digstore", repetition)
    with rows.digstore(bench, folder) as server:
        for name in ("parallel", "fair"):
            stage = f"/v1/repos/{name}/stages/bench"
            result = upload_row(bench, server, name, stage + "/files/", repetition)
            result.receipt = rows.commit(bench, server, stage)
            check(bench, server, name, f"/v1/repos/{name}/trees/main/files/")
        read_rows(bench, server, "/v1/repos/fair/trees/main/files/", repetition)
    rows.forget(folder)


def nginx(bench, repetition):
    folder = bench.fresh("parallel", "nginx", repetition)
    with rows.nginx(bench, folder) as server:
        for name in ("parallel", "fair"):
            upload_row(bench, server, name, f"/{name}/", repetition)
            check(bench, server, name, f"/{name}/")
        read_rows(bench, server, "/fair/", repetition)
    rows.forget(folder)


def plan(bench, name):
    """How many uploads a row has, and their sizes in turn."""
    count, sizes = (UPLOADS, SIZES) if name == "parallel" else (EQUAL_UPLOADS, (EQUAL_BYTES,))
    return count, [bench.scaled(size, 2) for size in sizes]


def upload_row(bench, server, name, prefix, repetition):
    count, sizes = plan(bench, name)
    with bench.row(server, name, repetition, warm=bench.inputs.big) as (result, meter):
        result.operations = count
        result.work_bytes = sum(sizes[i % len(sizes)] for i in range(count))
        result.client = bench.load(
            meter, ["sliceload", "--port", str(server.port), "--prefix", prefix, "--file", bench.inputs.big,
                    "--count", str(count), "--bytes", ",".join(map(str, sizes)), "--connections", str(count)],
            result.work_bytes)
    return result


def check(bench, server, name, prefix):
    count, sizes = plan(bench, name)
    checks.slices(bench, server, prefix, range(0, count, CHECKED_EVERY), sizes)


def read_rows(bench, server, prefix, repetition):
    """Of the equal files: one for all readers, one for each reader, and one after the other."""
    count, sizes = plan(bench, "fair")
    names = [f"f{i:04d}" for i in range(count)]
    for row, lines in (("readers-same", names[:1]), ("readers-apart", names[:READERS])):
        with bench.row(server, row, repetition) as (result, meter):
            result.work_bytes = READERS * READS_EACH * sizes[0]
            rows.get_list(bench, server, result, meter, prefix, lines, READERS,
                          "--count", str(READERS * READS_EACH))
    with bench.row(server, "first-byte", repetition) as (result, meter):
        result.work_bytes = count * sizes[0]
        rows.get_list(bench, server, result, meter, prefix, names, 1)


TARGETS = {"digstore": digstore, "nginx": nginx}
