# SPDX-License-Identifier: Apache-2.0
"""The rows of the table, what one measured row is, and the run they belong to.

What is done in a row stands in phase_*.py. A phase is one fresh server in a fresh directory and its
rows in order. Before every row: sync, so that nobody pays for another's dirty pages, and the row's
input read once, so that every row starts with a warm input. Nothing is deleted between rows or
phases.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import time

import measure
import targets
from targets import Failure

SLOWEST_BYTES_PER_S = 8_000_000
LEAST_TIMEOUT_S = 180


@dataclasses.dataclass
class Row:
    """What a row is called, the unit of its figure, which row of nginx it is compared with, and
    whether it only reads. The figure of a row in "ms" is the median of the times named latency."""

    title: str
    unit: str
    nginx_row: str | None
    reads: bool = False
    latency: str = "latency_ms"


ROWS = {
    "first": Row("first upload of the big file", "MB/s", "first"),
    "again": Row("the same again", "MB/s", "first"),
    "download": Row("download of it", "MB/s", "download", True),
    "ranges": Row("random 64 KiB ranges, 8 connections", "1/s", "ranges", True),
    "edit": Row("upload after a 1 % edit", "MB/s", "first"),
    "recompress": Row("the big file compressed anew when idle", "MB/s", None),
    "archive": Row("small files as one tar", "MB/s", "archive"),
    "archive-again": Row("the same tar again", "MB/s", "archive"),
    "archive-get": Row("download of them as one tar", "MB/s", "archive-get", True),
    "restore": Row("the same, unpacked into a directory", "1/s", "restore", True),
    "import": Row("small files from the server's own disk", "1/s", None),
    "singles": Row("small files, single PUTs, 8 connections", "1/s", "singles"),
    "lone": Row("one small PUT after the other", "ms", "lone"),
    "parallel": Row("200 uploads at once, of many sizes", "MB/s", "parallel"),
    "fair": Row("100 equal uploads at once", "MB/s", "fair"),
    "readers-same": Row("64 readers of one file", "MB/s", "readers-same", True),
    "readers-apart": Row("64 readers of 64 files", "MB/s", "readers-apart", True),
    "first-byte": Row("first byte of a download", "ms", "first-byte", True, "first_byte_ms"),
    "tree-build": Row("a million tiny files as four tars", "1/s", None),
    "tree-list": Row("listing them, a random page of 1,000", "ms", None, True),
    "tree-push": Row("one-file push onto them", "ms", None),
}


@dataclasses.dataclass
class Result:
    """One row measured once. skipped says why there was nothing to measure: no error, no figures."""

    target: str
    row: str
    repetition: int
    work_bytes: int = 0
    operations: int = 0
    error: str = ""
    skipped: str = ""
    figures: dict = dataclasses.field(default_factory=dict)
    stored: dict = dataclasses.field(default_factory=dict)
    receipt: dict = dataclasses.field(default_factory=dict)
    client: dict = dataclasses.field(default_factory=dict)

    def unit(self):
        return ROWS[self.row].unit if self.row in ROWS else "MB/s"

    def value(self):
        """The figure in the row's unit; None if the row failed or has none."""
        wall_s = self.figures.get("wall_s")
        if self.error or not wall_s:
            return None
        if self.unit() == "ms":
            return self.client.get(ROWS[self.row].latency, {}).get("p50")
        if self.unit() == "1/s":
            return self.operations / wall_s
        return self.work_bytes / wall_s / 1e6

    def times_faster(self, other):
        """How many times as fast as other this is, or None if one of them has no figure."""
        mine, its = self.value(), other.value()
        if not mine or not its:
            return None
        return its / mine if self.unit() == "ms" else mine / its


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
        self.say(f"  {target:12} {phase}: FAILED: {problem}")

    def skip(self, target, row, why):
        """Note that there is no such row in this run, and that this is no failure."""
        self.results.append(Result(target, row, 0, skipped=why))
        self.say(f"  {target:12} {row:14} skipped: {why}")

    def check(self, target, what, problem):
        """Note what a check outside of the time found: problem is "" if all was well."""
        self.say(f"  {target.name:12} {what}: {problem or 'checked'}")
        if problem:
            self.results.append(Result(target.name, "check", 0, error=f"{what}: {problem}"))
        return not problem

    def scaled(self, full, least):
        """A count that shrinks with the inputs."""
        return max(least, round(full * min(1.0, self.inputs.scale)))

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
            result.figures |= meter.figures()
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

    def command(self, meter, argv, work_bytes, env=None, stdout=None):
        """Run a client to its end within the row; Failure if it does not end well."""
        timeout = self.timeout_s(work_bytes)
        errors = os.path.join(self.folder, "client.err")
        with open(errors, "wb") as err, open(stdout or os.devnull, "wb") as out:
            done = self.processes.run(argv, timeout, stdout=out, stderr=err, env=env)
        if meter is not None:
            meter.ran(done)
        if done.timed_out:
            raise Failure(f"{os.path.basename(argv[0])} was not done after {timeout:.0f} s")
        if done.code != 0:
            said = targets.tail(errors, 5).strip()
            raise Failure(f"{os.path.basename(argv[0])} ended with {done.code}: {said}"[:600])

    def curl(self, meter, arguments, work_bytes, answer=None):
        """Run curl as a user would; the answer's JSON if it was kept, else {}."""
        try:
            self.command(meter, ["curl", "-sS", "--fail-with-body", "-o", answer or os.devnull, *arguments],
                         work_bytes)
        except Failure as failure:
            raise Failure(f"{failure} {targets.tail(answer, 20).strip() if answer else ''}"[:900]) from None
        return read_json(answer) if answer else {}

    def load(self, meter, arguments, work_bytes):
        """Run one of the load clients; its figures."""
        out_path = os.path.join(self.folder, "load.json")
        timeout = self.timeout_s(work_bytes)
        argv = [os.path.join(self.tools, arguments[0]), *arguments[1:],
                "--timeout", str(max(1, int(timeout)))]
        try:
            self.command(meter, argv, work_bytes, stdout=out_path)
        except Failure as failure:
            figures = read_json(out_path)
            raise Failure(f"{failure}; {figures.get('failed', '?')} failed, "
                          f"first: {figures.get('first_failure', 'see above')}") from None
        return read_json(out_path)


