# SPDX-License-Identifier: Apache-2.0
"""The inputs of the benchmark: built once from real system files, then reused.

    big.bin      half a tar of real system files, half random bytes
    edited.bin   big.bin after inserts, overwrites and deletes of 1 % of its bytes
    small/       20,000 small real files, about 145 MB
    small.tar    a tar of small/
    small.list   the paths of small/, one a line
    manifest.json   sizes, digests, where everything came from, and what had to be made up

The choice of files depends only on their paths (a keyed hash), so one machine builds the same
inputs each time; another machine builds others, and the manifest says from what.
"""

import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import tarfile

VERSION = 3
BIG_BYTES = 5_000_000_000
EDIT_SHARE = 0.01
EDIT_PLACES = 120
SMALL_FILES = 20_000
SMALL_BYTES = 145_000_000
SMALL_FILE_BYTES_MAX = 65_536
SEED = 20_260_401

# What a Debian system has of its own comes first; the rest is taken only when that is not enough.
ROOTS = ("/usr/lib", "/usr/bin", "/usr/share", "/usr/sbin", "/usr/libexec", "/usr/include")
MORE_ROOTS = ("/usr/local", "/usr/src", "/opt", "/var/lib")

BLOCK = 4 << 20


class Inputs:
    """The built inputs: paths, sizes and digests."""

    def __init__(self, folder, manifest):
        self.folder = folder
        self.manifest = manifest
        self.scale = manifest["scale"]
        self.big = os.path.join(folder, "big.bin")
        self.edited = os.path.join(folder, "edited.bin")
        self.small = os.path.join(folder, "small")
        self.small_tar = os.path.join(folder, "small.tar")
        self.small_list = os.path.join(folder, "small.list")

    def size(self, name):
        return self.manifest["files"][name]["bytes"]

    def sha256(self, name):
        return self.manifest["files"][name]["sha256"]

    def small_paths(self):
        with open(self.small_list, encoding="utf-8") as lines:
            return [line.rstrip("\n") for line in lines]


def build(folder, scale, say):
    """Build the inputs below folder, or take what an earlier run left there."""
    found = load(folder, scale)
    if found is not None:
        say(f"inputs: {folder}, built before")
        return found
    os.makedirs(folder, exist_ok=True)
    needed = int((2 * BIG_BYTES + 3 * SMALL_BYTES) * scale)
    free = shutil.disk_usage(folder).free
    if free < needed * 1.05:
        raise SystemExit(f"bench: {folder} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
    remove_manifest(folder)
    manifest = {"version": VERSION, "scale": scale, "files": {}, "notes": []}
    say("inputs: looking for real files")
    files = find_files(int(BIG_BYTES * scale) // 2)
    say(f"inputs: building {folder} from {len(files):,} files")
    build_big(folder, scale, files, manifest)
    say("inputs: big.bin done")
    build_edited(folder, scale, manifest)
    say("inputs: edited.bin done")
    build_small(folder, scale, files, manifest)
    for note in manifest["notes"]:
        say(f"inputs: NOTE {note}")
    # Written last: a folder with a manifest is complete.
    write_text(os.path.join(folder, "manifest.json"), json.dumps(manifest, indent=1) + "\n")
    return Inputs(folder, manifest)


def load(folder, scale):
    """The inputs that are there, or None if they are not what is asked for."""
    try:
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as text:
            manifest = json.load(text)
        if manifest["version"] != VERSION or manifest["scale"] != scale:
            return None
        for name, facts in manifest["files"].items():
            if os.path.getsize(os.path.join(folder, name)) != facts["bytes"]:
                return None
        inputs = Inputs(folder, manifest)
        total = sum(os.path.getsize(os.path.join(inputs.small, p)) for p in inputs.small_paths())
        return inputs if total == manifest["small"]["bytes"] else None
    except (OSError, ValueError, KeyError):
        return None


def remove_manifest(folder):
    try:
        os.unlink(os.path.join(folder, "manifest.json"))
    except FileNotFoundError:
        pass


def write_text(path, text):
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)


# ---- finding files


def find_files(want_bytes):
    """Real files as (path, size), each inode once, in an order that depends on their paths alone."""
    found = []
    seen = set()
    for roots in (ROOTS, MORE_ROOTS):
        for root in roots:
            for path, facts in walk(root):
                key = (facts.st_dev, facts.st_ino)
                if key not in seen:
                    seen.add(key)
                    found.append((path, facts.st_size))
        if sum(size for _, size in found) > want_bytes * 1.05:
            break
    found.sort(key=lambda f: hashlib.sha256(f"{SEED}:{f[0]}".encode()).digest())
    return found


def walk(root):
    """Readable regular files below root, on its file system, as (path, stat)."""
    if os.path.islink(root) or not os.path.isdir(root):
        return
    device = os.stat(root).st_dev
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if os.lstat(os.path.join(folder, f)).st_dev == device]
        for name in names:
            path = os.path.join(folder, name)
            try:
                facts = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(facts.st_mode) and plain_name(path) and os.access(path, os.R_OK):
                yield path, facts


