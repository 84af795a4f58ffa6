# SPDX-License-Identifier: Apache-2.0
"""Other programs for the same job, on the same inputs in the same run.

Each is used as its manual says, with its own defaults but for two things: no cache that lets it skip
reading a file it has seen, and no encryption where that is a choice. Rows have the names of
Digstore's; small files are given to each as the directory, which none of them takes as a tar.
"""

import os
import shutil
import subprocess
import urllib.request

import checks
import measure
import rows
import targets
from targets import Failure

PACKAGES = ("restic", "rclone", "borgbackup", "casync", "docker-registry")
# Peers are slower than what the other rows are timed for.
PATIENCE = 4


class Peer(targets.Target):
    """A program with a repository in its own folder; perhaps with a server of its own.

    What it can do is a method that gives the command for it, or None if it cannot. Each store is
    asked for once; after it, the others speak of what was stored last.
    """

    commands = ()
    phases = ("big", "small")
    # What of the big file's size a big phase leaves on disk, roughly.
    disk_share = 0.8
    ready_path = "/"
    ready_status = 200

    def __init__(self, processes, folder):
        super().__init__(processes, folder)
        self.repository = os.path.join(folder, "repository")
        self.env = {**os.environ, "HOME": folder, "XDG_CACHE_HOME": os.path.join(folder, "cache")}
        self.digests = {}
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

    def content_folder(self):
        return self.repository

    def quiet(self, argv):
        """Preparation, outside of every row."""
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise Failure(f"{' '.join(argv)}: {done.stderr.strip()[-400:]}")

    def prepare(self):
        """Create the repository."""

    def store(self, path):
        """Store the file or directory path."""
        raise NotImplementedError

    def fetch(self, path):
        """Write the file path to standard output."""
        return None

    def fetch_file(self, path, out):
        """Write the file path to the new file out; only for those that cannot fetch()."""
        return None

    def fetch_tar(self, path):
        """Write the directory path to standard output, as a tar."""
        return None

    def restore(self, path, out):
        """Make the directory path anew in the empty directory out; and where in it that will be."""
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

    fetch_tar = fetch

    def restore(self, path, out):
        return ["restic", "restore", "--quiet", "latest", "--target", out], out + path


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
        return ["borg", "create", "--files-cache", "disabled", self.archive(), path]

    def archive(self):
        return f"::n{self.count}"

    def fetch(self, path):
        return ["borg", "extract", "--stdout", self.archive(), path.lstrip("/")]

    def fetch_tar(self, path):
        return ["borg", "export-tar", self.archive(), "-"]

    def restore(self, path, out):
        return ["sh", "-c", 'cd "$1" && exec borg extract "$2"', "sh", out, self.archive()], out + path


class Casync(Peer):
    name = "casync"
    commands = ("casync",)
    disk_share = 1.8

    def prepare(self):
        os.makedirs(self.repository)

    def store(self, path):
        self.count += 1
        return ["casync", "make", self.chunks(), self.index(path), path]

    def chunks(self):
        return f"--store={self.repository}/store.castr"

    def index(self, path):
        kind = "caidx" if os.path.isdir(path) else "caibx"
        return os.path.join(self.repository, f"n{self.count}.{kind}")

    def fetch_file(self, path, out):
        return ["casync", "extract", self.chunks(), self.index(path), out]

    def restore(self, path, out):
        return ["casync", "extract", self.chunks(), self.index(path), out], out


class Registry(Peer):
    """docker-registry: whole files named by digest, no chunks. The big file only. A client of it
    would ask first whether the digest is there and send nothing the second time; here it sends."""

    name = "registry"
    commands = ("docker-registry",)
    phases = ("big",)
    disk_share = 2.1
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
        request = urllib.request.Request(self.url("/v2/bench/blobs/uploads/"), method="POST", data=b"")
        with urllib.request.urlopen(request, timeout=60) as answer:
            location = answer.headers["Location"]
        if location.startswith("/"):
            location = self.url(location)
        return ["curl", "-sS", "--fail-with-body", "-o", os.devnull, "-T", path,
                "-H", "Content-Type: application/octet-stream",
                f"{location}{'&' if '?' in location else '?'}digest=sha256:{self.digests[path]}"]

    def fetch(self, path):
        return ["curl", "-sS", "--fail", self.url(f"/v2/bench/blobs/sha256:{self.digests[path]}")]


