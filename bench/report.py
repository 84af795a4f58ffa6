# SPDX-License-Identifier: Apache-2.0
"""The results as tables, as text and as JSON."""

import dataclasses
import json
import os

import machine
import verdicts
from rows import ROWS, number

# In this order in every table, whoever else there is after them.
TARGETS = ("nginx", "digstore", "restic", "restic-rest", "borg", "casync", "registry")
# What of a row's bytes may come from the disk when the row is said to be warm.
WARM_READ_SHARE = 0.01


@dataclasses.dataclass
class Line:
    """The median run of one row on one server, and how far all runs of it were spread."""

    result: object
    runs: int
    slowest_s: float
    fastest_s: float
    ratio: float | None


def lines(results):
    """(target, row) -> Line, for rows that worked at least once. The median is by the row's figure."""
    groups = {}
    for r in results:
        if not r.error and r.figures.get("wall_s"):
            groups.setdefault((r.target, r.row), []).append(r)
    found = {}
    for key, runs in groups.items():
        runs.sort(key=lambda r: r.value() or 0)
        walls = [r.figures["wall_s"] for r in runs]
        found[key] = Line(runs[(len(runs) - 1) // 2], len(runs), max(walls), min(walls), None)
    for (_, row), line in found.items():
        rival = found.get(("nginx", ROWS[row].nginx_row)) if row in ROWS else None
        if rival is not None:
            line.ratio = line.result.times_faster(rival.result)
    return found


def order(found):
    """Keys of found: rows in the order of the table, servers in theirs."""
    rows = list(ROWS)
    return sorted(found, key=lambda key: (rows.index(key[1]) if key[1] in rows else len(rows), key[1],
                                          TARGETS.index(key[0]) if key[0] in TARGETS else len(TARGETS)))


# ---- small formats


def mb(count):
    return "-" if count is None else f"{count / 1e6:,.1f}"


def seconds(value):
    return "-" if value is None else f"{value:.2f}"


def percent(part, whole):
    return "-" if part is None or not whole else f"{100 * part / whole:.3f}"


def share(part, whole):
    return "-" if part is None or not whole else f"{min(100.0, 100 * part / whole):.1f}"


def times(value):
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def plain_table(head, body):
    """Columns aligned for a terminal; the first two are text, the others numbers."""
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


MAIN_HEAD = ("row", "server", "s", "spread", "figure", "unit", "x nginx", "CPU server", "CPU db",
             "CPU client", "CPU other", "server MB", "db MB", "client MB", "stored MB", "stored %",
             "disk MB", "sync after s")


def main_rows(found):
    return [main_row(target, row, found[target, row]) for target, row in order(found)]


def main_row(target, row, line):
    r = line.result
    f = r.figures
    reads = row in ROWS and ROWS[row].reads
    stored = None if reads else r.receipt.get("stored_bytes")
    return (
        title(row),
        target,
        seconds(f["wall_s"]),
        f"{line.fastest_s:.2f}-{line.slowest_s:.2f}" if line.runs > 1 else "-",
        number(r.value()),
        r.unit(),
        times(line.ratio),
        seconds(f.get("cpu_server_s")),
        seconds(f.get("cpu_database_s")),
        seconds(f.get("cpu_client_s")),
        seconds(f.get("cpu_other_s")),
        mb(f.get("server_hwm_bytes")),
        mb(f.get("database_pss_bytes")),
        mb(f.get("client_peak_bytes") or None),
        mb(stored),
        percent(None if reads else verdicts.stored_bytes(r), r.work_bytes),
        "-" if reads else mb(r.stored.get("blob_disk_bytes")),
        seconds(f.get("sync_after_s")),
    )


def beside(found):
    """A table of how many times as fast as each of the others Digstore is."""
    others, ratios = speeds(found)
    body = []
    for row, those in ratios.items():
        line = found["digstore", row].result
        body.append((title(row), f"{number(line.value())} {line.unit()}",
                     *(times(those.get(other)) for other in others)))
    return ("row", "Digstore", *(f"x {other}" for other in others)), body


def speeds(found):
    """The others there are, and row -> {other: how many times as fast Digstore is}, for the rows that
    at least one of them has too."""
    others = [t for t in TARGETS if t != "digstore" and any(target == t for target, _ in found)]
    ratios = {}
    for target, row in order(found):
        those = {o: verdicts.times_faster(found, row, o) for o in others} if target == "digstore" else {}
        those = {o: r for o, r in those.items() if r is not None}
        if those:
            ratios[row] = those
    return others, ratios


def title(row):
    return ROWS[row].title if row in ROWS else row


def sizes(found):
    """Megabytes that each of them needed for a row that stores."""
    targets = [t for t in TARGETS if any(target == t for target, _ in found)]
    body = []
    for row in ("first", "edit", "archive", "archive-again", "singles"):
        cells = []
        for target in targets:
            line = found.get((target, row))
            cells.append(mb(verdicts.stored_bytes(line.result) if line else None))
        if any(c != "-" for c in cells):
            given = next(found[t, row].result.work_bytes for t in targets if (t, row) in found)
            body.append((ROWS[row].title, mb(given), *cells))
    left = verdicts.left_bytes(found)
    if left is not None:
        body.append((ROWS["recompress"].title, "", *(mb(left) if t == "digstore" else "-" for t in targets)))
    return ("MB stored by", "given", *targets), body


TIME_HEAD = ("row", "server", "s", "busy %", "server %", "db %", "client %", "other %", "steal s",
             "iowait s", "written MB/s", "read MB/s", "disk busy %", "dedup %")


def time_rows(found):
    """Where the time goes: shares of all the CPU time the row had."""
    body = []
    cores = os.cpu_count()
    for target, row in order(found):
        r = found[target, row].result
        f = r.figures
        whole = f["wall_s"] * cores
        shares = [share(f.get(k), whole) for k in
                  ("cpu_server_s", "cpu_database_s", "cpu_client_s", "cpu_other_s")]
        traffic = ["-" if f.get(k) is None else f"{f[k] / f['wall_s'] / 1e6:,.0f}"
                   for k in ("disk_written_bytes", "disk_read_bytes")]
        body.append((row, target, seconds(f["wall_s"]), share(f.get("cpu_busy_share"), 1), *shares,
                     seconds(f.get("cpu_steal_s")), seconds(f.get("cpu_iowait_s")), *traffic,
                     share(f.get("disk_busy_share"), 1), share(receipt_dedup(r), 1)))
    return body


def receipt_dedup(result):
    """Share of the logical bytes that were there already, or None."""
    logical = result.receipt.get("logical_bytes")
    new = result.receipt.get("new_bytes")
    return 1 - new / logical if logical and new is not None else None


# ---- lines


def stage_lines(found):
    """Seconds in each stage of the pipeline, over all threads, from the receipts."""
    text = []
    for target, row in order(found):
        stages = found[target, row].result.receipt.get("seconds")
        if isinstance(stages, dict):
            ordered = sorted(stages.items(), key=lambda stage: -stage[1])
            text.append(f"{target} {row}: " + "  ".join(f"{name} {spent:.3f}" for name, spent in ordered))
    return text


def latency_lines(found):
    text = []
    for target, row in order(found):
        client = found[target, row].result.client
        if not client:
            continue
        ms, first = client["latency_ms"], client["first_byte_ms"]
        text.append(f"{target:9} {row:13} ms min {ms['min']} p50 {ms['p50']} p90 {ms['p90']} p99 {ms['p99']} "
                    f"max {ms['max']}; first byte p50 {first['p50']} p99 {first['p99']}; "
                    f"requests {client['requests']}, reconnects {client['reconnects']}")
    return text


def fairness_lines(found):
    """Whether anybody starved: of uploads that began together, when each was through."""
    text = []
    for target, row in order(found):
        if row not in ("parallel", "fair"):
            continue
        ms = found[target, row].result.client["latency_ms"]
        fastest, middle, late, slowest = (ms[k] / 1e3 for k in ("min", "p50", "p99", "max"))
        text.append(f"{target:9} {row:9} s fastest {fastest:.3f} p50 {middle:.3f} p99 {late:.3f} slowest "
                    f"{slowest:.3f}; slowest/fastest {slowest / max(fastest, 1e-6):.1f}, "
                    f"slowest/p50 {slowest / max(middle, 1e-6):.1f}")
    return text


def warmth_lines(found):
    """Of the rows that should read from memory: did they?"""
    text = []
    for target, row in order(found):
        r = found[target, row].result
        resident = r.figures.get("resident_share")
        if resident is None:
            continue
        read = r.figures.get("disk_read_bytes") or 0
        warm = resident > 0.99 and read <= WARM_READ_SHARE * r.work_bytes
        text.append(f"{target:11} {row:9} {100 * resident:.1f} % of its files in memory before, "
                    f"{read / 1e6:,.1f} MB read from disk: {'warm' if warm else 'NOT WARM, do not compare'}")
    return text


# ---- output


def sections(facts, inputs, results, found, profile):
    """The report as (heading, lines or table) in order; tables are (head, body)."""
    failed = [f"{r.target} {r.row}: {r.error}" for r in results if r.error]
    skipped = [f"{r.target} {r.row}: {r.skipped}" for r in results if r.skipped]
    parts = [("Machine, inputs and conditions", machine.lines(facts, inputs)), ("Failed", failed),
             ("Skipped", skipped),
             ("Against what is wanted", verdicts.lines(found, results, inputs.scale)),
             ("Digstore beside the others: times as fast", beside(found)),
             ("Stored", sizes(found)),
             ("Figures", (MAIN_HEAD, main_rows(found))),
             ("Where the time goes", (TIME_HEAD, time_rows(found))),
             ("Stages, seconds, from the receipts", stage_lines(found)),
             ("Fairness of uploads at the same time", fairness_lines(found)),
             ("Latencies", latency_lines(found)), ("Warmth", warmth_lines(found)), ("Profile", profile)]
    return [p for p in parts if p[1] and not (isinstance(p[1], tuple) and not p[1][1])]


def as_text(parts):
    text = []
    for heading, content in parts:
        body = plain_table(*content) if isinstance(content, tuple) else "\n".join(content)
        text.append(f"== {heading}\n{body}\n")
    return "\n".join(text)


def as_json(facts, inputs, options, results):
    keep = {k: v for k, v in inputs.manifest.items() if k != "edited"}
    return json.dumps({"version": 2, "machine": facts, "inputs": keep, "options": options,
                       "results": [dataclasses.asdict(r) | {"value": r.value(), "unit": r.unit()}
                                   for r in results]}, indent=1) + "\n"
