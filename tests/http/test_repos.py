# SPDX-License-Identifier: Apache-2.0
"""Repositories: made, read, listed, dropped; each a world of its own."""

import pytest

from client import Repo


def test_create_read_drop(client, repo):
    made = client.put_json(repo.base, {"description": "first", "chunk_target_bytes": 32768})
    assert made.status == 201
    assert made.header("Location") == repo.base
    assert made.json()["name"] == repo.name
    read = client.get(repo.base)
    assert read.status == 200
    assert read.json()["chunk_target_bytes"] == 32768
    assert read.json()["description"] == "first"
    assert set(read.json()["statistics"].values()) == {0}
    assert client.delete(repo.base).status == 204
    gone = client.get(repo.base)
    assert gone.status == 404
    assert gone.kind == "repo-not-found"


def test_create_needs_no_body(client, repo):
    made = client.put(repo.base)
    assert made.status == 201
    assert made.json()["chunk_target_bytes"] == 65536
    assert made.json()["description"] == ""


def test_create_takes_what_curl_d_says(client, repo):
    made = client.put(
        repo.base,
        '{"description": "x"}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert made.status == 201
    assert made.json()["description"] == "x"


def test_create_is_repeatable(client, repo):
    assert (
        client.put_json(repo.base, {"chunk_target_bytes": 16384, "description": "a"}).status == 201
    )
    again = client.put_json(repo.base, {"chunk_target_bytes": 16384})
    assert again.status == 200
    assert again.json()["description"] == "a"
    changed = client.put_json(repo.base, {"description": "b"})
    assert changed.status == 200
    assert client.get(repo.base).json()["description"] == "b"
    assert client.get(repo.base).json()["chunk_target_bytes"] == 16384


def test_chunk_target_never_changes(client, repo):
    assert client.put_json(repo.base, {"chunk_target_bytes": 16384}).status == 201
    other = client.put_json(repo.base, {"chunk_target_bytes": 65536})
    assert other.status == 409
    assert other.kind == "repo-mismatch"


@pytest.mark.parametrize("target", [16384, 32768, 65536, 131072])
def test_every_chunk_target_stores_files(client, repo, noise, target):
    assert client.put_json(repo.base, {"chunk_target_bytes": target}).status == 201
    data = noise(1_000_000, target)
    staged = repo.put("s", "f", data)
    chunks = staged["receipt"]["chunks"]["total"]
    assert 1_000_000 / (target * 4 / 3) <= chunks <= 1_000_000 / (target * 2 / 3) + 1
    assert client.get(repo.stage_file("s", "f")).body == data


@pytest.mark.parametrize("target", [0, 1, 65535, 262144, -16384, "65536", 65536.5, None, True])
def test_other_chunk_targets_are_refused(client, repo, target):
    refused = client.put_json(repo.base, {"chunk_target_bytes": target})
    assert refused.status == 400
    assert refused.kind == "invalid-field"
    assert refused.json()["field"] == "chunk_target_bytes"
    assert client.get(repo.base).status == 404


def test_statistics_count(client, repo, noise):
    data = noise(300_000)
    repo.push("main", {"a": data, "b": data, "c": b"hello"})
    statistics = client.get(repo.base).json()["statistics"]
    assert statistics["refs"] == 1
    assert statistics["commits"] == 1
    assert statistics["logical_bytes"] == 600_005
    assert statistics["unique_bytes"] == 300_005
    assert statistics["packs"] >= 1
    assert statistics["chunks"] >= 3
    assert statistics["stored_bytes"] >= 300_000


def test_list_by_name_in_pages(client, request):
    names = [f"list-{i:02}-x" for i in range(7)]
    for name in names:
        assert client.put(f"/v1/repos/{name}").status == 201
    listed = [r["name"] for r in client.all_items("/v1/repos", limit=3)]
    assert listed == sorted(listed)
    assert len(listed) == len(set(listed))
    assert [n for n in listed if n.startswith("list-")] == names


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1e2", "+5", "99999999999999999999"])
def test_limit_out_of_range_is_refused(client, limit):
    refused = client.get(f"/v1/repos?limit={limit}")
    assert refused.status == 400
    assert refused.kind == "invalid-query"


@pytest.mark.parametrize("limit", ["1", "1000"])
def test_limit_at_its_ends(client, limit):
    assert client.get(f"/v1/repos?limit={limit}").status == 200


@pytest.mark.parametrize("cursor", ["", "!", "AAAA", "%00", "x" * 3000])
def test_made_up_cursor_is_refused(client, cursor):
    refused = client.get(f"/v1/repos?cursor={cursor}")
    assert refused.status == 400
    assert refused.kind == "invalid-query"


def test_drop_of_unknown_is_404(client, repo):
    gone = client.delete(repo.base)
    assert gone.status == 404
    assert gone.kind == "repo-not-found"


def test_name_is_free_after_drop(client, repo):
    repo.push("main", {"a": b"one"})
    assert client.delete(repo.base).status == 204
    assert client.get(repo.tree_file("main", "a")).status == 404
    assert client.put_json(repo.base, {"chunk_target_bytes": 16384}).status == 201
    assert set(client.get(repo.base).json()["statistics"].values()) == {0}
    commit = repo.push("main", {"a": b"one"})
    assert commit["receipt"]["new_bytes"] == 3
    assert repo.read("main", "a") == b"one"


def test_repositories_share_nothing(client, repo, noise):
    other = Repo(client, repo.name + "-b")
    data = noise(200_000)
    assert repo.put("s", "f", data)["receipt"]["new_bytes"] == 200_000
    assert other.put("s", "f", data)["receipt"]["new_bytes"] == 200_000
    assert other.put("s", "g", data)["receipt"]["new_bytes"] == 0


@pytest.mark.parametrize("length, status", [(99, 201), (100, 201), (101, 400)])
def test_name_length(client, length, status):
    answer = client.put("/v1/repos/" + "n" * length)
    assert answer.status == status


@pytest.mark.parametrize("length, status", [(1023, 201), (1024, 201), (1025, 400)])
def test_description_length(client, repo, length, status):
    assert client.put_json(repo.base, {"description": "d" * length}).status == status
