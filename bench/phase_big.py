# SPDX-License-Identifier: Apache-2.0
"""Phase big: one file of 5 GB, up, again, down, in pieces, and edited."""

import contextlib

import checks
import measure
import rows
from targets import Failure

RANGES = 10_000
RANGE_BYTES = 65_536
RANGE_CONNECTIONS = 8
RANGE_CHECKS = 300
# What the disk takes is measured with so much; less says more about its cache.
PROBE_BYTES = 2_000_000_000
PROBE_BYTES_MIN = 64_000_000


def digstore(bench, repetition):
    folder = bench.fresh("big", "digstore", repetition)
    inputs = bench.inputs
    path = "/v1/repos/big/trees/main/files/big.bin"
    probe_disk(bench, folder, repetition)
    with rows.digstore(bench, folder) as server:
        profile = bench.profiler.record(server, folder) if bench.profiler else contextlib.nullcontext()
        with profile:
            rows.upload(bench, server, "first", repetition, inputs.big, "big.bin", path)
        rows.upload(bench, server, "again", repetition, inputs.big, "big.bin", path)
        read_rows(bench, server, path, repetition)
        measure.cool(inputs.big)
        rows.upload(bench, server, "edit", repetition, inputs.edited, "edited.bin", path)
        checks.content(bench, server, path, "edited.bin")
    rows.forget(folder)


def nginx(bench, repetition):
    folder = bench.fresh("big", "nginx", repetition)
    inputs = bench.inputs
    with rows.nginx(bench, folder) as server:
        with bench.row(server, "first", repetition, warm=inputs.big) as (result, meter):
            result.work_bytes = inputs.size("big.bin")
            bench.curl(meter, ["-T", inputs.big, server.url("/big.bin")], result.work_bytes)
        read_rows(bench, server, "/big.bin", repetition)
    rows.forget(folder)


def probe_disk(bench, folder, repetition):
    """What the disk itself takes, for judging whether an upload was bound by it."""
    size = bench.scaled(PROBE_BYTES, PROBE_BYTES_MIN)
    rate = measure.write_rate(folder, size)
    bench.say(f"  {'disk':12} takes {rate / 1e6:,.0f} MB/s of direct writes")
    bench.results.append(rows.Result("disk", "write-probe", repetition, work_bytes=size,
                                     figures={"bytes_per_s": rate}))


def read_rows(bench, server, path, repetition):
    """Download and ranges: both with the server's files in the page cache, all of them."""
    inputs = bench.inputs
    size = inputs.size("big.bin")
    measure.cool(inputs.edited)
    checks.content(bench, server, path, "big.bin")
    share = measure.warm_folder(server.content_folder())
    with bench.row(server, "download", repetition) as (result, meter):
        result.work_bytes = size
        result.figures["resident_share"] = share
        bench.curl(meter, [server.url(path)], size)
    range_row(bench, server, path, repetition)


def range_row(bench, server, path, repetition):
    size = bench.inputs.size("big.bin")
    count = bench.scaled(RANGES, 200)
    ranges = ["rangeload", "--port", str(server.port), "--path", path, "--size", str(size), "--bytes",
              str(RANGE_BYTES), "--connections", str(RANGE_CONNECTIONS)]
    try:
        bench.load(None, [*ranges, "--count", str(RANGE_CHECKS), "--seed", "7", "--verify",
                          bench.inputs.big], RANGE_CHECKS * RANGE_BYTES)
        problem = ""
    except Failure as failure:
        problem = str(failure)
    bench.check(server, "content of ranges", problem)
    if not problem:
        # Other places of the same file: what the server and its database hold in memory is warm, but
        # no range is one that they have just read.
        bench.load(None, [*ranges, "--count", str(count), "--seed", "11"], count * RANGE_BYTES)
    share = measure.warm_folder(server.content_folder())
    with bench.row(server, "ranges", repetition) as (result, meter):
        result.operations = count
        result.work_bytes = count * RANGE_BYTES
        result.figures["resident_share"] = share
        result.client = bench.load(meter, [*ranges, "--count", str(count)], result.work_bytes)


TARGETS = {"digstore": digstore, "nginx": nginx}
