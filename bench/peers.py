# SPDX-License-Identifier: Apache-2.0
"""Other programs for the same job, on the same inputs in the same run (--peers).

Each is used as its manual says, with its own defaults but for two things: no cache that lets it skip
reading a file it has seen, and no encryption where that is a choice. Rows have the names of
Digstore's; small files are given to each as the directory, which none of them takes as a tar.
"""

import os
import shutil
import subprocess
import urllib.request

import measure
import targets
from targets import Failure

PACKAGES = ("restic", "rclone", "borgbackup", "casync", "docker-registry")


class Peer(targets.Target):
    """A program with a repository in its own folder; perhaps with a server of its own."""

    commands = ()
    ready_path = "/"
    ready_status = 200

    def __init__(self, processes, folder):
        super().__init__(processes, folder)
        self.repository = os.path.join(folder, "repository")
        self.env = {**os.environ, "HOME": folder, "XDG_CACHE_HOME": os.path.join(folder, "cache")}
        self.count = 0

    @classmethod
    def available(cls):
        return all(shutil.which(c) for c in cls.commands)

    def start(self):
        """Start its server, if it has one."""

    def wait_ready(self):
        if self.child is not None:
            super().wait_ready()

    def server_pids(self):
        return [] if self.child is None else super().server_pids()

    def alive(self):
        return self.child is None or super().alive()

    def stored(self):
        allocated, length = measure.disk_usage(self.repository)
        return {"blob_disk_bytes": allocated, "blob_file_bytes": length}

    def quiet(self, argv):
        """Preparation, outside of every row."""
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise Failure(f"{' '.join(argv)}: {done.stderr.strip()[-400:]}")

    def prepare(self):
        """Create the repository."""

    def store(self, path):
        """The command that stores the file or directory path."""
        raise NotImplementedError

    def fetch(self, path):
        """The command that writes the big file to standard output; None if there is none."""
        return None


class Restic(Peer):
    name = "restic"
    commands = ("restic",)

    def prepare(self):
        self.env |= {"RESTIC_REPOSITORY": self.location(), "RESTIC_PASSWORD": "bench"}
        self.quiet(["restic", "init"])

    def location(self):
        return self.repository

    def store(self, path):
        return ["restic", "backup", "--quiet", "--force", path]

    def fetch(self, path):
        return ["restic", "dump", "--quiet", "latest", path]


class ResticRest(Restic):
    name = "restic-rest"
    commands = ("restic", "rclone")
    # A repository that is not there yet.
    ready_path = "/config"
    ready_status = 404

    def start(self):
        os.makedirs(self.repository)
        argv = ["rclone", "serve", "restic", "--addr", f"127.0.0.1:{self.port}", self.repository]
        self.child = self.processes.start([shutil.which(argv[0]), *argv[1:]], self.log, self.env)

    def location(self):
        return f"rest:http://127.0.0.1:{self.port}/"


