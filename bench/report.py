# SPDX-License-Identifier: Apache-2.0
"""The results as a table, as Markdown and as JSON."""

import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess

from rows import ROWS

# What the project wants of a row: (row, what, unit, floor, must, aim). A rising floor wants more, a
# falling one less. "x" is the ratio of throughput to nginx's in the same run.
WANTED = (
    ("first", "rate", "MB/s", 500, None, None),
    ("first", "ratio", "x nginx PUT", None, 2.0, 3.0),
    ("first", "memory", "MB", 200, 150, 100),
    ("again", "ratio", "x nginx PUT", None, 3.0, 4.0),
    ("again", "stored", "%", 0.1, None, None),
    ("edit", "stored", "%", 5.0, None, None),
    ("download", "ratio", "x nginx GET", None, 0.5, 0.8),
    ("ranges", "rate", "1/s", None, 8_000, 20_000),
    ("archive", "seconds", "s", 5.0, 1.0, 0.6),
    ("archive", "memory", "MB", 500, 200, 120),
    ("singles", "seconds", "s", None, 3.0, 1.5),
    ("singles", "memory", "MB", None, 200, 120),
)
FALLING = ("memory", "stored", "seconds")
READING = ("download", "ranges", "archive-get")
BUSY_LOAD = 0.5


@dataclasses.dataclass
class Line:
    """The median run of one row on one server, and how far all runs of it were spread."""

    result: object
    runs: int
    slowest_s: float
    fastest_s: float
    ratio: float | None


