# SPDX-License-Identifier: Apache-2.0
"""The world breaks: full disk, dead or frozen database, rotten packs, more uploads than memory.

Writes are refused with 507 or 503, nothing that was answered is lost, and the server goes on by
itself when the cause is gone.
"""

import concurrent.futures
import contextlib
import http.client
import os
import signal
import subprocess
import time

import pytest

from client import Client, Repo, sha256, wait_until
from digstore_server import Server, make_folder, open_to_server_user


def answers(client, call, wanted, seconds=30):
    """Call until the status is wanted; how it was answered then."""

    def probe():
        try:
            answer = call()
        except (OSError, http.client.HTTPException):
            return None
        return answer if answer.status in wanted else None

    return wait_until(probe, seconds, 0.2)


# ---- disk


@pytest.fixture
def small_disk():
    """A folder on a file system of 420 MB."""
    folder = make_folder()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=420m,mode=0755", "tmpfs", folder], check=True
    )
    try:
        open_to_server_user(folder)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def fill(folder, leave_bytes):
    """Take all but leave_bytes of the free space."""
    filler = folder / "filler"
    disk = os.statvfs(folder)
    with open(filler, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, max(1, disk.f_bavail * disk.f_frsize - leave_bytes))
    return filler


@pytest.mark.root
def test_full_disk(small_disk, contract, noise):
    with Server(folder=small_disk) as server:
        server.start()
        client = Client(server, contract)
        repo = Repo(client, "full")
        old = noise(3_000_000)
        repo.push("main", {"old": old})
        repo.put("s", "staged", b"staged")
        filler = fill(small_disk, 16 * 1024 * 1024)
        data = noise(200_000_000, 1)
        for target in (repo.stage_file("s", "new"), repo.tree_file("main", "new")):
            full = client.put(target, data)
            assert full.status == 507, full
            assert full.kind == "disk-full"
        assert sha256(repo.read("main", "old")) == sha256(old)
        assert client.get(repo.stage_file("s", "staged")).body == b"staged"
        assert list(repo.staged("s")) == ["staged"]
        assert server.process.poll() is None
        filler.unlink()
        answers(
            client, lambda: client.put(repo.stage_file("s", "new"), data[:20_000_000]), (200, 201)
        )
        assert sha256(client.get(repo.stage_file("s", "new")).body) == sha256(data[:20_000_000])
        repo.commit("s")
        assert sorted(repo.files("main")) == ["new", "old", "staged"]
        server.restart()
        assert sha256(repo.read("main", "old")) == sha256(old)
        server.stop()


@pytest.mark.root
def test_many_open_packs_on_a_small_disk(small_disk, contract, noise):
    """An open pack holds space that nobody has written to: ten times 64 MiB would not fit."""
    with Server(folder=small_disk, environment={"DIGSTORE_INGEST_THREADS": "8"}) as server:
        server.start()
        client = Client(server, contract)
        data = noise(1_000_000)
        for n in range(10):
            Repo(client, f"r{n}").push("main", {"f": data})
        for n in range(10):
            assert sha256(Repo(client, f"r{n}").read("main", "f")) == sha256(data)
        server.stop()


# ---- database


