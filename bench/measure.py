# SPDX-License-Identifier: Apache-2.0
"""What one row cost: CPU of everyone, peak memory, disk traffic, stored bytes."""

import mmap
import os
import resource
import subprocess
import threading
import time

import procs

MEMORY_EVERY_S = 0.05
PSS_EVERY_S = 0.5
WRITE_BYTES = 1 << 20


class Meter:
    """Measures one row: `with Meter(target, folder) as m: run the client`, then m.figures(...).

    target says which processes are the server and which the database; folder lies on the disk
    whose traffic is counted.
    """

    def __init__(self, target, folder):
        self.target = target
        self.disk = disk_name(folder)
        self.clients = []
        self.peak = {"rss": 0, "anon": 0, "pss": 0, "db_pss": 0}
        self.over = threading.Event()

    def __enter__(self):
        self.servers = self.target.server_pids()
        for pid in self.servers:
            procs.forget_peak(pid)
        self.before = self._counters()
        self.sampler = threading.Thread(target=self._sample, daemon=True)
        self.sampler.start()
        return self

    def __exit__(self, *_):
        self.after = self._counters()
        self.over.set()
        self.sampler.join()
        self.hwm = sum(procs.status_bytes(p, "VmHWM") for p in self.servers)

    def ran(self, finished):
        """Count a client into the row."""
        self.clients.append(finished)
        return finished

    def waited(self, wall_s):
        """Count a time in which no client ran, but the server worked."""
        self.clients.append(procs.Finished(0, wall_s, 0.0, 0, False))

    def figures(self):
        """Everything measured, as one flat dictionary."""
        spent = {k: self.after[k] - self.before[k] for k in self.before}
        wall_s = sum(c.wall_s for c in self.clients)
        client_s = sum(c.cpu_s for c in self.clients)
        known_s = spent["server"] + spent["database"] + client_s + spent["bench"]
        cores = os.cpu_count()
        has_database = bool(self.target.database_pids())
        return {
            "wall_s": wall_s,
            "cpu_server_s": spent["server"] if self.servers else None,
            "cpu_database_s": spent["database"] if has_database else None,
            "cpu_client_s": client_s,
            "cpu_bench_s": spent["bench"],
            "cpu_other_s": max(0.0, spent["busy"] - known_s),
            "cpu_busy_share": min(1.0, spent["busy"] / (spent["wall"] * cores)),
            "cpu_iowait_s": spent["iowait"],
            "cpu_steal_s": spent["steal"],
            "server_hwm_bytes": self.hwm if self.servers else None,
            "server_rss_bytes": self.peak["rss"],
            "server_anon_bytes": self.peak["anon"],
            "client_peak_bytes": max((c.peak_bytes for c in self.clients), default=0),
            "server_pss_bytes": self.peak["pss"],
            "database_pss_bytes": self.peak["db_pss"] if has_database else None,
            "disk_written_bytes": spent["disk_written"] if self.disk else None,
            "disk_read_bytes": spent["disk_read"] if self.disk else None,
            "disk_busy_share": spent["disk_busy_s"] / spent["wall"] if self.disk else None,
        }

    def _counters(self):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "wall": time.perf_counter(),
            "server": procs.cpu_s(self.servers),
            "database": procs.cpu_s(self.target.database_pids(), with_reaped=True),
            "bench": usage.ru_utime + usage.ru_stime,
            **system_counters(),
            **disk_counters(self.disk),
        }

    def _sample(self):
        next_pss = 0.0
        while True:
            rss = anon = 0
            for pid in self.servers:
                pages = statm(pid)
                rss += pages[0]
                anon += pages[0] - pages[1]
            self._raise("rss", rss)
            self._raise("anon", anon)
            if time.monotonic() >= next_pss:
                self._raise("pss", sum(map(procs.pss_bytes, self.servers)))
                self._raise("db_pss", sum(map(procs.pss_bytes, self.target.database_pids())))
                next_pss = time.monotonic() + PSS_EVERY_S
            if self.over.wait(MEMORY_EVERY_S):
                return

    def _raise(self, name, value):
        self.peak[name] = max(self.peak[name], value)


