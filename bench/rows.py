# SPDX-License-Identifier: Apache-2.0
"""The rows of the table: what is done to each server, and what is checked outside of the time.

A phase is one fresh server in a fresh directory and its rows in order. Before every row: sync, so
that nobody pays for another's dirty pages, and the row's input read once, so that every row starts
with a warm input. Nothing is deleted between rows or phases.
"""

import contextlib
import dataclasses
import hashlib
import http.client
import io
import json
import os
import tarfile
import time
import urllib.parse

import measure
import targets
from targets import Failure

RANGES = 10_000
RANGE_BYTES = 65_536
CONNECTIONS = 8
RANGE_CHECKS = 300
SLOWEST_BYTES_PER_S = 8_000_000
LEAST_TIMEOUT_S = 180


@dataclasses.dataclass
class Row:
    """What a row is called, and which row of nginx it is compared with."""

    title: str
    unit: str
    nginx_row: str


ROWS = {
    "first": Row("first upload of the big file", "MB/s", "first"),
    "again": Row("the same again", "MB/s", "first"),
    "download": Row("download of it", "MB/s", "download"),
    "ranges": Row("random 64 KiB ranges, 8 connections", "1/s", "ranges"),
    "edit": Row("upload after a 1 % edit", "MB/s", "first"),
    "archive": Row("small files as one tar", "MB/s", "archive"),
    "archive-again": Row("the same tar again", "MB/s", "archive"),
    "archive-get": Row("download of them as one tar", "MB/s", "archive-get"),
    "singles": Row("small files, single PUTs, 8 connections", "1/s", "singles"),
}


@dataclasses.dataclass
class Result:
    """One row measured once."""

    target: str
    row: str
    repetition: int
    work_bytes: int = 0
    operations: int = 0
    error: str = ""
    figures: dict = dataclasses.field(default_factory=dict)
    stored: dict = dataclasses.field(default_factory=dict)
    receipt: dict = dataclasses.field(default_factory=dict)
    client: dict = dataclasses.field(default_factory=dict)

    def rate(self):
        """Megabytes or operations a second; None if the row failed."""
        wall_s = self.figures.get("wall_s")
        if self.error or not wall_s:
            return None
        if self.row in ROWS and ROWS[self.row].unit == "1/s":
            return self.operations / wall_s
        return self.work_bytes / wall_s / 1e6