def lines(results):
    """(target, row) -> Line, for rows that worked at least once."""
    groups = {}
    for r in results:
        if not r.error and r.figures.get("wall_s"):
            groups.setdefault((r.target, r.row), []).append(r)
    found = {}
    for key, runs in groups.items():
        runs.sort(key=lambda r: r.figures["wall_s"])
        walls = [r.figures["wall_s"] for r in runs]
        found[key] = Line(runs[len(runs) // 2], len(runs), walls[-1], walls[0], None)
    for (_, row), line in found.items():
        rival = found.get(("nginx", ROWS[row].nginx_row)) if row in ROWS else None
        if rival is not None:
            line.ratio = line.result.rate() / rival.result.rate()
    return found


# ---- small formats


def mb(count):
    return "-" if count is None else f"{count / 1e6:,.1f}"


def seconds(value):
    return "-" if value is None else f"{value:.2f}"


def plain_table(head, body):
    """Columns aligned for a terminal; the first is text, the others numbers."""
    widths = [max(len(str(row[i])) for row in [head, *body]) for i in range(len(head))]
    text = []
    for row in [head, *body]:
        cells = [str(c).ljust(w) if i < 2 else str(c).rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def markdown_table(head, body):
    rule = ["---" if i < 2 else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, rule, *body])


# ---- tables


MAIN_HEAD = ("row", "server", "s", "spread", "rate", "unit", "x nginx", "CPU server", "CPU db",
             "CPU client", "CPU other", "mem MB", "db mem MB", "stored MB", "stored %", "disk MB",
             "sync after s")


def main_rows(found):
    body = []
    for row in order(found):
        for (target, name), line in found.items():
            if name == row:
                body.append(main_row(target, row, line))
    return body


def order(found):
    """Rows in the order of the table, then those only peers have."""
    known = [r for r in ROWS if any(name == r for _, name in found)]
    return known + sorted({name for _, name in found} - set(ROWS))


def main_row(target, row, line):
    r = line.result
    f = r.figures
    stored = receipt_stored(r)
    share_stored = None if row in READING else stored_bytes(r)
    # A program without a server works in its client.
    memory = f["server_hwm_bytes"] if f["server_hwm_bytes"] is not None else f["client_peak_bytes"] or None
    return (
        ROWS[row].title if row in ROWS else row,
        target,
        seconds(f["wall_s"]),
        f"{line.fastest_s:.2f}-{line.slowest_s:.2f}" if line.runs > 1 else "-",
        f"{r.rate():,.0f}",
        ROWS[row].unit if row in ROWS else "MB/s",
        f"{line.ratio:.2f}" if line.ratio is not None else "-",
        seconds(f.get("cpu_server_s")),
        seconds(f.get("cpu_database_s")),
        seconds(f.get("cpu_client_s")),
        seconds(f.get("cpu_other_s")),
        mb(memory),
        mb(f.get("database_pss_bytes")),
        mb(stored),
        percent(share_stored, r.work_bytes),
        "-" if row in READING else mb(r.stored.get("blob_disk_bytes")),
        seconds(f.get("sync_after_s")),
    )


def percent(part, whole):
    return "-" if part is None or not whole else f"{100 * part / whole:.3f}"


def receipt_stored(result):
    """What new chunks take after compression, as the receipt has it, or None."""
    return result.receipt.get("stored_bytes")


def stored_bytes(result):
    """What the row added: by its receipt, or else by the lengths of the files on disk."""
    stored = receipt_stored(result)
    return result.stored.get("blob_file_bytes") if stored is None else stored


def receipt_dedup(result):
    """Share of the logical bytes that were there already, or None."""
    logical = result.receipt.get("logical_bytes")
    new = result.receipt.get("new_bytes")
    return 1 - new / logical if logical and new is not None else None


TIME_HEAD = ("row", "server", "s", "busy %", "server %", "db %", "client %", "other %", "steal s",
             "iowait s", "disk MB/s", "disk busy %", "dedup %")


def time_rows(found):
    """Where the time goes: shares of all the CPU time the row had."""
    body = []
    cores = os.cpu_count()
    for row in order(found):
        for (target, name), line in found.items():
            if name != row:
                continue
            f = line.result.figures
            whole = f["wall_s"] * cores
            shares = [share(f.get(k), whole) for k in
                      ("cpu_server_s", "cpu_database_s", "cpu_client_s", "cpu_other_s")]
            dedup = receipt_dedup(line.result)
            written = f.get("disk_written_bytes")
            body.append((row, target, seconds(f["wall_s"]), share(f.get("cpu_busy_share"), 1), *shares,
                         seconds(f.get("cpu_steal_s")), seconds(f.get("cpu_iowait_s")),
                         "-" if written is None else f"{written / f['wall_s'] / 1e6:,.0f}",
                         share(f.get("disk_busy_share"), 1), share(dedup, 1)))
    return body


def share(part, whole):
    return "-" if part is None or not whole else f"{min(100.0, 100 * part / whole):.1f}"


def stage_lines(found):
    """Seconds in each stage of the pipeline, over all threads, from the receipts."""
    text = []
    for (target, row), line in found.items():
        stages = line.result.receipt.get("seconds")
        if isinstance(stages, dict):
            ordered = sorted(stages.items(), key=lambda stage: -stage[1])
            text.append(f"{target} {row}: " + "  ".join(f"{name} {spent:.3f}" for name, spent in ordered))
    return text


def latency_lines(found):
    text = []
    for (target, row), line in found.items():
        client = line.result.client
        if not client:
            continue
        ms = client["latency_ms"]
        busiest = [c["requests"] for c in client["connections"]]
        text.append(f"{target} {row}: ms p50 {ms['p50']} p90 {ms['p90']} p99 {ms['p99']} max {ms['max']}; "
                    f"requests a connection {min(busiest)}-{max(busiest)}; "
                    f"reconnects {client['reconnects']}")
    return text


# ---- verdicts


def verdicts(found, scale):
    """One line for each thing the project wants. Only the full size is judged."""
    text = []
    for row, what, unit, floor, must, aim in WANTED:
        line = found.get(("digstore", row))
        value = None if line is None else value_of(line, what)
        if value is None:
            continue
        wanted = [(n, v) for n, v in (("aim", aim), ("must", must), ("floor", floor)) if v is not None]
        good = [n for n, v in wanted if (value <= v if what in FALLING else value >= v)]
        verdict = f"reaches the {good[0]}" if good else "MISSES it"
        if scale != 1:
            verdict = "not judged at this scale"
        sign = "<=" if what in FALLING else ">="
        goals = ", ".join(f"{n} {sign} {v:g}" for n, v in wanted)
        text.append(f"{row:14} {what:8} {value:10,.3g} {unit:12} {verdict}  ({goals})")
    first, again = found.get(("digstore", "first")), found.get(("digstore", "again"))
    if first and again:
        faster = again.result.figures["wall_s"] < first.result.figures["wall_s"]
        text.append(f"{'again':14} is {'faster' if faster else 'SLOWER'} than first")
    return text


def value_of(line, what):
    r = line.result
    if what == "rate":
        return r.rate()
    if what == "ratio":
        return line.ratio
    if what == "seconds":
        return r.figures["wall_s"]
    if what == "memory":
        return r.figures["server_hwm_bytes"] / 1e6
    stored = stored_bytes(r)
    return None if stored is None else 100 * stored / r.work_bytes


# ---- machine


def first_line(argv, words=8):
    """The first words a command says, or None if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
        return " ".join((done.stdout + done.stderr).strip().splitlines()[0].split()[:words])
    except (OSError, IndexError, subprocess.SubprocessError):
        return None


def machine(folder, server):
    """What it ran on, for the head of the report."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        model = re.search(r"model name\s*: (.*)", info.read())
    with open("/proc/meminfo", encoding="ascii") as info:
        memory = int(info.readline().split()[1]) * 1024
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "file_system": first_line(["findmnt", "-no", "FSTYPE,OPTIONS", "-T", folder]),
        "load_before": os.getloadavg()[0],
        "digstored": first_line([server, "--version"]) if server and os.path.exists(server) else None,
        "commit": first_line(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe",
                              "--always", "--dirty"]),
        "nginx": first_line([shutil.which("nginx") or "/usr/sbin/nginx", "-v"]),
        "curl": first_line(["curl", "--version"], words=2),
    }