def statm(pid):
    """Resident and of those shared bytes of pid."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as text:
            fields = text.read().split()
        return int(fields[1]) * procs.PAGE, int(fields[2]) * procs.PAGE
    except (OSError, IndexError):
        return 0, 0


def system_counters():
    """CPU seconds of the whole machine, guests' and idle time apart."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _, iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    busy = user + nice + system + irq + softirq
    return {"busy": busy / procs.TICKS, "iowait": iowait / procs.TICKS, "steal": steal / procs.TICKS}


def disk_name(folder):
    """The block device below folder as /proc/diskstats names it, or None."""
    device = os.stat(folder).st_dev
    with open("/proc/diskstats", encoding="ascii") as stats:
        for line in stats:
            fields = line.split()
            if (int(fields[0]), int(fields[1])) == (os.major(device), os.minor(device)):
                return fields[2]
    return None


def disk_counters(name):
    if name is None:
        return {}
    with open("/proc/diskstats", encoding="ascii") as stats:
        for line in stats:
            fields = line.split()
            if fields[2] == name:
                return {"disk_read": int(fields[5]) * 512, "disk_written": int(fields[9]) * 512,
                        "disk_busy_s": int(fields[12]) / 1000}
    return {"disk_read": 0, "disk_written": 0, "disk_busy_s": 0.0}


def disk_usage(folder):
    """Bytes below folder as (allocated, length of the files)."""
    allocated = length = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                facts = os.lstat(os.path.join(parent, name))
            except OSError:
                continue
            allocated += facts.st_blocks * 512
            length += facts.st_size
    return allocated, length


def create_cost_us(folder, count=200):
    """Microseconds to create one empty file in folder now.

    ext4 without a journal is 10-50 times slower at this for minutes after many deletions; a row
    measured then says nothing. The files are left for the end of the run.
    """
    probe = os.path.join(folder, f"create-probe-{time.monotonic_ns()}")
    os.mkdir(probe)
    begin = time.perf_counter()
    for i in range(count):
        os.close(os.open(os.path.join(probe, f"{i:04d}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    return (time.perf_counter() - begin) / count * 1e6


def warm(path):
    """Read path once, so that it is in the page cache if it fits."""
    with open(path, "rb", buffering=0) as source:
        buffer = bytearray(4 << 20)
        while source.readinto(buffer):
            pass


def warm_folder(folder):
    """Read every file below folder. The share of their bytes that is in the page cache then: less
    than 1 on a machine that has too little memory. None if it cannot be found out."""
    paths = [os.path.join(parent, n) for parent, _, names in os.walk(folder) for n in names]
    for path in paths:
        warm(path)
    resident = total = 0
    for at in range(0, len(paths), 500):
        argv = ["fincore", "--noheadings", "--bytes", "--output", "RES,SIZE", "--", *paths[at : at + 500]]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        for line in done.stdout.splitlines():
            pages, size = map(int, line.split())
            # Pages are counted whole, and what was only allocated has none.
            resident += min(pages, size)
            total += size
    return resident / total if total else None


def write_rate(folder, size):
    """Bytes a second that the disk below folder takes, in direct writes to files of their own, one
    writer a core, until they are durable. The files are left for the end of the run."""
    writers = os.cpu_count()
    each = max(WRITE_BYTES, size // writers // WRITE_BYTES * WRITE_BYTES)
    handles = []
    for i in range(writers):
        path = os.path.join(folder, f"write-probe-{time.monotonic_ns()}-{i}")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        try:
            handles.append(os.open(path, flags | os.O_DIRECT, 0o644))
        except OSError:
            handles.append(os.open(path, flags, 0o644))
        os.posix_fallocate(handles[-1], 0, each)
    # Memory of whole pages, as direct writes want it, and nothing a disk could squeeze.
    data = mmap.mmap(-1, WRITE_BYTES)
    data.write(os.urandom(WRITE_BYTES))
    os.sync()
    threads = [threading.Thread(target=write_all, args=(h, data, each)) for h in handles]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - begin
    for handle in handles:
        os.close(handle)
    return writers * each / spent


def write_all(handle, data, size):
    for at in range(0, size, WRITE_BYTES):
        os.pwrite(handle, data, at)
    os.fdatasync(handle)


def cool(path):
    """Let the page cache forget path or the files below it, to make room for what is next."""
    paths = [path]
    if os.path.isdir(path):
        paths = [os.path.join(parent, n) for parent, _, names in os.walk(path) for n in names]
    for name in paths:
        try:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