class Bench:
    """One run: its inputs, its directory, its processes, and the results so far."""

    def __init__(self, processes, inputs, folder, options, say):
        self.processes = processes
        self.inputs = inputs
        self.folder = folder
        self.options = options
        self.say = say
        self.results = []
        self.profiler = None
        self.tools = os.path.join(folder, "tools")

    def fresh(self, *parts):
        """A directory that never was before."""
        path = os.path.join(self.folder, "-".join(str(p) for p in parts))
        os.makedirs(path)
        return path

    def failed(self, target, phase, problem):
        """Note that a whole phase could not go on."""
        self.results.append(Result(target, phase, 0, error=str(problem)))
        self.say(f"  {target:9} {phase}: FAILED: {problem}")

    def timeout_s(self, work_bytes):
        return self.options.timeout or max(LEAST_TIMEOUT_S, work_bytes / SLOWEST_BYTES_PER_S)

    @contextlib.contextmanager
    def row(self, target, name, repetition, warm=None):
        """Run one row: prepare, let the caller do it, then account. A failure ends the row only."""
        result = Result(target.name, name, repetition)
        self.results.append(result)
        if warm:
            measure.warm(warm)
        os.sync()
        before = target.stored()
        meter = measure.Meter(target, target.folder)
        try:
            with meter:
                yield result, meter
            result.figures = meter.figures()
            begin = time.perf_counter()
            os.sync()
            result.figures["sync_after_s"] = time.perf_counter() - begin
            after = target.stored()
            result.stored = {k: after[k] - before[k] for k in after}
        except (Failure, OSError, ValueError, http.client.HTTPException) as problem:
            result.error = str(problem) or type(problem).__name__
            if not target.alive():
                result.error += f"; the server is gone:\n{targets.tail(target.log)}"
        self.say(summary(result))

    def curl(self, meter, arguments, work_bytes, answer=None):
        """Run curl as a user would; the answer's JSON if it was kept, else {}."""
        timeout = self.timeout_s(work_bytes)
        errors = os.path.join(self.folder, "curl.err")
        output = answer or "/dev/null"
        with open(errors, "wb") as err:
            done = meter.ran(self.processes.run(
                ["curl", "-sS", "--fail-with-body", "-o", output, *arguments], timeout, stderr=err))
        if done.timed_out:
            raise Failure(f"not done after {timeout:.0f} s")
        if done.code != 0:
            said = targets.tail(errors, 3).strip()
            raise Failure(f"{said} {targets.tail(answer, 20).strip() if answer else ''}"[:600])
        return read_json(answer) if answer else {}

    def load(self, meter, arguments, work_bytes):
        """Run putload or rangeload; its figures."""
        out_path = os.path.join(self.folder, "load.json")
        timeout = self.timeout_s(work_bytes)
        with open(out_path, "wb") as out:
            tool = os.path.join(self.tools, arguments[0])
            argv = [tool, *arguments[1:], "--timeout", str(max(1, int(timeout)))]
            done = self.processes.run(argv, timeout + 10, stdout=out)
        if meter is not None:
            meter.ran(done)
        figures = read_json(out_path)
        if done.code != 0:
            raise Failure(f"{arguments[0]}: {figures.get('failed', '?')} failed, "
                          f"first: {figures.get('first_failure', 'see above')}")
        return figures


def summary(result):
    if result.error:
        return f"  {result.target:9} {result.row:14} FAILED: {result.error}"
    unit = ROWS[result.row].unit if result.row in ROWS else "MB/s"
    return (f"  {result.target:9} {result.row:14} {result.figures['wall_s']:8.2f} s "
            f"{result.rate():10,.0f} {unit}")


def read_json(path):
    try:
        with open(path, encoding="utf-8") as text:
            found = json.load(text)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {"answer": found}


def find_receipt(answer):
    """The object named receipt, wherever in the answer it is."""
    todo = [answer]
    while todo:
        value = todo.pop(0)
        if isinstance(value, dict):
            if isinstance(value.get("receipt"), dict):
                return value["receipt"]
            todo += value.values()
        elif isinstance(value, list):
            todo += value
    return {}


def stream_sha256(target, path):
    """Read path through its own small client and hash it."""
    digest = hashlib.sha256()
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=300)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise Failure(f"GET {path} answered {answer.status}")
        while data := answer.read(1 << 20):
            digest.update(data)
    finally:
        connection.close()
    return digest.hexdigest()


def check_content(bench, target, path, name):
    """Outside of the time: path holds the bytes of the input name. Also warms what it reads."""
    try:
        found = stream_sha256(target, path)
        problem = "" if found == bench.inputs.sha256(name) else "other bytes came back"
    except (Failure, OSError, http.client.HTTPException) as failure:
        problem = str(failure)
    return note_check(bench, target, f"content of {name}", problem)


def note_check(bench, target, what, problem):
    bench.say(f"  {target.name:9} {what}: {problem or 'checked'}")
    if problem:
        bench.results.append(Result(target.name, "check", 0, error=f"{what}: {problem}"))
    return not problem


# ---- big file


def big_digstore(bench, repetition):
    folder = bench.fresh("big", "digstore", repetition)
    inputs = bench.inputs
    path = "/v1/repos/big/trees/main/files/big.bin"
    with digstore(bench, folder) as server:
        profile = bench.profiler.record(server, folder) if bench.profiler else contextlib.nullcontext()
        with profile:
            digstore_upload(bench, server, "first", repetition, inputs.big, "big.bin", path)
        digstore_upload(bench, server, "again", repetition, inputs.big, "big.bin", path)
        read_rows(bench, server, path, repetition)
        measure.cool(inputs.big)
        digstore_upload(bench, server, "edit", repetition, inputs.edited, "edited.bin", path)
        check_content(bench, server, path, "edited.bin")
    forget(bench, folder)


