# SPDX-License-Identifier: Apache-2.0
"""Idle recompression: packs get smaller, and nobody who reads or writes notices."""

import concurrent.futures
import random
import re
import threading
import time

import pytest

from archives import tar
from client import Client, Repo, sha256, wait_until
from digstore_server import Server

TARGET = "/v1/admin/recompression"
# Small packs, quick removal, and no recompression but when told to.
SETTINGS = {
    "DIGSTORE_PACK_BYTES": "4MiB",
    "DIGSTORE_RECOMPRESS_LEVEL": "9",
    "DIGSTORE_RECOMPRESS_AFTER": "1d",
    "DIGSTORE_PACK_GRACE": "0",
}


WORDS = [f"{random.Random(i).getrandbits(60):x}" for i in range(4000)]


def text(size, seed):
    """Lines that repeat at a distance, as sources and logs do."""
    pick = random.Random(seed)
    out = []
    total = 0
    while total < size:
        line = f"{pick.choice(WORDS)} = call_{pick.choice(WORDS)}({pick.getrandbits(4)});\n"
        out.append(line)
        total += len(line)
    return "".join(out)[:size].encode()


@pytest.fixture
def own_settings():
    return dict(SETTINGS)


@pytest.fixture
def own_server(own_settings):
    with Server(environment=own_settings) as s:
        s.start()
        yield s


def status(client):
    answer = client.get(TARGET)
    assert answer.status == 200, answer
    assert answer.header("Cache-Control") == "no-store"
    return answer.json()


def control(client, action):
    answer = client.post_json(TARGET, {"action": action})
    assert answer.status == 200, answer
    return answer.json()


def run(client, seconds=90):
    """Do all there is, and wait for the end of it."""
    assert control(client, "run")["run_requested"] is True
    wait_until(lambda: not status(client)["run_requested"], seconds)
    done = status(client)
    assert done["error"] is None
    return done


def statistics(client, repo):
    return client.get(repo.base).json()["statistics"]


def packs(server):
    return {p.name for p in server.data.glob("blobs/*/*.pack")}


def metric(client, name):
    body = client.get("/metrics").body.decode()
    return float(re.search(rf"^{re.escape(name)} ([0-9.]+)$", body, re.MULTILINE)[1])


def wait_for_removal(client):
    wait_until(lambda: status(client)["replaced"]["packs"] == 0, 30)


# ---- what it is for


def test_packs_get_smaller_and_everything_reads_back(
    own_server, own_client, own_repo, noise, contract
):
    client, repo = own_client, own_repo
    files = {f"t{i}": text(1_500_000, i) for i in range(6)}
    files["noise"] = noise(2_000_000)
    files["tiny"] = b"x"
    repo.push("main", files)
    receipt = client.get(f"{repo.base}/commits?ref=main").json()["items"][0]["receipt"]
    own_server.restart()  # seals what is open
    before, old = statistics(client, repo), packs(own_server)
    done = run(client)
    assert done["left"]["packs"] == 0
    assert done["total"]["packs_before"] >= 1
    assert done["total"]["saved_bytes"] > 0
    after = statistics(client, repo)
    assert after["stored_bytes"] < before["stored_bytes"] * 0.9
    assert after["unique_bytes"] == before["unique_bytes"]
    assert after["chunks"] == before["chunks"]
    saved = before["stored_bytes"] - after["stored_bytes"]
    assert done["total"]["bytes_before"] - done["total"]["bytes_after"] == saved
    for path, data in files.items():
        assert repo.read("main", path) == data
    got = client.get(repo.tree_file("main", "t3"), headers={"Range": "bytes=1234567-1234999"})
    assert got.body == files["t3"][1234567:1235000]
    # what uploads cost stays what they cost
    assert client.get(f"{repo.base}/commits?ref=main").json()["items"][0]["receipt"] == receipt
    # dedup goes on as before
    again = repo.put("s", "again", files["t0"])["receipt"]
    assert (again["new_bytes"], again["stored_bytes"]) == (0, 0)
    wait_for_removal(client)
    new = packs(own_server)
    assert len(old - new) == done["total"]["packs_before"]
    assert sum(p.stat().st_size for p in own_server.data.glob("blobs/*/*.pack")) >= 1
    for path, data in files.items():
        assert repo.read("main", path) == data
    # every pack is looked at once, whatever one asks, and over restarts
    own_server.restart()
    total = run(client)["total"]
    assert total == done["total"]
    assert metric(client, "digstore_recompression_packs_total") == 0
    assert metric(client, "digstore_recompression_skipped_total") == 0
    assert metric(client, 'digstore_recompression_state{state="waiting"}') == 1