@contextlib.contextmanager
def frozen(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_frozen_database(own_server, own_client, own_repo):
    client, repo = own_client, own_repo
    repo.push("main", {"f": b"x"})
    with frozen(own_server.database_processes()):
        begin = time.monotonic()
        away = client.put(repo.stage_file("s", "g"), b"y")
        assert (away.status, away.kind) == (503, "database-unavailable")
        assert int(away.header("Retry-After")) >= 1
        assert time.monotonic() - begin < 30
        assert client.get("/healthz").status == 200
        assert wait_until(lambda: own_server.ready() == 503)
        not_ready = client.get("/readyz")
        assert [c["name"] for c in not_ready.json()["checks"] if not c["ok"]] == ["database"]
    answers(client, lambda: client.put(repo.stage_file("s", "g"), b"y"), (200, 201))
    assert client.get(repo.stage_file("s", "g")).body == b"y"
    assert repo.read("main", "f") == b"x"
    assert wait_until(lambda: own_server.ready() == 200)


def test_killed_database_comes_back(own_server, own_client, own_repo, noise):
    client, repo = own_client, own_repo
    repo.push("main", {"f": b"x"})
    acknowledged = {}
    for turn in range(2):
        os.kill(own_server.postmaster(), signal.SIGKILL)
        for i in range(10):
            path, data = f"t{turn}/f{i}", noise(10_000, turn * 100 + i)
            answer = client.put(repo.stage_file("s", path), data)
            assert answer.status in (201, 503), answer
            if answer.status == 201:
                acknowledged[path] = sha256(data)
            else:
                assert answer.kind == "database-unavailable"
                assert answer.header("Retry-After")
        answers(client, lambda: client.put(repo.stage_file("s", f"after{turn}"), b"y"), (200, 201))
    staged = repo.staged("s")
    assert {p: "chunk:" + h for p, h in acknowledged.items()}.items() <= {
        p: e["file_id"] for p, e in staged.items()
    }.items()
    assert repo.read("main", "f") == b"x"
    assert repo.commit("s")["files"] == len(staged) + 1


def test_killed_backends_are_replaced(own_server, own_client, own_repo):
    client, repo = own_client, own_repo
    repo.push("main", {"f": b"x"})
    postmaster = own_server.postmaster()
    for pid in own_server.database_processes():
        if pid != postmaster and "digstore" in command_line(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    answers(client, lambda: client.put(repo.stage_file("s", "g"), b"y"), (200, 201))
    assert repo.read("main", "f") == b"x"


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().decode("utf-8", "replace")
    except OSError:
        return ""


# ---- packs


def damage(server, needle):
    """Flip a bit in every pack where needle (raw, incompressible bytes) is stored."""
    hits = 0
    for pack in server.data.glob("blobs/*/*.pack"):
        data = pack.read_bytes()
        at = data.find(needle)
        if at >= 0:
            hits += 1
            mode = pack.stat().st_mode
            pack.chmod(0o600)
            with open(pack, "r+b") as f:
                f.seek(at + len(needle) // 2)
                f.write(bytes([data[at + len(needle) // 2] ^ 1]))
            pack.chmod(mode & 0o777)
    return hits


def test_rotten_chunk_is_never_served_and_heals(own_server, own_client, own_repo, noise):
    client, repo = own_client, own_repo
    good, bad = noise(500_000, 1), noise(700_000, 2)
    repo.push("main", {"good": good, "bad": bad})
    own_server.stop()
    assert damage(own_server, bad[350_000:350_128]) == 1
    own_server.start()
    assert repo.read("main", "good") == good
    for headers in ({}, {"Range": "bytes=340000-360000"}):
        try:
            answer = client.get(repo.tree_file("main", "bad"), headers=headers, check=False)
            assert answer.status == 500, answer.status
            assert answer.kind == "corrupt-data"
        except (http.client.IncompleteRead, ConnectionError):
            pass  # the head was out already: the answer is cut
    assert repo.put("s", "again", bad)["size"] == len(bad)
    assert repo.read("main", "bad") == bad
    assert own_server.process.poll() is None


# ---- memory


def test_more_uploads_than_memory(client, repo, noise):
    """Far more half-sent uploads than there are buffers: all wait, none fails."""
    data = noise(600_000)
    connections = []
    try:
        for i in range(160):
            connection = client.open()
            connections.append(connection)
            body = data[i:] + data[:i]
            connection.send_head(
                "PUT",
                repo.stage_file("s", f"f{i}"),
                client.head_lines([("Content-Length", str(len(body)))]),
            )
            connection.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.sent = connection.sock.send(body[:300_000])
            connection.sock.setblocking(True)
            connection.sock.settimeout(60)

        def finish(i):
            body = data[i:] + data[:i]
            connections[i].send(body[getattr(connections[i], "sent", 0) :])
            return connections[i].response("PUT").status

        with concurrent.futures.ThreadPoolExecutor(len(connections)) as pool:
            assert set(pool.map(finish, range(len(connections)))) == {201}
    finally:
        for connection in connections:
            connection.close()
    assert len(repo.staged("s")) == 160
