# SPDX-License-Identifier: Apache-2.0
"""What the project wants of each row, and whether it got it.

Three marks: the aim, the must, and for some rows the floor that nobody may fall below. Only a run at
full size is judged. Ratios are of figures of the same run.
"""

import statistics

# (row, what, unit, floor, must, aim). What "x NAME" says is how many times as fast as NAME it is.
WANTED = (
    ("first", "rate", "MB/s", 500, None, None),
    ("first", "x nginx", "times its PUT", None, 2.0, 3.0),
    ("first", "memory", "MB", 200, 150, 100),
    ("again", "x nginx", "times its PUT", None, 3.0, 4.0),
    ("again", "stored", "%", 0.1, None, None),
    ("edit", "stored", "%", 5.0, None, None),
    ("download", "x nginx", "times its GET", None, 0.5, 0.8),
    ("ranges", "rate", "1/s", None, 8_000, 20_000),
    ("archive", "seconds", "s", 5.0, 1.0, 0.6),
    ("archive", "x restic", "times", None, None, 5.0),
    ("archive", "x borg", "times", None, None, 5.0),
    ("archive", "memory", "MB", 500, 200, 120),
    ("import", "seconds", "s", None, 1.0, 0.5),
    ("singles", "seconds", "s", None, 3.0, 1.5),
    ("singles", "memory", "MB", 500, 200, 120),
    ("parallel", "memory", "MB", None, 300, 200),
    ("tree-list", "median", "ms", None, 10.0, 2.0),
    ("tree-push", "median", "ms", None, 25.0, 5.0),
)
FALLING = ("memory", "stored", "seconds", "median")
# Of the first upload: CPU in use, or else what the disk takes, is used up to this share.
BUSY_MUST, BUSY_AIM = 0.80, 0.90
# Two ways to run one program count as the better one.
ALIASES = {"restic": ("restic", "restic-rest")}


def lines(found, results, scale):
    """One line for each thing that is wanted and was measured."""
    text = [goal_line(found, goal, scale) for goal in WANTED]
    text += [busy_line(found, results, scale), small_line(found, scale), again_line(found)]
    return [t for t in text if t]


def mark(value, falling, marks, scale):
    """The best of the marks [(name, limit)], best first, that value reaches."""
    if scale != 1:
        return "not judged at this scale"
    for name, limit in marks:
        if value <= limit if falling else value >= limit:
            return f"reaches the {name}"
    return "MISSES it"


def goal_line(found, goal, scale):
    row, what, unit, floor, must, aim = goal
    value = value_of(found, row, what)
    if value is None:
        return None
    falling = what in FALLING
    marks = [(n, v) for n, v in (("aim", aim), ("must", must), ("floor", floor)) if v is not None]
    wanted = ", ".join(f"{n} {'<=' if falling else '>='} {v:g}" for n, v in marks)
    return f"{row:11} {what:9} {value:10,.3g} {unit:13} {mark(value, falling, marks, scale)}  ({wanted})"


def value_of(found, row, what):
    """The number of a goal, or None if the row, or whom it is compared with, was not measured."""
    line = found.get(("digstore", row))
    if line is None:
        return None
    result = line.result
    if what == "x nginx":
        return line.ratio
    if what.startswith("x "):
        ratios = [times_faster(found, row, name) for name in ALIASES.get(what[2:], (what[2:],))]
        return min((r for r in ratios if r is not None), default=None)
    if what in ("rate", "median"):
        return result.value()
    if what == "seconds":
        return result.figures["wall_s"]
    if what == "memory":
        return (result.figures["server_hwm_bytes"] or 0) / 1e6 or None
    stored = stored_bytes(result)
    return None if stored is None else 100 * stored / result.work_bytes


def times_faster(found, row, other):
    """How many times as fast as other Digstore does the row, or None."""
    mine = found.get(("digstore", row))
    if mine is None:
        return None
    if other == "nginx":
        return mine.ratio
    its = found.get((other, row))
    return None if its is None else mine.result.times_faster(its.result)


def stored_bytes(result):
    """What a row added, or None: of Digstore by its receipt, as packs may be longer than what is in
    them; of the others by the lengths of their files."""
    if result.target == "digstore":
        return result.receipt.get("stored_bytes")
    return result.stored.get("blob_file_bytes")


def left_bytes(found):
    """What the big file takes after idle recompression, or None."""
    line = found.get(("digstore", "recompress"))
    return None if line is None else line.result.figures.get("left_file_bytes")


def busy_line(found, results, scale):
    """The first upload uses up the machine: its CPU, or its disk."""
    line = found.get(("digstore", "first"))
    if line is None:
        return None
    figures = line.result.figures
    cpu = figures["cpu_busy_share"]
    rates = [r.figures["bytes_per_s"] for r in results if r.row == "write-probe" and r.figures]
    written = figures.get("disk_written_bytes") or stored_bytes(line.result) or 0
    disk = written / figures["wall_s"] / statistics.median(rates) if rates else 0.0
    verdict = mark(max(cpu, disk), False, [("aim", BUSY_AIM), ("must", BUSY_MUST)], scale)
    return (f"{'first':11} {'use':9} CPU {100 * cpu:.0f} %, writes {100 * disk:.0f} % of what the disk "
            f"takes: the larger {verdict}  (aim > {100 * BUSY_AIM:.0f} %, must > {100 * BUSY_MUST:.0f} %)")


def small_line(found, scale):
    """After idle recompression the big file takes less than restic and borg need for it."""
    left = left_bytes(found)
    if left is None:
        return None
    rivals = {}
    for mine, names in (("restic", ALIASES["restic"]), ("borg", ("borg",))):
        stored = [stored_bytes(found[n, "first"].result) for n in names if (n, "first") in found]
        if stored:
            rivals[mine] = min(stored)
    if not rivals:
        others, verdict = "neither restic nor borg are in this run", "not judged"
    else:
        others = ", ".join(f"{n} {size / 1e6:,.1f}" for n, size in rivals.items())
        marks = [(n, rivals[p] - 1) for n, p in (("aim", "restic"), ("must", "borg")) if p in rivals]
        verdict = mark(left, True, marks, scale)
    return (f"{'recompress':11} {'stored':9} {left / 1e6:,.1f} MB ({others}): {verdict}"
            "  (aim below restic's, must below borg's)")


def again_line(found):
    first, again = found.get(("digstore", "first")), found.get(("digstore", "again"))
    if not first or not again:
        return None
    faster = again.result.figures["wall_s"] < first.result.figures["wall_s"]
    return f"{'again':11} is {'faster' if faster else 'SLOWER'} than first"
