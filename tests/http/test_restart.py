# SPDX-License-Identifier: Apache-2.0
"""Stopping, killing and starting again: what was answered with 201 is there."""

import concurrent.futures
import http.client
import signal
import subprocess
import threading
import time

import pytest

from archives import tar
from client import sha256, wait_until
from digstore_server import BINARY, Server, clean_environment


def everything(client, repo):
    answers = [
        client.get(t).json()
        for t in (repo.base, repo.stage("open"), f"{repo.base}/commits", f"{repo.base}/refs")
    ]
    del answers[1]["receipt"]["seconds"]  # an open stage is not done counting
    stored = answers[0]["statistics"].pop("stored_bytes")
    return answers, stored


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_and_start_keeps_everything(own_server, own_client, own_repo, noise, number):
    client, repo = own_client, own_repo
    data = noise(5_000_000)
    commit = repo.push("main", {"big": data, "small": b"x"}, message="m", metadata={"k": "v"})
    repo.put("open", "staged", b"staged")
    client.delete(repo.stage_file("open", "nothing"))
    before, stored = everything(client, repo)
    own_server.stop(number)
    own_server.start()
    after, stored_after = everything(client, repo)
    assert after == before
    assert stored <= stored_after <= stored * 1.01  # packs that were open have footers now
    assert sha256(repo.read("main", "big")) == sha256(data)
    assert client.get(repo.stage_file("open", "staged")).body == b"staged"
    assert repo.put("open", "again", data)["receipt"]["new_bytes"] == 0
    assert repo.commit("open")["parent"] == commit["id"]


def test_second_start_is_quick(own_server):
    own_server.stop()
    begin = time.monotonic()
    own_server.start()
    assert time.monotonic() - begin < 10


def test_kill_loses_nothing_that_was_answered(own_server, own_client, own_repo, noise):
    """Uploads, archives and commits run in parallel; the server is killed in the middle, twice."""
    client, repo = own_client, own_repo
    files, commits = {}, []
    for turn in range(2):
        stop = threading.Event()

        def upload(worker):
            i = 0
            while not stop.is_set() and i < 400:
                data = noise(1 + (worker * 7919 + i * 104729) % 200_000, worker * 1000 + i)
                path = f"t{turn}/w{worker}/f{i}"
                if not attempt(
                    lambda: client.put(repo.stage_file("s", path), data), files, path, sha256(data)
                ):
                    return
                i += 1

        def commit(worker):
            i = 0
            while not stop.is_set() and i < 400:
                done = {}
                name = f"t{turn}-c{i}"
                body = tar({name: name.encode()})
                if not attempt(
                    lambda: client.put(f"{repo.tree('main')}/archive", body), done, name, name
                ):
                    return
                commits.append(name)
                i += 1

        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            work = [pool.submit(upload, w) for w in range(4)] + [pool.submit(commit, 0)]
            time.sleep(1.5 + turn * 0.37)
            own_server.kill()
            stop.set()
            for w in work:
                w.result()
        own_server.start()
        staged = repo.staged("s")
        assert files and commits
        assert not set(files) - set(staged)
        listed = repo.files("main")
        assert not set(commits) - set(listed)
        for path, digest in list(files.items())[-60:]:
            assert sha256(client.get(repo.stage_file("s", path)).body) == digest
        for name in commits[-20:]:
            assert repo.read("main", name) == name.encode()


def attempt(call, done, key, value):
    """Remember key if the call was answered with success; False once the server is gone."""
    try:
        answer = call()
    except (OSError, http.client.HTTPException):
        return False
    assert answer.status in (200, 201), answer
    done[key] = value
    return True


def test_commit_key_holds_over_a_kill(own_server, own_client, own_repo):
    client, repo = own_client, own_repo
    repo.put("s", "f", b"x")
    key = {"Idempotency-Key": "k"}
    first = client.post_json(f"{repo.stage('s')}/commit", {"message": "m"}, headers=key)
    assert first.status == 201
    own_server.kill()
    own_server.start()
    again = client.post_json(f"{repo.stage('s')}/commit", {"message": "m"}, headers=key)
    assert again.status == 201
    assert again.json() == first.json()


def test_stop_lets_a_running_upload_finish(own_server, own_client, own_repo, noise):
    client, repo = own_client, own_repo
    data = noise(2_000_000)
    client.put(repo.base)
    with client.open() as slow:
        slow.send_head(
            "PUT",
            repo.stage_file("s", "f"),
            client.head_lines([("Content-Length", str(len(data)))]),
        )
        slow.send(data[:1_000_000])
        wait_until(lambda: client.get(f"{repo.stage('s')}/progress").status == 200)
        own_server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        slow.send(data[1_000_000:])
        assert slow.response("PUT").status == 201
    assert own_server.process.wait(40) == 0
    own_server.process = None
    own_server.start()
    assert client.get(repo.stage_file("s", "f")).body == data


def test_second_server_on_the_same_data_is_refused(own_server, own_client, own_repo):
    own_repo.push("main", {"f": b"x"})
    second = Server(folder=own_server.folder)
    second.log_path = own_server.folder / "log2"
    process = second.spawn()
    assert process.wait(20) != 0
    assert (
        "lock" in second.log().lower()
        or "in use" in second.log().lower()
        or "another" in second.log().lower()
    )
    second.process = None
    assert own_repo.read("main", "f") == b"x"
    own_repo.push("main", {"g": b"y"})


def test_second_server_on_the_same_port_is_refused(own_server):
    with Server(port=own_server.port) as second:
        process = second.spawn()
        assert process.wait(40) != 0
        assert str(own_server.port) in second.log()
        second.process = None
    assert own_server.ready() == 200


def test_stages_expire_while_the_server_is_down(own_server, own_client, own_repo):
    client, repo = own_client, own_repo
    client.put_json(repo.stage("s"), {"ttl_seconds": 1})
    repo.put("s", "f", b"x")
    own_server.stop()
    time.sleep(1.1)
    own_server.start()
    answer = client.get(repo.stage("s"))
    assert answer.status == 404 or answer.json()["state"] == "expired"


def test_index_can_be_rebuilt_from_the_packs(own_server, own_repo, noise):
    data = noise(3_000_000)
    own_repo.push("main", {"f": data, "g": b"small"})
    own_server.stop()
    environment = {
        **clean_environment(),
        "DIGSTORE_DATA_DIR": str(own_server.data),
        "DIGSTORE_LISTEN": f"127.0.0.1:{own_server.port}",
    }
    done = subprocess.run(
        [BINARY, "--rebuild-index"], env=environment, cwd="/", capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    own_server.start()
    assert own_repo.read("main", "f") == data
    assert own_repo.put("s", "again", data)["receipt"]["new_bytes"] == 0


def test_restart_of_an_empty_server(own_server, own_client):
    own_server.kill()
    own_server.start()
    assert own_client.get("/v1/repos").json() == {"items": [], "next_cursor": None}