def machine_lines(facts, inputs):
    small = inputs.manifest["small"]
    text = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_bytes'] / 2**30:.0f} GiB, "
        f"Linux {facts['kernel']}, {facts['file_system']}, load before {facts['load_before']:.1f}",
        f"{facts['digstored'] or 'no digstored'}, source {facts['commit'] or 'unknown'}; {facts['nginx']}; "
        f"{facts['curl']}",
        f"big file {inputs.size('big.bin') / 1e6:,.0f} MB; {small['count']:,} small files, "
        f"{small['bytes'] / 1e6:,.1f} MB, {small['distinct_contents']:,} different; scale {inputs.scale:g}",
    ]
    if facts["load_before"] > BUSY_LOAD:
        text.append("NOTE the machine was not idle before the run: the figures are not for quoting")
    return text + [f"NOTE {n}" for n in inputs.manifest["notes"]]


# ---- output


def sections(facts, inputs, results, profile):
    """The report as (heading, lines or table) in order; tables are (head, body)."""
    found = lines(results)
    failed = [f"{r.target} {r.row}: {r.error}" for r in results if r.error]
    parts = [("Machine and inputs", machine_lines(facts, inputs)), ("Failed", failed),
             ("Figures", (MAIN_HEAD, main_rows(found))),
             ("Where the time goes", (TIME_HEAD, time_rows(found))),
             ("Stages, seconds, from the receipts", stage_lines(found)),
             ("Latencies", latency_lines(found)),
             ("Against what is wanted", verdicts(found, inputs.scale)), ("Profile", profile)]
    return [p for p in parts if p[1] and not (isinstance(p[1], tuple) and not p[1][1])]


def as_text(parts):
    text = []
    for heading, content in parts:
        body = plain_table(*content) if isinstance(content, tuple) else "\n".join(content)
        text.append(f"== {heading}\n{body}\n")
    return "\n".join(text)


def as_markdown(title, parts):
    text = [f"# {title}\n"]
    for heading, content in parts:
        if isinstance(content, tuple):
            body = markdown_table(*content)
        else:
            body = "```\n" + "\n".join(content) + "\n```"
        text.append(f"## {heading}\n\n{body}\n")
    return "\n".join(text)


def as_json(facts, inputs, options, results):
    keep = {k: v for k, v in inputs.manifest.items() if k != "edited"}
    return json.dumps({"version": 1, "machine": facts, "inputs": keep, "options": options,
                       "results": [dataclasses.asdict(r) for r in results]}, indent=1) + "\n"