def summary(result):
    start = f"  {result.target:12} {result.row:14}"
    if result.error:
        return f"{start} FAILED: {result.error}"
    return f"{start} {result.figures['wall_s']:8.2f} s {number(result.value()):>10} {result.unit()}"


def number(value):
    """A figure with as many digits as it deserves."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


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


def digstore(bench, folder, settings=None):
    options = bench.options
    return targets.Digstore(bench.processes, folder, options.server, dict(options.env) | (settings or {}))


def nginx(bench, folder):
    return targets.Nginx(bench.processes, folder, bench.options.nginx_body_buffer)


def upload(bench, server, name, repetition, source, input_name, path):
    """A row that uploads source in one PUT to path and commits it."""
    with bench.row(server, name, repetition, warm=source) as (result, meter):
        result.work_bytes = bench.inputs.size(input_name)
        answer = bench.curl(
            meter, ["-T", source, server.url(f"{path}?message=bench")], result.work_bytes,
            answer=os.path.join(server.folder, f"{name}.json"))
        result.receipt = find_receipt(answer)


def put_files(bench, server, result, meter, prefix, connections, count=None):
    """PUT the first count small files (all without it), each in a request of its own."""
    inputs = bench.inputs
    paths = inputs.small_paths()[:count]
    result.operations = len(paths)
    result.work_bytes = sum(os.path.getsize(os.path.join(inputs.small, p)) for p in paths)
    result.client = bench.load(
        meter, ["putload", "--port", str(server.port), "--prefix", prefix, "--root", inputs.small,
                "--list", inputs.small_list, "--count", str(len(paths)), "--connections",
                str(connections)], result.work_bytes)


def get_list(bench, server, result, meter, prefix, lines, connections, *more):
    """GET prefix followed by each of lines, with further options of getload."""
    path = os.path.join(server.folder, f"{result.row}.list")
    with open(path, "w", encoding="ascii") as out:
        out.writelines(line + "\n" for line in lines)
    result.client = bench.load(
        meter, ["getload", "--port", str(server.port), "--prefix", prefix, "--list", path,
                "--connections", str(connections), *more], result.work_bytes)
    result.operations = result.client["requests"]


def commit(bench, server, stage, meter=None):
    """Commit a stage to main; the receipt."""
    body = json.dumps({"ref": "main", "message": "bench"})
    answer = bench.curl(
        meter, ["-X", "POST", "-H", "Content-Type: application/json", "--data", body,
                server.url(stage + "/commit")], 0, answer=os.path.join(server.folder, "commit.json"))
    return find_receipt(answer)


def forget(folder):
    """Make room in the page cache for the next phase. Nothing is deleted."""
    os.sync()
    measure.cool(folder)