def test_what_is_open_is_sealed_for_a_run(own_server, own_client, own_repo):
    """No restart, no waiting until packs are closed by themselves."""
    client, repo = own_client, own_repo
    data = text(3_000_000, 1)
    repo.push("main", {"f": data})
    before = statistics(client, repo)["stored_bytes"]
    run(client)
    assert statistics(client, repo)["stored_bytes"] < before * 0.95
    assert repo.read("main", "f") == data


def test_it_runs_by_itself_when_nothing_happens(contract, noise):
    settings = {
        **SETTINGS,
        "DIGSTORE_RECOMPRESS_AFTER": "0",
        "DIGSTORE_RECOMPRESS_IDLE": "200ms",
    }
    with Server(environment=settings) as server:
        server.start()
        client = Client(server, contract)
        repo = Repo(client, "idle")
        data = text(2_500_000, 7)
        repo.push("main", {"f": data, "g": noise(1_000_000)})
        server.restart()
        # watching it does not keep it from working
        wait_until(lambda: status(client)["total"]["packs_before"] > 0, 60)
        wait_until(lambda: status(client)["reason"] == "nothing-to-do", 60)
        assert repo.read("main", "f") == data
        assert re.search(r"info pack_recompressed .*bytes_before=\d+ bytes_after=\d+", server.log())


# ---- being told


def test_pause_holds_until_told_otherwise(own_server, own_client, own_repo):
    client, repo = own_client, own_repo
    repo.push("main", {"f": text(1_000_000, 2)})
    own_server.restart()
    paused = control(client, "pause")
    assert (paused["state"], paused["reason"]) == ("paused", "asked")
    assert status(client)["state"] == "paused"
    assert control(client, "resume")["state"] in ("waiting", "running")
    control(client, "pause")
    assert run(client)["left"]["packs"] == 0
    assert status(client)["state"] != "paused"


def test_off_by_configuration(contract):
    with Server(environment={"DIGSTORE_RECOMPRESS_CPU_PERCENT": "0"}) as server:
        server.start()
        client = Client(server, contract)
        off = status(client)
        assert (off["state"], off["reason"], off["threads"]) == ("off", "disabled", 0)
        for action in ("run", "pause", "resume"):
            refused = client.post_json(TARGET, {"action": action})
            assert (refused.status, refused.kind) == (409, "recompression-off")
        assert metric(client, 'digstore_recompression_state{state="off"}') == 1


@pytest.mark.parametrize(
    "body", [{}, {"action": "stop"}, {"action": 1}, {"action": None}, {"action": "run", "now": 1}]
)
def test_other_actions_are_refused(client, body):
    refused = client.post_json(TARGET, body)
    assert (refused.status, refused.kind) == (400, "invalid-field")
    assert refused.json()["field"] in ("action", "now")


@pytest.mark.parametrize("body", [b"", b"run", b'{"action"', b"[]"])
def test_what_is_no_object_is_refused(client, body):
    refused = client.post(TARGET, body, headers={"Content-Type": "application/json"})
    assert refused.status == 400
    assert refused.kind in ("invalid-json", "invalid-field")


def test_pages_of_others_may_not_control_it(client):
    refused = client.post_json(
        TARGET, {"action": "run"}, headers={"Origin": "http://elsewhere.example"}
    )
    assert (refused.status, refused.kind) == (403, "access-denied")


# ---- meanwhile


def test_uploads_and_downloads_meanwhile(own_server, own_client, own_repo, noise):
    """The same contents go up again and come down while their chunks move, and packs vanish."""
    client, repo = own_client, own_repo
    files = {f"f{i}": text(700_000, i) + noise(100_000, i) for i in range(10)}
    repo.push("main", files)
    own_server.restart()
    stop = threading.Event()
    names = sorted(files)

    def read(worker):
        count = 0
        while not stop.is_set():
            path = names[(count + worker) % len(names)]
            assert repo.read("main", path) == files[path]
            count += 1
        return count

    def write(worker):
        count = 0
        while not stop.is_set():
            path = names[(count * 3 + worker) % len(names)]
            staged = repo.put("s", f"w{worker}-{count}-{path}", files[path])
            assert staged["receipt"]["new_bytes"] == 0
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        work = [pool.submit(f, w) for w in range(2) for f in (read, write)]
        control(client, "run")
        time.sleep(1)  # it cannot get far
        stop.set()
        assert all(w.result() > 0 for w in work)
    run(client)
    wait_for_removal(client)
    for path, data in files.items():
        assert sha256(repo.read("main", path)) == sha256(data)
    assert metric(client, "digstore_read_chunks_bad_total") == 0
    for path in list(repo.staged("s"))[:40]:
        assert client.get(repo.stage_file("s", path)).body == files[path.rpartition("-")[2]]


