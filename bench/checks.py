# SPDX-License-Identifier: Apache-2.0
"""Outside of the time: what comes back is what was sent, bit for bit."""

import hashlib
import http.client
import io
import os
import subprocess
import tarfile
import urllib.parse

from targets import Failure

# Of many single files this many are read back.
SAMPLES = 50
PROBLEMS = (Failure, OSError, tarfile.TarError, http.client.HTTPException, ValueError)


def stream_sha256(target, path):
    """Read path through its own small client and hash it."""
    digest = hashlib.sha256()
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=300)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise Failure(f"GET {path} answered {answer.status}")
        while data := answer.read(1 << 20):
            digest.update(data)
    finally:
        connection.close()
    return digest.hexdigest()


def file_sha256(path):
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def content(bench, target, path, name):
    """path holds the bytes of the input name. Also warms what it reads."""
    try:
        found = stream_sha256(target, path)
        problem = "" if found == bench.inputs.sha256(name) else "other bytes came back"
    except PROBLEMS as failure:
        problem = str(failure)
    return bench.check(target, f"content of {name}", problem)


def output(bench, target, argv, name, env=None):
    """What a command writes to its standard output is the input name."""
    digest = hashlib.sha256()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env=env) as child:
        bench.processes.running[child.pid] = child
        while data := child.stdout.read(1 << 20):
            digest.update(data)
    bench.processes.running.pop(child.pid, None)
    problem = f"{argv[0]} ended with {child.returncode}" if child.returncode else ""
    if not problem and digest.hexdigest() != bench.inputs.sha256(name):
        problem = "other bytes came back"
    return bench.check(target, f"content of {name}", problem)


def archive(bench, target, path):
    """The tar that comes back holds every small file."""
    try:
        status, body = target.get(path, timeout=300)
        if status != 200:
            raise Failure(f"answered {status}")
        problem = compare_tar(body, bench.inputs)
    except PROBLEMS as failure:
        problem = str(failure)
    return bench.check(target, "content of the archive", problem)


def compare_tar(body, inputs):
    left = set(inputs.small_paths())
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        for member in tar:
            if not member.isreg():
                continue
            path = member.name.removeprefix("./")
            if path not in left:
                return f"{path} was not asked for"
            left.discard(path)
            with open(os.path.join(inputs.small, path), "rb") as original:
                if tar.extractfile(member).read() != original.read():
                    return f"{path} has other bytes"
    return f"{len(left)} files are missing" if left else ""


def directory(bench, target, folder):
    """folder holds every small file, and no other."""
    try:
        problem = compare_directory(folder, bench.inputs)
    except OSError as failure:
        problem = str(failure)
    return bench.check(target, "content of the directory", problem)


def compare_directory(folder, inputs):
    left = set(inputs.small_paths())
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(parent, name), folder)
            if path not in left:
                return f"{path} was not asked for"
            left.discard(path)
            with open(os.path.join(parent, name), "rb") as mine, \
                    open(os.path.join(inputs.small, path), "rb") as original:
                if mine.read() != original.read():
                    return f"{path} has other bytes"
    return f"{len(left)} files are missing" if left else ""


def singles(bench, target, prefix, count=None):
    """Every n-th of the first count small files comes back as it was."""
    paths = bench.inputs.small_paths()[:count]
    problem = ""
    try:
        for path in paths[:: max(1, len(paths) // SAMPLES)]:
            status, body = target.get(prefix + urllib.parse.quote(path))
            with open(os.path.join(bench.inputs.small, path), "rb") as original:
                if status != 200 or body != original.read():
                    problem = f"{path} answered {status} or other bytes"
                    break
    except PROBLEMS as failure:
        problem = str(failure)
    return bench.check(target, "content of single files", problem)


def slice_of(big, number, sizes):
    """The bytes that sliceload sends as file number: a piece of each half of the file big."""
    half = os.path.getsize(big) // 2
    taken = sum(size - size // 2 for size in (sizes[i % len(sizes)] for i in range(number)))
    size = sizes[number % len(sizes)]
    with open(big, "rb") as source:
        source.seek(taken)
        first = source.read(size // 2)
        source.seek(half + taken)
        return first + source.read(size - size // 2)


def slices(bench, target, prefix, numbers, sizes):
    """These files that sliceload sent come back as they were."""
    problem = ""
    try:
        for number in numbers:
            want = hashlib.sha256(slice_of(bench.inputs.big, number, sizes)).hexdigest()
            if stream_sha256(target, f"{prefix}f{number:04d}") != want:
                problem = f"f{number:04d} has other bytes"
                break
    except PROBLEMS as failure:
        problem = str(failure)
    return bench.check(target, "content of parallel uploads", problem)
