# SPDX-License-Identifier: Apache-2.0
"""What a run ran on: machine, programs, conditions."""

import os
import platform
import re
import shutil
import subprocess
import sys

BUSY_LOAD = 0.5


def first_line(argv, words=8):
    """The first words a command says, or None if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
        return " ".join((done.stdout + done.stderr).strip().splitlines()[0].split()[:words])
    except (OSError, IndexError, subprocess.SubprocessError):
        return None


def facts(folder, options, peer_versions):
    """All that the head of a report says, before anything is measured."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        model = re.search(r"model name\s*: (.*)", info.read())
    with open("/proc/meminfo", encoding="ascii") as info:
        memory = int(info.readline().split()[1]) * 1024
    server = options.server if "digstore" in options.targets else None
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "system": system_name(),
        "file_system": first_line(["findmnt", "-no", "FSTYPE,OPTIONS", "-T", folder]),
        "load_before": os.getloadavg()[0],
        "command": command_line(sys.argv[1:]),
        # An address of a database may hold a password.
        "settings": [f"{name}={'...' if '://' in value else value}" for name, value in options.env],
        "digstored": first_line([server, "--version"]) if server else None,
        "commit": first_line(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe",
                              "--always", "--dirty"]),
        "nginx": first_line([shutil.which("nginx") or "/usr/sbin/nginx", "-v"]),
        "curl": first_line(["curl", "--version"], words=2),
        "peers": peer_versions,
    }


def system_name():
    try:
        with open("/etc/os-release", encoding="utf-8") as text:
            return re.search(r'PRETTY_NAME="?([^"\n]*)', text.read())[1]
    except (OSError, TypeError):
        return platform.system()


def command_line(arguments):
    """The arguments of this run as somebody else would give them: paths say nothing elsewhere."""
    shown, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
            continue
        if argument.split("=")[0] in ("--inputs", "--work", "--server", "--json", "--results", "--env"):
            skip = "=" not in argument
            continue
        shown.append(argument)
    return " ".join(["bench/run", *shown])


def lines(found, inputs):
    small = inputs.manifest["small"]
    text = [
        f"{found['cpu']}, {found['cores']} cores, {found['memory_bytes'] / 2**30:.0f} GiB, "
        f"{found['system']}, Linux {found['kernel']}, {found['file_system']}",
        f"load {found['load_before']:.1f} before the run, {found['load_after']:.1f} after it; "
        f"it took {found['minutes']:g} minutes",
        f"{found['digstored'] or 'no digstored'}, source {found['commit'] or 'unknown'}"
        + (f", {' '.join(found['settings'])}" if found["settings"] else ""),
        "; ".join(p for p in [found["nginx"], found["curl"], *found["peers"]] if p),
        f"big file {inputs.size('big.bin') / 1e6:,.0f} MB; {small['count']:,} small files, "
        f"{small['bytes'] / 1e6:,.1f} MB, {small['distinct_contents']:,} different; scale {inputs.scale:g}",
        f"command: {found['command']}",
    ]
    if found["load_before"] > BUSY_LOAD:
        text.append("NOTE the machine was not idle before the run: the figures are not for quoting")
    return text + [f"NOTE {n}" for n in inputs.manifest["notes"]]