class Borg(Peer):
    name = "borg"
    commands = ("borg",)

    def prepare(self):
        self.env |= {"BORG_REPO": self.repository, "BORG_BASE_DIR": self.folder,
                     "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
                     "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
        self.quiet(["borg", "init", "-e", "none"])

    def store(self, path):
        self.count += 1
        return ["borg", "create", "--files-cache", "disabled", f"::n{self.count}", path]

    def fetch(self, path):
        return ["borg", "extract", "--stdout", f"::n{self.count}", path.lstrip("/")]


class Casync(Peer):
    name = "casync"
    commands = ("casync",)

    def prepare(self):
        os.makedirs(self.repository)

    def store(self, path):
        self.count += 1
        index = f"n{self.count}." + ("caidx" if os.path.isdir(path) else "caibx")
        return ["casync", "make", f"--store={self.repository}/store.castr",
                os.path.join(self.repository, index), path]


class Registry(Peer):
    """docker-registry: whole files named by digest, no chunks. The big file only."""

    name = "registry"
    commands = ("docker-registry",)
    ready_path = "/v2/"

    CONFIG = ("version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {root}}}\n"
              "http: {{addr: '127.0.0.1:{port}'}}\n")

    def start(self):
        os.makedirs(self.repository)
        config = os.path.join(self.folder, "registry.yml")
        with open(config, "w", encoding="utf-8") as out:
            out.write(self.CONFIG.format(root=self.repository, port=self.port))
        argv = [shutil.which("docker-registry"), "serve", config]
        self.child = self.processes.start(argv, self.log, self.env)

    def store(self, path):
        """Open an upload, then give the curl that fills it; the digest is known beforehand."""
        if os.path.isdir(path):
            return None
        request = urllib.request.Request(self.url("/v2/bench/blobs/uploads/"), method="POST", data=b"")
        with urllib.request.urlopen(request, timeout=60) as answer:
            location = answer.headers["Location"]
        if location.startswith("/"):
            location = self.url(location)
        return ["curl", "-sS", "--fail-with-body", "-o", "/dev/null", "-T", path,
                "-H", "Content-Type: application/octet-stream",
                f"{location}{'&' if '?' in location else '?'}digest=sha256:{self.digests[path]}"]

    def fetch(self, path):
        return ["curl", "-sS", "--fail", self.url(f"/v2/bench/blobs/sha256:{self.digests[path]}")]


ALL = (Restic, ResticRest, Borg, Casync, Registry)


def install(say):
    """Debian's packages of all peers; only when asked to, and only as root."""
    say(f"installing {' '.join(PACKAGES)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], env=env, check=True)


def run(bench, phases, repetitions):
    for peer in ALL:
        if not peer.available():
            bench.say(f"{peer.name}: not installed ({' '.join(peer.commands)})")
            continue
        for phase in phases:
            for repetition in range(repetitions[phase]):
                bench.say(f"{phase} {repetition + 1}: {peer.name}")
                try:
                    run_phase(bench, peer, phase, repetition)
                except (Failure, OSError) as problem:
                    bench.failed(peer.name, phase, problem)


def run_phase(bench, peer, phase, repetition):
    inputs = bench.inputs
    folder = bench.fresh(phase, peer.name, repetition)
    with peer(bench.processes, folder) as target:
        target.digests = {inputs.big: inputs.sha256("big.bin"), inputs.edited: inputs.sha256("edited.bin")}
        target.prepare()
        if phase == "big":
            store_row(bench, target, "first", repetition, inputs.big, inputs.size("big.bin"))
            store_row(bench, target, "again", repetition, inputs.big, inputs.size("big.bin"))
            fetch_row(bench, target, repetition)
            measure.cool(inputs.big)
            store_row(bench, target, "edit", repetition, inputs.edited, inputs.size("edited.bin"))
        else:
            for name in ("archive", "archive-again"):
                store_row(bench, target, name, repetition, inputs.small, inputs.size("small.tar"))
    os.sync()
    measure.cool(folder)


def store_row(bench, target, name, repetition, path, size):
    argv = target.store(path)
    if argv is None:
        return
    warm = None if os.path.isdir(path) else path
    with bench.row(target, name, repetition, warm=warm) as (result, meter):
        result.work_bytes = size
        command(bench, target, meter, argv, size)


def fetch_row(bench, target, repetition):
    inputs = bench.inputs
    argv = target.fetch(inputs.big)
    if argv is None:
        return
    with bench.row(target, "download", repetition) as (result, meter):
        result.work_bytes = inputs.size("big.bin")
        command(bench, target, meter, argv, result.work_bytes)


def command(bench, target, meter, argv, size):
    # Peers are slower than what the other rows are timed for.
    timeout = bench.options.timeout or bench.timeout_s(size) * 4
    errors = os.path.join(target.folder, "stderr")
    with open(errors, "wb") as err:
        done = meter.ran(bench.processes.run(argv, timeout, stderr=err, env=target.env))
    if done.timed_out or done.code != 0:
        why = "time is over" if done.timed_out else f"ended with {done.code}"
        raise Failure(f"{argv[0]} {why}: {targets.tail(errors, 5).strip()}")