def big_nginx(bench, repetition):
    folder = bench.fresh("big", "nginx", repetition)
    inputs = bench.inputs
    with targets.Nginx(bench.processes, folder, bench.options.nginx_body_buffer) as server:
        with bench.row(server, "first", repetition, warm=inputs.big) as (result, meter):
            result.work_bytes = inputs.size("big.bin")
            bench.curl(meter, ["-T", inputs.big, server.url("/big.bin")], result.work_bytes)
        read_rows(bench, server, "/big.bin", repetition)
    forget(bench, folder)


def read_rows(bench, server, path, repetition):
    """Download and ranges. Both start with what a read of the whole file left in the caches."""
    inputs = bench.inputs
    size = inputs.size("big.bin")
    measure.cool(inputs.edited)
    check_content(bench, server, path, "big.bin")
    with bench.row(server, "download", repetition) as (result, meter):
        result.work_bytes = size
        bench.curl(meter, [server.url(path)], size)
    ranges = ["rangeload", "--port", str(server.port), "--path", path, "--size", str(size), "--bytes",
              str(RANGE_BYTES), "--connections", str(CONNECTIONS)]
    count = max(200, round(RANGES * min(1.0, inputs.scale)))
    try:
        bench.load(None, [*ranges, "--count", str(RANGE_CHECKS), "--seed", "7", "--verify", inputs.big],
                   RANGE_CHECKS * RANGE_BYTES)
        note_check(bench, server, "content of ranges", "")
    except Failure as failure:
        note_check(bench, server, "content of ranges", str(failure))
    with bench.row(server, "ranges", repetition) as (result, meter):
        result.operations = count
        result.work_bytes = count * RANGE_BYTES
        result.client = bench.load(meter, [*ranges, "--count", str(count)], result.work_bytes)


def digstore(bench, folder):
    options = bench.options
    return targets.Digstore(bench.processes, folder, options.server, dict(options.env))


def digstore_upload(bench, server, name, repetition, source, input_name, path):
    with bench.row(server, name, repetition, warm=source) as (result, meter):
        result.work_bytes = bench.inputs.size(input_name)
        answer = bench.curl(
            meter, ["-T", source, server.url(f"{path}?message=bench")], result.work_bytes,
            answer=os.path.join(server.folder, f"{name}.json"))
        result.receipt = find_receipt(answer)


def forget(bench, folder):
    """Make room in the page cache for the next phase. Nothing is deleted."""
    os.sync()
    measure.cool(folder)


# ---- small files


def small_digstore(bench, repetition):
    folder = bench.fresh("small", "digstore", repetition)
    inputs = bench.inputs
    with digstore(bench, folder) as server:
        probe(bench, server)
        archive = "/v1/repos/archive/trees/main/archive"
        for name in ("archive", "archive-again"):
            digstore_upload(bench, server, name, repetition, inputs.small_tar, "small.tar", archive)
        archive_rows(bench, server, repetition)
        singles_digstore(bench, server, repetition)
    forget(bench, folder)


def archive_rows(bench, server, repetition):
    path = "/v1/repos/archive/trees/main/archive?format=tar"
    check_archive(bench, server, path)
    with bench.row(server, "archive-get", repetition) as (result, meter):
        result.work_bytes = bench.inputs.manifest["small"]["bytes"]
        result.operations = bench.inputs.manifest["small"]["count"]
        bench.curl(meter, [server.url(path)], result.work_bytes)


def check_archive(bench, server, path):
    """Outside of the time: the tar that comes back holds every small file, bit for bit."""
    try:
        status, body = server.get(path, timeout=300)
        if status != 200:
            raise Failure(f"answered {status}")
        problem = compare_tar(body, bench.inputs)
    except (Failure, OSError, tarfile.TarError, http.client.HTTPException) as failure:
        problem = str(failure)
    note_check(bench, server, "content of the archive", problem)


