# SPDX-License-Identifier: Apache-2.0
"""A perf profile of the server and its database while a row runs."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

FREQUENCY = 499
LINES = 40


class Profiler:
    """Records with perf; the tables of all recordings are in lines."""

    def __init__(self, processes, say):
        self.processes = processes
        self.say = say
        self.lines = []

    @contextlib.contextmanager
    def record(self, server, folder):
        """Profile server until the block ends. Its rows are slower for it: not for quoting."""
        data = os.path.join(folder, "perf.data")
        pids = ",".join(map(str, [*server.server_pids(), *server.database_pids()]))
        argv = ["perf", "record", "-g", "-F", str(FREQUENCY), "-o", data, "-p", pids]
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
        self.processes.running[child.pid] = child
        time.sleep(0.5)
        try:
            yield
        finally:
            # perf writes its file out when interrupted.
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
            try:
                said = child.communicate(timeout=60)[1]
            except subprocess.TimeoutExpired:
                self.processes.stop(child, grace_s=5)
                said = "perf did not end"
            self.processes.running.pop(child.pid, None)
        if not os.path.exists(data):
            self.say(f"  perf: no profile: {said.strip()}")
            return
        self.say(f"  perf: {data}; for a flame graph: perf script -i {data}")
        self.lines += self.tables(data)

    @staticmethod
    def tables(data):
        """The top of the profile: by process and library, then by function."""
        text = []
        for sort in ("comm,dso", "comm,dso,symbol"):
            argv = ["perf", "report", "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.4",
                    "--sort", sort, "-i", data]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False,
                                  env={**os.environ, "LC_ALL": "C", "PERF_PAGER": "cat"})
            body = [x.rstrip() for x in done.stdout.splitlines() if x.strip() and not x.startswith("#")]
            text += [f"-- by {sort}", *body[:LINES]]
        return text


def available():
    return shutil.which("perf") is not None
