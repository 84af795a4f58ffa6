# SPDX-License-Identifier: Apache-2.0
"""Whether a chunk is new: remembered over restarts, and asked for once."""

import os
import shutil

from client import wait_until

CHUNK = 65536


def metrics(client):
    lines = client.get("/metrics").body.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix("digstore_ingest_"): float(value) for name, value in pairs}


def asked(client):
    return metrics(client)['lookups_total{by="database"}']


def wait_for_filter(client):
    wait_until(lambda: metrics(client)["filter_ready"] == 1)


def test_a_repeated_upload_after_a_restart(own_server, own_client, own_repo, noise):
    client, repo = own_client, own_repo
    data = noise(40_000_000)
    chunks = len(data) // CHUNK
    wait_for_filter(client)
    assert repo.put("first", "big", data)["receipt"]["new_bytes"] == len(data)
    assert asked(client) == 0  # the filter knew that all of it was new
    own_server.restart()
    known = metrics(client)
    assert known["filter_loaded"] == 1 and known["filter_ready"] == 1
    assert known["filter_keys"] > chunks / 2

    # a start that is known lets the server learn what follows
    assert repo.put("again", "start", data[:4_000_000])["receipt"]["new_bytes"] < 2 * CHUNK
    wait_until(lambda: metrics(client)["ahead_rows_total"] >= 256)
    before = asked(client)
    receipt = repo.put("again", "big", data)["receipt"]
    assert receipt["new_bytes"] == 0 and receipt["stored_bytes"] == 0
    known = metrics(client)
    assert known["ahead_hits_total"] >= 200
    assert asked(client) - before <= chunks - 200

    # and from then on nothing is asked for
    before = asked(client)
    assert repo.put("third", "big", data)["receipt"]["new_bytes"] == 0
    assert asked(client) == before
    repo.commit("third")
    assert repo.read("main", "big") == data


def test_the_filter_is_of_one_clean_run(own_server, own_client, own_repo, noise):
    client, repo = own_client, own_repo
    saved = own_server.data / "filter"
    kept = own_server.folder / "kept"
    first, second, third = (noise(2_000_000, seed) for seed in (1, 2, 3))
    wait_for_filter(client)
    repo.put("s", "first", first)
    own_server.stop()
    shutil.copy(saved, kept)
    own_server.start()
    assert metrics(client)["filter_loaded"] == 1
    assert not saved.exists()
    repo.put("s", "second", second)
    own_server.kill()
    assert not saved.exists()
    # an old file comes back, as from a backup of the directory
    shutil.copy(kept, saved)
    if os.geteuid() == 0:
        shutil.chown(saved, own_server.data.owner(), own_server.data.group())
    own_server.start()
    assert metrics(client)["filter_loaded"] == 0
    wait_for_filter(client)
    assert metrics(client)["filter_fills_total"] == 1
    for name, data in (("first", first), ("second", second)):
        receipt = repo.put("t", name, data)["receipt"]
        assert receipt["new_bytes"] == 0 and receipt["stored_bytes"] == 0
    before = asked(client)
    assert repo.put("t", "third", third)["receipt"]["new_bytes"] == len(third)
    assert asked(client) - before <= 3  # perhaps is rare


def test_a_dropped_repository_leaves_the_filter(own_server, own_client, own_repo, noise):
    client, repo = own_client, own_repo
    wait_for_filter(client)
    repo.put("s", "gone", noise(8_000_000))
    before = metrics(client)
    assert before["filter_keys"] > 80
    assert client.delete(repo.base).status == 204
    wait_until(lambda: metrics(client)["filter_fills_total"] > before["filter_fills_total"], 60)
    wait_until(lambda: metrics(client)["filter_keys"] < 5)