def plain_name(path):
    """Names that every server, tar and list of lines can carry."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return len(path) < 200 and "\\" not in path and all(ord(c) >= 32 and ord(c) != 127 for c in path)


# ---- the big file


class Sink:
    """A file that ends at a limit, hashes what it takes, and is used by tarfile as its output."""

    def __init__(self, path, limit):
        self.out = open(path, "wb", buffering=1 << 20)
        self.hash = hashlib.sha256()
        self.bytes = 0
        self.limit = limit

    def write(self, data):
        take = data[: max(0, self.limit - self.bytes)]
        self.out.write(take)
        self.hash.update(take)
        self.bytes += len(take)
        return len(data)

    def copy(self, source, length):
        """Take length bytes of an open file; False if it ends earlier."""
        while length > 0:
            data = source.read(min(BLOCK, length))
            if not data:
                return False
            self.write(data)
            length -= len(data)
        return True

    def close(self, manifest, name):
        self.out.close()
        manifest["files"][name] = {"bytes": self.bytes, "sha256": self.hash.hexdigest()}


def build_big(folder, scale, files, manifest):
    total = int(BIG_BYTES * scale)
    half = total // 2
    sink = Sink(os.path.join(folder, "big.bin"), half)
    taken, repeated = write_tar(sink, half, files)
    sink.limit = total
    while sink.bytes < total:
        sink.write(os.urandom(min(BLOCK, total - sink.bytes)))
    sink.close(manifest, "big.bin")
    manifest["big"] = {"tar_bytes": half, "random_bytes": total - half, "tar_files": taken,
                       "repeated_bytes": repeated, "places": {"tar": [0, half], "random": [half, total]}}
    if repeated:
        manifest["notes"].append(
            f"big.bin: this machine has too few real files; {repeated / 1e6:.0f} MB of the tar half "
            "repeat what it holds already, so its deduplication is better than on unique data")


def write_tar(sink, limit, files):
    """Fill sink with a tar of real files, sorted by path as a tar of a directory is."""
    chosen = []
    total = 0
    for path, size in files:
        if total > limit * 1.002:
            break
        if size > limit // 4:
            continue
        chosen.append(path)
        total += 512 + size + -size % 512
    chosen.sort()
    taken = 0
    first_round = None
    while sink.bytes < limit:
        before = sink.bytes
        for path in chosen:
            if sink.bytes >= limit:
                break
            taken += write_tar_member(sink, path)
        if first_round is None:
            first_round = sink.bytes
        if sink.bytes == before:
            raise SystemExit("bench: no readable system files to build the inputs from")
    return taken, limit - first_round


def write_tar_member(sink, path):
    """One file as a tar member. Nothing if it cannot be read; zeros for a tail that vanished."""
    try:
        source = open(path, "rb", buffering=0)
    except OSError:
        return 0
    with source:
        facts = os.fstat(source.fileno())
        info = tarfile.TarInfo(path.lstrip("/"))
        info.size = facts.st_size
        info.mode = stat.S_IMODE(facts.st_mode)
        info.mtime = int(facts.st_mtime)
        sink.write(info.tobuf(tarfile.PAX_FORMAT))
        end = sink.bytes + facts.st_size
        if not sink.copy(source, facts.st_size):
            sink.write(bytes(max(0, end - sink.bytes)))
        sink.write(bytes(-facts.st_size % 512))
    return 1


# ---- the edited file


def plan_edits(total, scale):
    """Sorted places (offset, kind, bytes): 1 % of the bytes, in proportionally many places."""
    chance = random.Random(SEED)
    count = max(4, round(EDIT_PLACES * min(1.0, scale)))
    weights = [chance.uniform(0.2, 1.8) for _ in range(count)]
    sizes = [max(1, int(total * EDIT_SHARE * w / sum(weights))) for w in weights]
    # One place in each stretch of the file, so that no two edits touch.
    stretch = total // count
    plan = []
    for i, size in enumerate(sizes):
        offset = i * stretch + chance.randrange(max(1, stretch - size))
        plan.append((offset, ("insert", "overwrite", "delete")[i % 3], size))
    return plan


def build_edited(folder, scale, manifest):
    total = manifest["files"]["big.bin"]["bytes"]
    plan = plan_edits(total, scale)
    chance = random.Random(SEED + 1)
    sink = Sink(os.path.join(folder, "edited.bin"), 2 * total)
    at = 0
    with open(os.path.join(folder, "big.bin"), "rb", buffering=0) as source:
        for offset, kind, size in plan:
            sink.copy(source, offset - at)
            at = offset
            if kind != "delete":
                sink.write(chance.randbytes(size))
            if kind != "insert":
                at += size
                source.seek(at)
        sink.copy(source, total - at)
    sink.close(manifest, "edited.bin")
    added = sum(size for _, kind, size in plan if kind != "delete")
    manifest["edited"] = {"places": plan, "edited_bytes": sum(p[2] for p in plan), "new_bytes": added}


# ---- the small files


def build_small(folder, scale, files, manifest):
    count = max(20, round(SMALL_FILES * scale))
    total = int(SMALL_BYTES * scale)
    root = os.path.join(folder, "small")
    if os.path.exists(root):
        # Left by a build that did not finish. It is not deleted: that would slow down the creation
        # of files for minutes on some file systems.
        os.rename(root, f"{root}.unfinished.{os.getpid()}")
    os.makedirs(root)
    chosen = choose_small(files, count, total)
    paths, digests, sizes = copy_small(root, chosen)
    if len(paths) < count:
        pieces = cut_pieces(root, files, count - len(paths), total // count)
        manifest["notes"].append(f"small: too few small real files; {len(pieces)} are pieces of larger ones")
        paths += [p for p, _, _ in pieces]
        digests |= {d for _, d, _ in pieces}
        sizes += [s for _, _, s in pieces]
    paths.sort()
    write_text(os.path.join(folder, "small.list"), "".join(p + "\n" for p in paths))
    manifest["small"] = {"count": len(paths), "bytes": sum(sizes), "distinct_contents": len(digests),
                         "largest_bytes": max(sizes)}
    build_small_tar(folder, manifest)


def choose_small(files, count, total):
    """count files of total bytes in all: from those below and above the wanted mean, as many of
    each as the sum needs."""
    mean = total / count
    fitting = [(p, s) for p, s in files if 0 < s <= SMALL_FILE_BYTES_MAX]
    below = [f for f in fitting if f[1] < mean]
    above = [f for f in fitting if f[1] >= mean]
    if not below or not above:
        return fitting[:count]
    mean_below = sum(s for _, s in below) / len(below)
    mean_above = sum(s for _, s in above) / len(above)
    above_count = round((total - count * mean_below) / (mean_above - mean_below))
    above_count = min(len(above), max(0, above_count))
    below_count = min(len(below), count - above_count)
    return below[:below_count] + above[: count - below_count]


def copy_small(root, chosen):
    paths, digests, sizes = [], set(), []
    for path, _ in sorted(chosen):
        try:
            with open(path, "rb") as source:
                data = source.read(SMALL_FILE_BYTES_MAX + 1)
        except OSError:
            continue
        if not 0 < len(data) <= SMALL_FILE_BYTES_MAX:
            continue
        relative = path.lstrip("/")
        put_small(root, relative, data)
        paths.append(relative)
        digests.add(hashlib.sha256(data).digest())
        sizes.append(len(data))
    return paths, digests, sizes


def cut_pieces(root, files, count, size):
    """Pieces of larger real files, never the same piece twice."""
    pieces = []
    for path, length in files:
        if length <= SMALL_FILE_BYTES_MAX:
            continue
        with open(path, "rb") as source:
            for number in range(length // size):
                if len(pieces) == count:
                    return pieces
                data = source.read(size)
                if len(data) < size:
                    break
                relative = f"pieces/{len(pieces) // 500:03d}/{os.path.basename(path)}.{number}"
                if os.path.exists(os.path.join(root, relative)):
                    continue
                put_small(root, relative, data)
                pieces.append((relative, hashlib.sha256(data).digest(), len(data)))
    return pieces


def put_small(root, relative, data):
    target = os.path.join(root, relative)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as out:
        out.write(data)


def build_small_tar(folder, manifest):
    """What `tar c .` makes of the small files."""
    target = os.path.join(folder, "small.tar")
    subprocess.run(["tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-C",
                    os.path.join(folder, "small"), "-cf", target, "."], check=True)
    digest = hashlib.sha256()
    with open(target, "rb") as source:
        while data := source.read(BLOCK):
            digest.update(data)
    manifest["files"]["small.tar"] = {"bytes": os.path.getsize(target), "sha256": digest.hexdigest()}
