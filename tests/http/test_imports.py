# SPDX-License-Identifier: Apache-2.0
"""Imports: directories of the server's machine become staged files or a commit, all or nothing."""

import os
import pathlib
import pwd
import shutil
import socket
import threading

import pytest

from client import Client, Repo, wait_until
from conftest import fresh_name
from digstore_server import SERVER_USER, Server, make_folder, open_to_server_user

ENDED = ("done", "failed", "cancelled", "interrupted")


class Source:
    """A folder that a server may import from, and one beside it."""

    def __init__(self):
        self.top = make_folder()
        self.root = self.top / "root"
        self.root.mkdir()
        (self.top / "beside").mkdir()
        (self.top / "beside" / "secret").write_bytes(b"not yours")

    def make(self, name, files):
        """A directory below the root; files: path -> bytes."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            at = folder / path
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(data)
        return folder

    def close(self):
        shutil.rmtree(self.top, ignore_errors=True)


@pytest.fixture(scope="module")
def source():
    s = Source()
    yield s
    s.close()


@pytest.fixture(scope="module")
def import_server(source):
    with Server(environment={"DIGSTORE_IMPORT_ROOTS": str(source.root)}) as s:
        yield s.start()


@pytest.fixture
def client(import_server, contract):
    return Client(import_server, contract)


@pytest.fixture
def folder(source, request):
    """A fresh directory below the root, by name."""
    return lambda files, name=None: source.make(name or fresh_name(request), files)


def start(repo, path, **body):
    answer = repo.client.post_json(f"{repo.base}/imports", {"path": str(path), **body})
    assert answer.status == 202, answer
    state = answer.json()
    assert answer.header("Location") == f"{repo.base}/imports/{state['id']}"
    assert answer.header("Digstore-Stage") == state["stage"]
    return state


def look(repo, state):
    answer = repo.client.get(f"{repo.base}/imports/{state['id']}")
    assert answer.status == 200, answer
    return answer.json()


def ended(repo, state):
    return wait_until(lambda: (s := look(repo, state))["state"] in ENDED and s, 60, 0.01)


def imported(repo, path, **body):
    """Import and wait; it must be done."""
    state = ended(repo, start(repo, path, **body))
    assert state["state"] == "done", state
    return state


def refused(repo, path, **body):
    answer = repo.client.post_json(f"{repo.base}/imports", {"path": str(path), **body})
    assert answer.status >= 400, answer
    return answer


# ---- what becomes of a tree


TREE = {
    "readme.txt": b"hello\n",
    "src/main.c": b"int main(void) { return 0; }\n" * 50,
    "src/empty": b"",
    "data/big.bin": bytes(range(256)) * 30000,
    "ümläut/日本.txt": "grüße".encode(),
}


def test_a_tree_becomes_a_commit(client, repo, folder):
    path = folder(TREE)
    state = imported(repo, path, ref="main", message="from disk", author="me", metadata={"n": "1"})
    assert {p: repo.read("main", p) for p in repo.files("main")} == TREE
    total = sum(map(len, TREE.values()))
    assert state["found"]["files"] == state["read"]["files"] == len(TREE)
    assert state["found"]["bytes"] == state["read"]["bytes"] == total
    assert state["found"]["directories"] == 4
    assert (state["found"]["small"]["files"], state["found"]["large"]["files"]) == (4, 1)
    assert (state["skipped"], state["failed"], state["report"]) == (0, 0, [])
    assert (state["percent"], state["phase"], state["problem"]) == (100, None, None)
    assert state["receipt"]["logical_bytes"] == total
    commit = client.get(f"{repo.base}/commits/{state['commit']}").json()
    assert (commit["message"], commit["author"]) == ("from disk", "me")
    assert (commit["metadata"], commit["files"]) == ({"n": "1"}, len(TREE))
    assert commit["receipt"]["logical_bytes"] == total
    assert client.get(repo.stage(state["stage"])).json()["commit"] == state["commit"]


def test_a_tree_is_staged_below_a_prefix(client, repo, folder):
    repo.put("s", "kept", b"k")
    repo.put("s", "a/b/readme.txt", b"old")
    path = folder(TREE)
    for prefix in ("a/b", "a/b/"):
        state = imported(repo, path, stage="s", prefix=prefix)
        assert (state["stage"], state["ref"], state["commit"]) == ("s", None, None)
        staged = repo.staged("s")
        assert set(staged) == {"kept", *(f"a/b/{p}" for p in TREE)}
        assert client.get(repo.stage_file("s", "a/b/readme.txt")).body == b"hello\n"
    assert state["receipt"]["new_bytes"] == 0
    assert repo.commit("s")["files"] == len(TREE) + 1


def test_modes_and_times_are_kept(repo, folder):
    path = folder({"script": b"x", "plain": b"x", "setuid": b"x"})
    for name, mode in (("script", 0o755), ("plain", 0o644), ("setuid", 0o4755)):
        os.utime(path / name, ns=(0, 1_700_000_000_123_456_789))
        os.chmod(path / name, mode)
    imported(repo, path, stage="s")
    staged = repo.staged("s")
    assert {p: e["mode"] for p, e in staged.items()} == {
        "script": "0755",
        "plain": "0644",
        "setuid": "0755",
    }
    assert staged["plain"]["mtime"] == "2023-11-14T22:13:20.123456789Z"


def test_the_same_tree_again_costs_nothing(repo, folder, noise):
    path = folder({f"d{i % 7}/f{i}": noise(i * 10, i) for i in range(500)})
    first = imported(repo, path, ref="main")
    again = imported(repo, path, ref="main")
    assert first["receipt"]["new_bytes"] == first["found"]["bytes"]
    assert again["receipt"]["new_bytes"] == 0


def test_replace_and_expected_parent(repo, folder):
    imported(repo, folder({"a": b"1"}), ref="main", expected_parent=None)
    late = ended(repo, start(repo, folder({"b": b"2"}), ref="main", expected_parent=None))
    assert late["state"] == "failed"
    assert late["problem"]["type"] == "urn:digstore:problem:parent-mismatch"
    imported(repo, folder({"b": b"2"}), ref="main", mode="merge")
    assert set(repo.files("main")) == {"a", "b"}
    imported(repo, folder({"c": b"3"}), ref="main", mode="replace")
    assert set(repo.files("main")) == {"c"}


def test_nothing_stays_of_a_commit_that_cannot_be_made(client, repo, folder):
    repo.push("main", {"a": b"file"})
    state = ended(repo, start(repo, folder({"x": b"1"}), ref="main", prefix="a"))
    assert state["state"] == "failed"
    assert state["problem"]["type"] == "urn:digstore:problem:path-conflict"
    assert client.get(repo.stage(state["stage"])).status == 404
    assert set(repo.files("main")) == {"a"}


def test_an_empty_directory(repo, folder):
    path = folder({})
    (path / "nothing" / "in" / "here").mkdir(parents=True)
    state = imported(repo, path, stage="s")
    assert (state["found"]["directories"], state["found"]["files"]) == (4, 0)
    state = ended(repo, start(repo, path, ref="main"))
    assert state["problem"]["type"] == "urn:digstore:problem:stage-empty"


# ---- where from


def test_without_roots_nothing_is_imported(server, contract, request, folder):
    repo = Repo(Client(server, contract), fresh_name(request))
    answer = refused(repo, folder({"a": b"1"}), ref="main")
    assert (answer.status, answer.kind) == (403, "import-denied")
    assert "import_roots" in answer.json()["detail"]
    assert repo.client.get(repo.base).status == 404


@pytest.mark.parametrize("path", ["/etc", "/", "/tmp", "BESIDE", "ROOTx", "AROUND"])
def test_outside_of_the_roots(repo, source, path):
    if path == "AROUND":
        link = source.root / "around"
        if not link.is_symlink():
            link.symlink_to("../beside")
        path = str(link)
    path = path.replace("BESIDE", str(source.top / "beside")).replace("ROOT", str(source.root))
    answer = refused(repo, path, ref="main")
    assert (answer.status, answer.kind) == (403, "import-denied")


@pytest.mark.parametrize(
    "path", ["", "relative", "./x", "ROOT/../beside", "ROOT/..", "ROOT/./x", "ROOT//x", "ROOT/x\0"]
)
def test_paths_of_wrong_form(repo, source, path):
    answer = refused(repo, path.replace("ROOT", str(source.root)), ref="main")
    assert answer.status == 400
    assert answer.kind in ("invalid-field", "invalid-json")


def test_what_is_no_directory(repo, source, folder):
    path = folder({"file": b"x"})
    answer = refused(repo, path / "none", ref="main")
    assert (answer.status, answer.kind) == (404, "path-not-found")
    assert answer.json()["path"] == str(path / "none")
    answer = refused(repo, path / "file", ref="main")
    assert (answer.status, answer.kind, answer.json()["field"]) == (400, "invalid-field", "path")


@pytest.mark.root
def test_what_the_server_may_not_read(repo, folder):
    path = folder({"closed/x": b"1", "open": b"2"})
    os.chmod(path / "closed", 0o700)
    answer = refused(repo, path / "closed", ref="main")
    assert (answer.status, answer.kind) == (403, "import-denied")
    state = ended(repo, start(repo, path, stage="s"))
    assert (state["state"], state["failed"]) == ("failed", 1)
    assert state["report"] == [{"path": "closed", "reason": "permission-denied"}]
    assert state["problem"]["type"] == "urn:digstore:problem:import-incomplete"
    assert state["read"] == {"files": 0, "bytes": 0}
    assert repo.staged("s") == {}
    state = imported(repo, path, stage="s", on_error="skip")
    assert (state["failed"], set(repo.staged("s"))) == (1, {"open"})


@pytest.mark.parametrize(
    "body, field",
    [
        ({}, "path"),
        ({"path": "ROOT"}, "ref"),
        ({"path": "ROOT", "ref": "main", "stage": "s"}, "ref"),
        ({"path": "ROOT", "stage": "s", "message": "m"}, "message"),
        ({"path": "ROOT", "stage": "s", "mode": "merge"}, "mode"),
        ({"path": "ROOT", "stage": "s", "expected_parent": None}, "expected_parent"),
        ({"path": "ROOT", "ref": "main", "mode": "overwrite"}, "mode"),
        ({"path": "ROOT", "ref": "main", "on_error": "ignore"}, "on_error"),
        ({"path": "ROOT", "ref": "main", "special": "follow"}, "special"),
        ({"path": 7, "ref": "main"}, "path"),
        ({"path": "ROOT", "ref": "..", "x": 1}, "x"),
        ({"path": "ROOT", "ref": ".."}, "ref"),
        ({"path": "ROOT", "stage": "a/b"}, "stage"),
        ({"path": "ROOT", "ref": "main", "prefix": "../x"}, "prefix"),
        ({"path": "ROOT", "ref": "main", "prefix": "/"}, "prefix"),
    ],
)
def test_bodies_of_wrong_form(client, repo, source, body, field):
    if body.get("path") == "ROOT":
        body = {**body, "path": str(source.root)}
    answer = client.post_json(f"{repo.base}/imports", body)
    assert answer.status == 400
    assert answer.json()["field"] == field
    assert client.get(repo.base).status == 404, "nothing was made on the way"


def test_body_must_be_there(client, repo):
    assert client.post(f"{repo.base}/imports").status == 400


# ---- what cannot be taken


def test_special_things_are_refused_before_anything_is_read(repo, folder):
    path = folder({"a": b"1"})
    (path / "link").symlink_to("a")
    (path / "out").symlink_to("/etc/passwd")
    os.mkfifo(path / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path / "socket"))
    state = ended(repo, start(repo, path, stage="s"))
    assert (state["state"], state["skipped"], state["failed"]) == ("failed", 4, 0)
    assert state["problem"]["type"] == "urn:digstore:problem:import-incomplete"
    assert {t["path"]: t["reason"] for t in state["report"]} == {
        "link": "symlink",
        "out": "symlink",
        "fifo": "fifo",
        "socket": "socket",
    }
    assert state["read"]["bytes"] == 0
    state = imported(repo, path, stage="s", special="skip")
    assert (state["skipped"], set(repo.staged("s"))) == (4, {"a"})


def test_names_that_are_no_paths(repo, folder):
    path = folder({"a": b"1"})
    for name in (b"\xff\xfe", b"new\nline", b"back\\slash"):
        with open(os.path.join(os.fsencode(path), name), "wb"):
            pass
    state = ended(repo, start(repo, path, ref="main"))
    assert (state["state"], state["failed"]) == ("failed", 3)
    state = imported(repo, path, ref="main", on_error="skip")
    assert {t["path"] for t in state["report"]} == {"??", "new\nline", "back\\slash"}
    assert {t["reason"] for t in state["report"]} == {"invalid-path"}
    assert set(repo.files("main")) == {"a"}


def test_a_long_report_is_cut(repo, folder):
    path = folder({})
    for i in range(150):
        (path / f"l{i}").symlink_to("x")
    state = imported(repo, path, stage="s", special="skip")
    assert (state["skipped"], len(state["report"])) == (150, 100)


# ---- while it runs


class Slow:
    """A tree that takes a while to import."""

    def __init__(self, folder, noise, files=40):
        block = noise(1_000_000)
        self.path = folder({})
        self.bytes = files * 4 * (len(block) + 2)
        for i in range(files):
            with open(self.path / f"f{i}", "wb") as out:
                for k in range(4):
                    out.write(bytes([i, k]) + block)


def endless(folder):
    """A tree that no test lives to see imported: a file of which nothing is on disk."""
    path = folder({})
    with open(path / "hole", "wb") as out:
        out.truncate(1 << 40)
    return path


def test_progress_is_seen_in_the_job_and_the_stage(client, repo, folder, noise):
    slow = Slow(folder, noise)
    state = start(repo, slow.path, ref="main")
    phases, percents, stage_phases = [], [], []
    while state["state"] in ("waiting", "running"):
        progress = client.get(f"{repo.stage(state['stage'])}/progress")
        if progress.status == 200 and progress.json()["uploads"]:
            seen = progress.json()
            stage_phases.append(seen["phase"])
            assert seen["uploads"][0]["path"] == "import"
            assert seen["bottleneck"] != "client"
            if seen["phase"] == "processing":
                assert seen["workload"] == "few_large"
                assert seen["files"]["total"] == 40
                assert seen["bytes"]["total"] == slow.bytes
        state = look(repo, state)
        if state["state"] == "running":
            phases.append(state["phase"])
            percents.append(state["percent"] or 0)
    assert state["state"] == "done", state
    order = ["analyzing", "processing", "finalizing"]
    assert [order.index(p) for p in phases] == sorted(order.index(p) for p in phases)
    assert percents == sorted(percents)
    assert "processing" in phases and "processing" in stage_phases
    final = client.get(f"{repo.stage(state['stage'])}/progress").json()
    assert (final["state"], final["percent"]) == ("committed", 100)
    assert final["bytes"]["received"] == final["bytes"]["durable"] == state["found"]["bytes"]


def cancel(repo, state):
    answer = repo.client.delete(f"{repo.base}/imports/{state['id']}")
    assert answer.status == 202, answer
    return ended(repo, state)


def test_others_may_not_commit_or_drop_meanwhile(client, repo, folder):
    state = start(repo, endless(folder), stage="s")
    for answer in (
        client.post_json(f"{repo.stage('s')}/commit", {}),
        client.delete(repo.stage("s")),
        client.delete(repo.base),
    ):
        assert (answer.status, answer.kind) == (409, "stage-busy")
    assert cancel(repo, state)["state"] == "cancelled"
    assert client.delete(repo.stage("s")).status == 204


@pytest.mark.parametrize("target", ["ref", "stage"])
def test_cancelled(client, repo, folder, target):
    path = endless(folder)
    repo.put("s", "kept", b"k")
    state = start(repo, path, **{target: {"ref": "main", "stage": "s"}[target]})
    wait_until(lambda: look(repo, state)["read"]["bytes"] > 0)
    state = cancel(repo, state)
    assert (state["state"], state["commit"], state["receipt"]) == ("cancelled", None, None)
    assert set(repo.staged("s")) == {"kept"}
    if target == "ref":
        assert client.get(repo.ref("main")).status == 404
        assert client.get(repo.stage(state["stage"])).status == 404
    assert client.delete(f"{repo.base}/imports/{state['id']}").status == 204
    assert client.get(f"{repo.base}/imports/{state['id']}").status == 404
    assert client.delete(f"{repo.base}/imports/{state['id']}").status == 404
    # the stage is as free as before
    (path / "hole").unlink()
    (path / "small").write_bytes(b"x")
    imported(repo, path, stage="s")
    assert set(repo.staged("s")) == {"kept", "small"}


def test_two_at_once_and_more_in_line(client, repo, folder, noise):
    slow = Slow(folder, noise, files=5)
    long = [start(repo, endless(folder), stage=f"long{i}") for i in range(2)]
    states = [start(repo, slow.path, stage=f"s{i}") for i in range(5)]
    wait_until(lambda: all(look(repo, s)["state"] == "running" for s in long))
    assert {look(repo, s)["state"] for s in states} == {"waiting"}
    waiting = states[2]
    assert cancel(repo, waiting)["started_at"] is None
    states.remove(waiting)
    for state in long:
        cancel(repo, state)
    for state in states:
        assert ended(repo, state)["state"] == "done"
    listed = client.all_items(f"{repo.base}/imports", limit=2)
    numbers = [int(i["id"]) for i in listed]
    assert len(numbers) == 7 and numbers == sorted(numbers, reverse=True)
    assert "report" not in listed[0]
    assert [i["state"] for i in listed].count("cancelled") == 3


def test_the_line_has_an_end(client, repo, folder, contract):
    path = endless(folder)
    limits = contract.limits
    running = [start(repo, path, stage=f"r{i}") for i in range(limits["imports_running_max"])]
    wait_until(lambda: all(look(repo, s)["state"] == "running" for s in running))
    waiting = [start(repo, path, ref=f"w{i}") for i in range(limits["imports_waiting_max"])]
    full = refused(repo, path, ref="x")
    assert (full.status, full.kind) == (503, "overloaded")
    assert full.header("Retry-After")
    assert len(client.all_items(f"{repo.base}/stages")) == len(running) + len(waiting)
    cancel(repo, waiting.pop())
    waiting.append(start(repo, path, ref="x"))
    for state in waiting + running:
        assert cancel(repo, state)["state"] == "cancelled"


def test_a_tree_that_changes_is_taken_as_it_is_or_not_at_all(repo, folder, noise):
    """Files are rewritten, truncated, removed and made while the import reads: whatever it takes
    is a whole version of a file."""
    versions = [bytes([v]) * 300_000 for v in range(4)]
    path = folder({f"f{i}": versions[0] for i in range(60)})
    calm = threading.Event()

    def churn():
        n = 0
        while not calm.is_set():
            n += 1
            at = path / f"f{n * 7 % 60}"
            if n % 5 == 0:
                at.unlink(missing_ok=True)
            elif n % 5 == 1:
                os.truncate(at, 1000) if at.exists() else None
            else:
                at.write_bytes(versions[n % 4])

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5):
            state = imported(repo, path, stage="s", on_error="skip")
            assert {t["reason"] for t in state["report"]} <= {"changed", "vanished"}
    finally:
        calm.set()
        thread.join()
    allowed = {v for v in versions} | {versions[i][:1000] for i in range(4)} | {b""}
    for name in repo.staged("s"):
        data = repo.client.get(repo.stage_file("s", name)).body
        # a file that was caught between two writes of its author is a prefix of one
        assert data in allowed or any(v.startswith(data) for v in versions)


# ---- limits and names


def test_limits(contract, request, source, folder):
    files = {f"f{i}": b"12345" for i in range(10)}
    path = folder(files)
    settings = {
        "DIGSTORE_IMPORT_ROOTS": str(source.root),
        "DIGSTORE_IMPORT_ENTRIES_MAX": "10",
        "DIGSTORE_IMPORT_BYTES_MAX": "50",
    }
    with Server(environment=settings) as server:
        repo = Repo(Client(server.start(), contract), fresh_name(request))
        imported(repo, path, stage="s")
        (path / "g").mkdir()
        state = ended(repo, start(repo, path, stage="t"))
        assert state["problem"]["type"] == "urn:digstore:problem:import-too-large"
        (path / "g").rmdir()
        (path / "f0").write_bytes(b"123456")
        state = ended(repo, start(repo, path, stage="t"))
        assert state["problem"]["type"] == "urn:digstore:problem:import-too-large"
        assert repo.staged("t") == {}


@pytest.mark.parametrize("name", ["0", "01", "x", "9223372036854775808", "-1", "1x"])
def test_bad_import_names(client, repo, name):
    client.put(repo.base)
    for method in ("GET", "DELETE"):
        answer = client.request(method, f"{repo.base}/imports/{name}")
        assert (answer.status, answer.kind) == (400, "invalid-name")


def test_imports_of_another_repository_are_not_seen(client, repo, folder, request):
    state = imported(repo, folder({"a": b"1"}), stage="s")
    other = Repo(client, fresh_name(request))
    client.put(other.base)
    for method in ("GET", "DELETE"):
        answer = client.request(method, f"{other.base}/imports/{state['id']}")
        assert (answer.status, answer.kind) == (404, "import-not-found")
    assert client.get(f"{other.base}/imports").json()["items"] == []
    assert client.get("/v1/repos/no-such-repo/imports").kind == "repo-not-found"


def test_into_a_stage_that_was_committed(client, repo, folder):
    repo.put("s", "a", b"1")
    commit = repo.commit("s")
    answer = refused(repo, folder({"b": b"2"}), stage="s")
    assert (answer.status, answer.kind) == (409, "stage-committed")
    assert answer.json()["commit"] == commit["id"]


def test_metrics_count_imports(client, repo, folder):
    def metric(name):
        text = client.get("/metrics").body.decode()
        return sum(float(l.split()[-1]) for l in text.splitlines() if l.startswith(name + " "))

    before = metric("digstore_import_files_total")
    imported(repo, folder({"a": b"1", "b": b"2"}), stage="s")
    assert metric("digstore_import_files_total") == before + 2
    assert metric("digstore_imports_running") == 0


# ---- restarts and settings


def server_of(source):
    return Server(environment={"DIGSTORE_IMPORT_ROOTS": str(source.root)})


def test_a_killed_server_tells_what_it_left_behind(contract, request, source, folder):
    path = endless(folder)
    with server_of(source) as server:
        repo = Repo(Client(server.start(), contract), fresh_name(request))
        done = imported(repo, folder({"a": b"1"}, fresh_name(request)), ref="main")
        repo.put("s", "kept", b"k")
        states = [start(repo, path, stage="s"), start(repo, path, ref="other")]
        server.kill()
        server.start()
        for state in states:
            state = look(repo, state)
            assert state["state"] == "interrupted"
            assert (state["found"], state["read"], state["problem"]) == (None, None, None)
            assert state["ended_at"] is not None
        again = look(repo, done)
        assert {k: again[k] for k in again if k != "workload"} == {
            k: done[k] for k in done if k != "workload"
        }
        assert set(repo.staged("s")) == {"kept"}
        assert repo.client.get(repo.ref("other")).status == 404
        imported(repo, folder({"b": b"2"}, fresh_name(request)), stage="s")
        assert repo.commit("s", ref="next")["files"] == 2
        # one that has ended can be forgotten, however it ended
        assert repo.client.delete(f"{repo.base}/imports/{states[0]['id']}").status == 204


def test_a_stopping_server_interrupts(contract, request, source, folder):
    path = endless(folder)
    with server_of(source) as server:
        repo = Repo(Client(server.start(), contract), fresh_name(request))
        states = [start(repo, path, ref=f"r{i}") for i in range(4)]
        wait_until(lambda: look(repo, states[0])["phase"] == "processing")
        server.restart()
        ends = [look(repo, s) for s in states]
        assert {e["state"] for e in ends} == {"interrupted"}
        assert ends[0]["found"]["bytes"] == 1 << 40
        for state in ends:
            assert repo.client.get(repo.stage(state["stage"])).status == 404
        imported(repo, folder({"a": b"1"}, fresh_name(request)), ref="r0")


@pytest.mark.parametrize("bad", ["/no/such/folder", "relative", "/etc/passwd", "/tmp/.."])
def test_roots_are_checked_at_start(bad):
    with Server(environment={"DIGSTORE_IMPORT_ROOTS": bad}) as server:
        process = server.spawn()
        assert process.wait(40) != 0
        assert "DIGSTORE_IMPORT_ROOTS" in server.log()
        server.process = None


def test_the_data_directory_is_no_root():
    with Server() as server:
        server.data.mkdir()
        open_to_server_user(server.data)
        for root in (server.data, server.folder, "/"):
            process = server.spawn(["--import-roots", str(root)])
            assert process.wait(40) != 0
            assert "data directory" in server.log_tail(3)
            server.process = None


@pytest.mark.root
def test_a_root_the_server_may_not_enter(source):
    closed = source.top / "closed"
    closed.mkdir(exist_ok=True)
    os.chmod(closed, 0o700)
    assert pwd.getpwnam(SERVER_USER).pw_uid != closed.stat().st_uid
    with Server(environment={"DIGSTORE_IMPORT_ROOTS": str(closed)}) as server:
        process = server.spawn()
        assert process.wait(40) != 0
        assert "may enter" in server.log_tail(3)
        server.process = None


def test_roots_from_a_file_name_their_line(tmp_path):
    tmp_path.chmod(0o755)
    path = pathlib.Path(tmp_path) / "digstore.ini"
    path.write_text("# imports\n[imports]\nimport_roots = /tmp, /no/such/folder\n")
    with Server() as server:
        process = server.spawn(["--config", str(path)])
        assert process.wait(30) != 0
        assert f"{path}:3" in server.log()
        server.process = None
