# SPDX-License-Identifier: Apache-2.0
"""Processes of the benchmark: started here, measured here, and gone when it ends.

Only processes that this program started are ever signalled, and always by their number; a number
counts only together with the time the process was started, so that a reused one is left alone.
"""

import atexit
import dataclasses
import os
import select
import shutil
import signal
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PEAK_EVERY_MS = 50


@dataclasses.dataclass
class Finished:
    """How a client ended: exit code, wall and CPU seconds, whether its time ran out. Its peak memory
    is sampled: 0 if it was done before the first look."""

    code: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    timed_out: bool


class Processes:
    """All children of the benchmark. One is made a run; at exit, however it comes, it stops all."""

    def __init__(self):
        self.running = {}
        atexit.register(self.stop_all)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._leave)

    @staticmethod
    def _leave(number, _frame):
        raise SystemExit(128 + number)

    def start(self, argv, log, env=None):
        """Start a server; its output goes to the file log. It gets SIGTERM if we die."""
        if setpriv := shutil.which("setpriv"):
            argv = [setpriv, "--pdeathsig", "TERM", "--", *argv]
        with open(log, "ab") as out:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                                     start_new_session=True)
        self.running[child.pid] = child
        return child

    def run(self, argv, timeout_s, stdout=subprocess.DEVNULL, stderr=None, env=None):
        """Run a client to its end, or to the end of its time."""
        begin = time.perf_counter()
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=env)
        self.running[child.pid] = child
        handle = os.pidfd_open(child.pid)
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            peak_bytes = 0
            timed_out = False
            while not timed_out and not poll.poll(PEAK_EVERY_MS):
                # Not ru_maxrss: that starts with what this process had when it forked.
                peak_bytes = max(peak_bytes, status_bytes(child.pid, "VmHWM"))
                timed_out = time.perf_counter() - begin > timeout_s
            if timed_out:
                child.kill()
            _, status, usage = os.wait4(child.pid, 0)
            wall_s = time.perf_counter() - begin
        finally:
            os.close(handle)
        child.returncode = os.waitstatus_to_exitcode(status)
        del self.running[child.pid]
        return Finished(child.returncode, wall_s, usage.ru_utime + usage.ru_stime, peak_bytes, timed_out)

    def stop(self, child, grace_s=60):
        """End a server as an operator would; harder if it does not go. True if it went by itself."""
        family = descendants(child.pid)
        clean = True
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(grace_s)
            except subprocess.TimeoutExpired:
                clean = False
                family = family | descendants(child.pid)
                child.kill()
                child.wait()
        self.running.pop(child.pid, None)
        end_leftovers(family)
        return clean

    def stop_all(self):
        for child in list(self.running.values()):
            self.stop(child, grace_s=20)


def end_leftovers(family):
    """End what a dead server left behind: first politely, then not."""
    for number, patience_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0)):
        left = {(pid, born) for pid, born in family if start_time(pid) == born}
        if not left:
            return
        for pid, _ in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        until = time.monotonic() + patience_s
        while time.monotonic() < until and any(start_time(p) == b for p, b in left):
            time.sleep(0.05)


# ---- /proc


def stat_fields(pid):
    """The fields of /proc/PID/stat after the name, or None; field N of proc(5) is [N - 3]."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return None


def start_time(pid):
    fields = stat_fields(pid)
    return None if fields is None or fields[0] == b"Z" else int(fields[19])


def descendants(pid):
    """All living descendants of pid, as a set of (pid, start time)."""
    children = {}
    born = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat_fields(name)) is not None:
            children.setdefault(int(fields[1]), []).append(int(name))
            born[int(name)] = int(fields[19])
    found = set()
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), ()):
            if (child, born[child]) not in found:
                found.add((child, born[child]))
                todo.append(child)
    return found


def cpu_s(pids, with_reaped=False):
    """CPU seconds used by pids so far; with those of children they have waited for, if wanted."""
    total = 0
    for pid in pids:
        if (fields := stat_fields(pid)) is not None:
            total += int(fields[11]) + int(fields[12])
            if with_reaped:
                total += int(fields[13]) + int(fields[14])
    return total / TICKS


def status_bytes(pid, name):
    """A "kB" line of /proc/PID/status such as VmHWM, in bytes; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def pss_bytes(pid):
    """Memory of pid with shared pages divided among those that share them."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def forget_peak(pid):
    """Let VmHWM of pid start again from what it has now."""
    try:
        with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as clear:
            clear.write("5")
    except OSError:
        pass
