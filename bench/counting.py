# SPDX-License-Identifier: Apache-2.0
"""Instructions that a pass of a stage of micro takes: the same every time, on a busy machine too.

Counted by perf where the machine has counters, else by valgrind, where a CPU with fewer features is
imitated (no SHA-NI), so that stages may be missing.
"""

import json
import os
import re
import shutil
import subprocess

# The difference leaves out start and preparations.
FEW, MANY = 1, 3
SECONDS_MAX = 600


def counter():
    """The tool to count with: "perf", "valgrind" or None."""
    if shutil.which("perf"):
        said = run(perf_command(["true"]))
        if said is not None and parse_perf(said[1]) is not None:
            return "perf"
    return "valgrind" if shutil.which("valgrind") else None


def perf_command(argv):
    return ["perf", "stat", "-x,", "-e", "instructions:u", "--", *argv]


def valgrind_command(argv):
    return ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--", *argv]


def instructions(tool, micro, stage):
    """Instructions a unit, or None if the stage is not there under this tool, or does not end."""
    counts, units = [], 0
    for passes in (FEW, MANY):
        argv = [micro, "--passes", str(passes), "--stage", stage]
        said = run(perf_command(argv) if tool == "perf" else valgrind_command(argv))
        if said is None:
            return None
        found = parse_perf(said[1]) if tool == "perf" else parse_valgrind(said[1])
        units = units_of(said[0], stage)
        if found is None or not units:
            return None
        counts.append(found)
    return (counts[1] - counts[0]) / (MANY - FEW) / units


def run(argv):
    """(standard output, standard error), or None if it failed."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=SECONDS_MAX, check=True, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout, done.stderr


def parse_perf(text):
    """The count of `perf stat -x,`; None where it is "<not supported>"."""
    found = re.search(r"^(\d+),[^,]*,instructions", text, re.MULTILINE)
    return int(found[1]) if found else None


def parse_valgrind(text):
    found = re.search(r"I\s+refs:\s+([\d,]+)", text)
    return int(found[1].replace(",", "")) if found else None


def units_of(text, stage):
    """What one pass of just this stage was."""
    try:
        stages = json.loads(text)["stages"]
    except (ValueError, KeyError, TypeError):
        return 0
    return next((s["units"] for s in stages if s["stage"] == stage), 0) if len(stages) == 1 else 0