def compare_tar(body, inputs):
    left = set(inputs.small_paths())
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        for member in archive:
            if not member.isreg():
                continue
            path = member.name.removeprefix("./")
            if path not in left:
                return f"{path} was not asked for"
            left.discard(path)
            with open(os.path.join(inputs.small, path), "rb") as original:
                if archive.extractfile(member).read() != original.read():
                    return f"{path} has other bytes"
    return f"{len(left)} files are missing" if left else ""


def singles_digstore(bench, server, repetition):
    stage = "/v1/repos/singles/stages/bench"
    commit = json.dumps({"ref": "main", "message": "bench"})
    with bench.row(server, "singles", repetition) as (result, meter):
        singles_load(bench, server, result, meter, stage + "/files/")
        answer = bench.curl(
            meter, ["-X", "POST", "-H", "Content-Type: application/json", "--data", commit,
                    server.url(stage + "/commit")], 0,
            answer=os.path.join(server.folder, "commit.json"))
        result.receipt = find_receipt(answer)
    check_singles(bench, server, "/v1/repos/singles/trees/main/files/")


def singles_load(bench, server, result, meter, prefix):
    inputs = bench.inputs
    result.operations = inputs.manifest["small"]["count"]
    result.work_bytes = inputs.manifest["small"]["bytes"]
    result.client = bench.load(
        meter, ["putload", "--port", str(server.port), "--prefix", prefix, "--root", inputs.small,
                "--list", inputs.small_list, "--connections", str(CONNECTIONS)], result.work_bytes)


def check_singles(bench, server, prefix):
    """Outside of the time: every n-th small file comes back as it was."""
    paths = bench.inputs.small_paths()
    problem = ""
    try:
        for path in paths[:: max(1, len(paths) // 50)]:
            status, body = server.get(prefix + urllib.parse.quote(path))
            with open(os.path.join(bench.inputs.small, path), "rb") as original:
                if status != 200 or body != original.read():
                    problem = f"{path} answered {status} or other bytes"
                    break
    except (OSError, http.client.HTTPException) as failure:
        problem = str(failure)
    note_check(bench, server, "content of single files", problem)


def small_nginx(bench, repetition):
    folder = bench.fresh("small", "nginx", repetition)
    inputs = bench.inputs
    with targets.Nginx(bench.processes, folder, bench.options.nginx_body_buffer) as server:
        probe(bench, server)
        with bench.row(server, "archive", repetition, warm=inputs.small_tar) as (result, meter):
            result.work_bytes = inputs.size("small.tar")
            bench.curl(meter, ["-T", inputs.small_tar, server.url("/small.tar")], result.work_bytes)
        with bench.row(server, "archive-get", repetition) as (result, meter):
            result.work_bytes = inputs.manifest["small"]["bytes"]
            bench.curl(meter, [server.url("/small.tar")], result.work_bytes)
        with bench.row(server, "singles", repetition) as (result, meter):
            singles_load(bench, server, result, meter, "/singles/")
        check_singles(bench, server, "/singles/")
    forget(bench, folder)


def probe(bench, server):
    """Say so when creating files is in the slow state that follows many deletions."""
    cost = measure.create_cost_us(server.folder)
    for path in bench.inputs.small_paths():
        measure.warm(os.path.join(bench.inputs.small, path))
    if cost > 100:
        bench.say(f"  {server.name:9} WARNING: creating a file costs {cost:.0f} us: the machine is busy, or "
                  "files were deleted a short while ago (README.md, the trap); do not quote these rows")
    bench.results.append(Result(server.name, "create-probe", 0, figures={"create_us": cost}))


PHASES = {
    "big": {"nginx": big_nginx, "digstore": big_digstore},
    "small": {"nginx": small_nginx, "digstore": small_digstore},
}