ALL = {peer.name: peer for peer in (Restic, ResticRest, Borg, Casync, Registry)}


def install(say):
    """Debian's packages of all peers; only when asked to, and only as root."""
    say(f"installing {' '.join(PACKAGES)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], env=env, check=True)


def versions(names):
    """What each says that it is, as a list of text."""
    asks = {"restic": ["restic", "version"], "restic-rest": ["rclone", "version"],
            "borg": ["borg", "--version"], "casync": ["casync", "--version"],
            "registry": ["docker-registry", "--version"]}
    found = []
    for name in names:
        try:
            done = subprocess.run(asks[name], capture_output=True, text=True, timeout=20, check=True)
            found.append(" ".join(done.stdout.split()[:3]).strip(","))
        except (OSError, subprocess.SubprocessError):
            found.append(name)
    return found


def run_phase(bench, repetition, phase, peer):
    """One phase with a peer, in a fresh directory."""
    inputs = bench.inputs
    folder = bench.fresh(phase, peer.name, repetition)
    with peer(bench.processes, folder) as target:
        target.digests = {inputs.big: inputs.sha256("big.bin"), inputs.edited: inputs.sha256("edited.bin")}
        target.prepare()
        PHASES[phase](bench, target, repetition)
    rows.forget(folder)


def big(bench, target, repetition):
    inputs = bench.inputs
    for name in ("first", "again"):
        store_row(bench, target, name, repetition, inputs.big, inputs.size("big.bin"))
    download_row(bench, target, repetition)
    measure.cool(inputs.big)
    store_row(bench, target, "edit", repetition, inputs.edited, inputs.size("edited.bin"))
    measure.cool(inputs.edited)


def small(bench, target, repetition):
    inputs = bench.inputs
    for name in ("archive", "archive-again"):
        store_row(bench, target, name, repetition, inputs.small, inputs.size("small.tar"))
    facts = inputs.manifest["small"]
    if argv := target.fetch_tar(inputs.small):
        with bench.row(target, "archive-get", repetition) as (result, meter):
            result.work_bytes, result.operations = facts["bytes"], facts["count"]
            client(bench, target, meter, argv, facts["bytes"])
    out = os.path.join(target.folder, "restored")
    os.mkdir(out)
    if plan := target.restore(inputs.small, out):
        with bench.row(target, "restore", repetition) as (result, meter):
            result.work_bytes, result.operations = facts["bytes"], facts["count"]
            client(bench, target, meter, plan[0], facts["bytes"])
        checks.directory(bench, target, plan[1])


def store_row(bench, target, name, repetition, path, size):
    warm = None if os.path.isdir(path) else path
    with bench.row(target, name, repetition, warm=warm) as (result, meter):
        result.work_bytes = size
        result.operations = bench.inputs.manifest["small"]["count"]
        client(bench, target, meter, target.store(path), size)


def download_row(bench, target, repetition):
    """The big file, with the repository in the page cache; then once more, to compare it."""
    path, size = bench.inputs.big, bench.inputs.size("big.bin")
    share = measure.warm_folder(target.content_folder())
    out = os.path.join(target.folder, "downloaded")
    argv = target.fetch(path)
    with bench.row(target, "download", repetition) as (result, meter):
        result.work_bytes = size
        result.figures["resident_share"] = share
        client(bench, target, meter, argv or target.fetch_file(path, out), size)
    if argv:
        checks.output(bench, target, argv, "big.bin", target.env)
    else:
        good = os.path.exists(out) and checks.file_sha256(out) == bench.inputs.sha256("big.bin")
        bench.check(target, "content of big.bin", "" if good else "other bytes came back")
        measure.cool(out)


def client(bench, target, meter, argv, size):
    bench.command(meter, argv, size * PATIENCE, env=target.env)


PHASES = {"big": big, "small": small}
