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
# The slowest level of zstd on a part of one core, with room to spare.
SLOWEST_BYTES_PER_S = 500_000
POLL_S = 0.5


def digstore(bench, repetition):
    folder = bench.fresh("recompress", "digstore", repetition)
    inputs = bench.inputs
    path = "/v1/repos/big/trees/main/files/big.bin"
    with rows.digstore(bench, folder) as server:
        if why := missing(server):
            bench.skip(server.name, "recompress", why)
            return
        bench.curl(None, ["-T", inputs.big, server.url(f"{path}?message=bench")], inputs.size("big.bin"))
        with bench.row(server, "recompress", repetition) as (result, meter):
            result.work_bytes = inputs.size("big.bin")
            replaced = run(bench, server, meter, result.work_bytes)
        checks.content(bench, server, path, "big.bin")
    # Measured when the server has ended: then no file is longer than what is in it. Packs that were
    # replaced stay for a while, for readers that are not done.
    if not result.error:
        length = measure.disk_usage(server.content_folder())[1]
        result.figures |= {"left_file_bytes": length - replaced, "replaced_bytes": replaced}
        bench.say(f"  {server.name:12} the big file takes {(length - replaced) / 1e6:,.1f} MB now, "
                  f"and {replaced / 1e6:,.1f} MB are to be removed")
    rows.forget(folder)


def missing(server):
    """Why this server cannot do it, or ""."""
    status, body = server.get(RESOURCE)
    if status == 404:
        return f"this server has no {RESOURCE}"
    if status == 200 and json.loads(body)["state"] == "off":
        return "recompression is switched off"
    return ""


def run(bench, server, meter, size):
    """Ask for it and wait until all of it is done; the bytes of the packs that were replaced and
    are still there."""
    begin = time.perf_counter()
    bench.curl(None, ["-X", "POST", "-H", "Content-Type: application/json", "--data",
                      json.dumps({"action": "run"}), server.url(RESOURCE)], 0,
               answer=os.path.join(server.folder, "recompress.json"))
    timeout = bench.options.timeout or max(rows.LEAST_TIMEOUT_S, size / SLOWEST_BYTES_PER_S)
    while (now := state(server))["run_requested"]:
        if now["reason"] in ("failed", "disk-full"):
            raise Failure(f"recompression stopped: {now['reason']}, {now['error']}")
        if time.perf_counter() - begin > timeout:
            raise Failure(f"not over after {timeout:.0f} s")
        time.sleep(POLL_S)
    meter.waited(time.perf_counter() - begin)
    return now["replaced"]["bytes"]


def state(server):
    status, body = server.get(RESOURCE)
    if status != 200:
        raise Failure(f"GET {RESOURCE} answered {status}")
    return json.loads(body)


TARGETS = {"digstore": digstore}
