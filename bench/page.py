# SPDX-License-Identifier: Apache-2.0
"""A saved run as a Markdown page that can be read by itself, with its plots beside it."""

import os

import plots
import report

INTRODUCTION = """\
Digstore beside nginx and the programs that do a similar job, on the same input, the same disk and in the
same run. nginx is the measure of the machine: its PUT writes a file without hashing, checking, syncing
or deduplicating it. The others deduplicate, as Digstore does; what is done to each stands in
`bench/README.md`, which also says how to repeat it:

```
{command}
```
"""

READING = """\
*x nginx* and the like say how many times as fast as that one Digstore was: above 1 it was faster. A 2xx
of Digstore means durable; what the others still owe the disk is in *sync after*. *stored %* is of the
bytes given. MB is 1,000,000 bytes. Of several runs the median counts, *spread* has the fastest and the
slowest. Everything that came back was compared with what was sent."""


def files(name, facts, parts, found):
    """What to write for a run called name, as [(suffix, content)]."""
    charts = [("-speed.svg", "Times as fast as the others", speed_chart(found)),
              ("-memory.svg", "Peak memory", memory_chart(found)),
              ("-cpu.svg", "Where the CPU time goes", cpu_chart(found))]
    charts = [c for c in charts if c[2]]
    text = [f"# Benchmark of {name}\n", INTRODUCTION.format(command=facts["command"])]
    for heading, content in parts:
        if heading == "Digstore beside the others: times as fast":
            text.append(READING + "\n")
            text += [f"![{title}]({name}{suffix})\n" for suffix, title, _ in charts]
        text.append(f"## {heading}\n\n{section(content)}\n")
    return [(".md", "\n".join(text)), *((suffix, svg) for suffix, _, svg in charts)]


def section(content):
    if isinstance(content, tuple):
        return report.markdown_table(*content)
    return "```\n" + "\n".join(content) + "\n```"


def speed_chart(found):
    """For each row of Digstore's, how many times as fast as the others it was."""
    _, ratios = report.speeds(found)
    return plots.bars("Digstore's speed, as a multiple of each other's", "right of 1: Digstore is faster",
                      [(report.title(row), those) for row, those in ratios.items()],
                      report.TARGETS, "times", log=True)


def memory_chart(found):
    """Peak of whoever does the work: the server, or the client where there is none."""
    groups = {}
    for target, row in report.order(found):
        figures = found[target, row].result.figures
        peak = figures.get("server_hwm_bytes") or figures.get("client_peak_bytes")
        if peak:
            groups.setdefault(report.title(row), {})[target] = peak / 1e6
    return plots.bars("Peak resident memory", "MB, of the server; of the client where there is no server",
                      list(groups.items()), report.TARGETS, "MB")


def cpu_chart(found):
    """Digstore's rows and nginx's: who used the machine's CPU."""
    names = {"server": "cpu_server_s", "database": "cpu_database_s", "client": "cpu_client_s",
             "kernel and others": "cpu_other_s"}
    groups = []
    for target, row in report.order(found):
        if target not in ("digstore", "nginx"):
            continue
        figures = found[target, row].result.figures
        whole = figures["wall_s"] * os.cpu_count()
        groups.append((f"{row}, {target}", {n: (figures.get(k) or 0) / whole for n, k in names.items()}))
    return plots.stacked("Use of all CPU cores while a row runs", "the rest is idle or waiting", groups,
                         list(names))
