# SPDX-License-Identifier: Apache-2.0
"""Phase recompress: what the big file takes once the server had time for it. Minutes, so only when it
is asked for."""

import json
import os
import time

import checks
import measure
import rows
from targets import Failure

RESOURCE = "/v1/admin/recompression"
# The slowest level of zstd on one core, with room to spare.
SLOWEST_BYTES_PER_S = 1_000_000
POLL_S = 0.5


def digstore(bench, repetition):
    folder = bench.fresh("recompress", "digstore", repetition)
    inputs = bench.inputs
    path = "/v1/repos/big/trees/main/files/big.bin"
    with rows.digstore(bench, folder) as server:
        if server.get(RESOURCE)[0] == 404:
            bench.skip(server.name, "recompress", f"this server has no {RESOURCE}")
            return
        bench.curl(None, ["-T", inputs.big, server.url(f"{path}?message=bench")], inputs.size("big.bin"))
        with bench.row(server, "recompress", repetition) as (result, meter):
            result.work_bytes = inputs.size("big.bin")
            run(bench, server, meter, result.work_bytes)
        checks.content(bench, server, path, "big.bin")
    # Measured when the server has ended: then no file is longer than what is in it.
    if not result.error:
        allocated, length = measure.disk_usage(server.content_folder())
        result.figures |= {"left_disk_bytes": allocated, "left_file_bytes": length}
        bench.say(f"  {server.name:12} the big file takes {length / 1e6:,.1f} MB now")
    rows.forget(folder)


def run(bench, server, meter, size):
    """Ask for it and wait until it is over."""
    begin = time.perf_counter()
    bench.curl(None, ["-X", "POST", "-H", "Content-Type: application/json", "--data",
                      json.dumps({"action": "run"}), server.url(RESOURCE)], 0,
               answer=os.path.join(server.folder, "recompress.json"))
    timeout = bench.options.timeout or max(rows.LEAST_TIMEOUT_S, size / SLOWEST_BYTES_PER_S)
    while running(server):
        if time.perf_counter() - begin > timeout:
            raise Failure(f"not over after {timeout:.0f} s")
        time.sleep(POLL_S)
    meter.waited(time.perf_counter() - begin)


def running(server):
    status, body = server.get(RESOURCE)
    if status != 200:
        raise Failure(f"GET {RESOURCE} answered {status}")
    return json.loads(body)["state"] == "running"


TARGETS = {"digstore": digstore}
