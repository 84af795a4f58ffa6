# SPDX-License-Identifier: Apache-2.0
"""Phase small: 20,000 small files, as one tar and one by one, and back."""

import http.client
import json
import os
import time

import checks
import measure
import rows
from targets import Failure

CONNECTIONS = 8
LONE_PUTS = 500


def digstore(bench, repetition):
    folder = bench.fresh("small", "digstore", repetition)
    inputs = bench.inputs
    archive = "/v1/repos/archive/trees/main/archive"
    with rows.digstore(bench, folder) as server:
        probe_creation(bench, server)
        for name in ("archive", "archive-again"):
            rows.upload(bench, server, name, repetition, inputs.small_tar, "small.tar", archive)
        checks.archive(bench, server, archive + "?format=tar")
        archive_rows(bench, server, archive + "?format=tar", repetition)
        stage = "/v1/repos/singles/stages/bench"
        with bench.row(server, "singles", repetition) as (result, meter):
            rows.put_files(bench, server, result, meter, stage + "/files/", CONNECTIONS)
            result.receipt = rows.commit(bench, server, stage, meter)
            result.figures["commit_s"] = meter.clients[-1].wall_s
        checks.singles(bench, server, "/v1/repos/singles/trees/main/files/")
        lone_row(bench, server, "/v1/repos/lone/stages/bench/files/", repetition)
    rows.forget(folder)
    import_row(bench, repetition)


def import_row(bench, repetition):
    """On a server of its own, which has to be told where it may import from."""
    folder = bench.fresh("import", "digstore", repetition)
    inputs = bench.inputs
    with rows.digstore(bench, folder, {"DIGSTORE_IMPORT_ROOTS": inputs.small}) as server:
        for path in inputs.small_paths():
            measure.warm(os.path.join(inputs.small, path))
        with bench.row(server, "import", repetition) as (result, meter):
            result.operations = inputs.manifest["small"]["count"]
            result.work_bytes = inputs.manifest["small"]["bytes"]
            request = json.dumps({"path": inputs.small, "ref": "main", "message": "bench"})
            answer = bench.curl(meter, ["--data", request, server.url("/v1/repos/import/imports")], 0,
                                answer=os.path.join(server.folder, "import.json"))
            result.receipt = rows.find_receipt(wait_for_import(bench, meter, server, answer))
        checks.singles(bench, server, "/v1/repos/import/trees/main/files/")
    rows.forget(folder)


def wait_for_import(bench, meter, server, job):
    """Ask every 5 ms, on one connection, until it has ended. The wait belongs to the row."""
    begin = time.perf_counter()
    until = time.monotonic() + bench.timeout_s(0)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        while job.get("state") in ("waiting", "running") and time.monotonic() < until:
            time.sleep(0.005)
            connection.request("GET", f"/v1/repos/import/imports/{job['id']}")
            job = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    meter.waited(time.perf_counter() - begin)
    if job.get("state") != "done":
        raise Failure(f"the import is {job.get('state')}: {job.get('problem')}")
    return job


def nginx(bench, repetition):
    folder = bench.fresh("small", "nginx", repetition)
    inputs = bench.inputs
    with rows.nginx(bench, folder) as server:
        probe_creation(bench, server)
        with bench.row(server, "archive", repetition, warm=inputs.small_tar) as (result, meter):
            result.work_bytes = inputs.size("small.tar")
            bench.curl(meter, ["-T", inputs.small_tar, server.url("/small.tar")], result.work_bytes)
        archive_rows(bench, server, "/small.tar", repetition)
        with bench.row(server, "singles", repetition) as (result, meter):
            rows.put_files(bench, server, result, meter, "/singles/", CONNECTIONS)
        checks.singles(bench, server, "/singles/")
        lone_row(bench, server, "/lone/", repetition)
    rows.forget(folder)


def archive_rows(bench, server, path, repetition):
    """The tar comes back: to nowhere, and through tar into a directory."""
    small = bench.inputs.manifest["small"]
    with bench.row(server, "archive-get", repetition) as (result, meter):
        result.work_bytes, result.operations = small["bytes"], small["count"]
        bench.curl(meter, [server.url(path)], result.work_bytes)
    restored = os.path.join(server.folder, "restored")
    os.mkdir(restored)
    with bench.row(server, "restore", repetition) as (result, meter):
        result.work_bytes, result.operations = small["bytes"], small["count"]
        script = 'curl -sS --fail "$1" | tar -x -C "$2"'
        bench.command(meter, ["sh", "-c", script, "sh", server.url(path), restored], result.work_bytes)
    checks.directory(bench, server, restored)


def lone_row(bench, server, prefix, repetition):
    """What somebody waits for who stores one small file, while nobody else does."""
    count = bench.scaled(LONE_PUTS, 50)
    with bench.row(server, "lone", repetition) as (result, meter):
        rows.put_files(bench, server, result, meter, prefix, 1, count)


def probe_creation(bench, server):
    """Say so when creating files is in the slow state that follows many deletions."""
    cost = measure.create_cost_us(server.folder)
    for path in bench.inputs.small_paths():
        measure.warm(os.path.join(bench.inputs.small, path))
    if cost > 100:
        bench.say(f"  {server.name:12} WARNING: creating a file costs {cost:.0f} us: the machine is busy, or "
                  "files were deleted a short while ago (README.md, the trap); do not quote these rows")
    bench.results.append(rows.Result(server.name, "create-probe", 0, figures={"create_us": cost}))


TARGETS = {"digstore": digstore, "nginx": nginx}