def test_a_slow_download_outlives_its_packs(own_server, own_client, own_repo):
    """Longer than what is read ahead: the rest comes from the new packs."""
    client, repo = own_client, own_repo
    data = b"".join(text(2_000_000, i) for i in range(12))
    repo.push("main", {"big": data})
    own_server.restart()
    old = packs(own_server)
    with client.open() as connection:
        connection.send_head("GET", repo.tree_file("main", "big"), client.head_lines([]))
        answer = connection.start("GET")
        got = answer.read(1000)
        run(client)
        wait_for_removal(client)
        assert not old & packs(own_server)
        got += answer.read()
    assert sha256(got) == sha256(data)


def test_killed_in_the_middle(own_server, own_client, own_repo, noise):
    client, repo = own_client, own_repo
    files = {f"f{i}": text(1_500_000, i) for i in range(8)}
    files["noise"] = noise(1_000_000)
    repo.push("main", files)
    own_server.restart()
    for turn in range(4):
        control(client, "run")
        time.sleep(0.15 + 0.1 * turn)
        own_server.kill()
        own_server.start()
        for path, data in files.items():
            assert sha256(repo.read("main", path)) == sha256(data)
    run(client)
    wait_for_removal(client)
    for path, data in files.items():
        assert sha256(repo.read("main", path)) == sha256(data)
    stored = sum(p.stat().st_size for p in own_server.data.glob("blobs/*/*.pack"))
    assert stored == statistics(client, repo)["stored_bytes"]


def test_dropped_in_the_middle(own_server, own_client, own_repo):
    client, repo = own_client, own_repo
    other = Repo(client, "other")
    data = text(1_000_000, 99)
    other.push("main", {"f": data})
    repo.push("main", {f"f{i}": text(3_000_000, i) for i in range(6)})
    own_server.restart()
    control(client, "run")
    wait_until(lambda: status(client)["state"] == "running", 20)
    assert client.delete(repo.base).status == 204
    wait_until(lambda: not status(client)["run_requested"], 60)
    kept = statistics(client, other)["packs"]
    wait_until(lambda: len(packs(own_server)) == kept, 30)
    assert other.read("main", "f") == data
    assert client.get(repo.base).status == 404


def test_rebuilding_the_index_with_both_packs_there(own_settings, contract, noise):
    """Old and new packs are on disk: what is smaller stays in use, and the old ones still go."""
    with Server(environment={**own_settings, "DIGSTORE_PACK_GRACE": "1d"}) as server:
        server.start()
        client = Client(server, contract)
        repo = Repo(client, "both")
        files = {f"f{i}": text(1_500_000, i) for i in range(3)}
        repo.push("main", files)
        server.restart()
        run(client)
        assert status(client)["replaced"]["packs"] > 0
        after = statistics(client, repo)
        server.stop()
        assert server.spawn(["--rebuild-index"]).wait(120) == 0, server.log_tail()
        server.environment["DIGSTORE_PACK_GRACE"] = "0"
        server.start()
        assert statistics(client, repo) == after
        wait_until(lambda: status(client)["replaced"]["packs"] == 0, 30)
        for path, data in files.items():
            assert repo.read("main", path) == data
        assert len(packs(server)) == after["packs"]


def test_an_archive_of_small_files(own_server, own_client, own_repo):
    client, repo = own_client, own_repo
    files = {f"d{i % 7}/f{i}": text(400 + i * 37 % 5000, i) for i in range(3000)}
    pushed = client.put(f"{repo.tree('main')}/archive", tar(files))
    assert pushed.status == 201, pushed
    before = statistics(client, repo)["stored_bytes"]
    run(client)
    assert statistics(client, repo)["stored_bytes"] < before
    for path in list(files)[::97]:
        assert repo.read("main", path) == files[path]
