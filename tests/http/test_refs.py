# SPDX-License-Identifier: Apache-2.0
"""Refs: names that move from commit to commit, and only when nobody else moved them."""

import concurrent.futures

import pytest

from client import quote_ref


def test_ref_follows_pushes(client, repo):
    first = repo.push("main", {"a": b"1"})
    ref = client.get(repo.ref("main"))
    assert ref.status == 200
    assert (ref.json()["name"], ref.json()["commit"]) == ("main", first["id"])
    assert ref.header("ETag") == f'"{first["id"]}"'
    second = repo.push("main", {"a": b"2"})
    assert client.get(repo.ref("main")).json()["commit"] == second["id"]


def test_branch_and_move(client, repo):
    first = repo.push("main", {"a": b"1"})
    second = repo.push("main", {"a": b"2"})
    made = client.put_json(repo.ref("feature/x"), {"commit": first["id"], "expected": None})
    assert made.status == 201
    assert made.header("Location") == repo.ref("feature/x")
    assert repo.read("feature/x", "a") == b"1"
    moved = client.put_json(
        repo.ref("feature/x"), {"commit": second["id"], "expected": first["id"]}
    )
    assert moved.status == 200
    back = client.put_json(repo.ref("feature/x"), {"commit": first["id"], "expected": second["id"]})
    assert back.status == 200
    assert repo.read("main", "a") == b"2"


def test_compare_and_swap(client, repo):
    first = repo.push("main", {"a": b"1"})
    second = repo.push("main", {"a": b"2"})
    for expected in (None, first["id"], "00" * 32):
        refused = client.put_json(repo.ref("main"), {"commit": first["id"], "expected": expected})
        assert (refused.status, refused.kind) == (409, "ref-conflict")
        assert refused.json()["head"] == second["id"]
    absent = client.put_json(repo.ref("other"), {"commit": first["id"], "expected": second["id"]})
    assert (absent.status, absent.json()["head"]) == (409, None)


def test_one_of_many_swaps_wins(client, repo):
    base = repo.push("main", {"a": b"0"})
    others = [repo.push(f"b{i}", {"a": b"%d" % i})["id"] for i in range(8)]

    def swap(commit):
        return client.put_json(repo.ref("main"), {"commit": commit, "expected": base["id"]}).status

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(swap, others))
    assert sorted(answers) == [200] + [409] * 7
    assert client.get(repo.ref("main")).json()["commit"] == others[answers.index(200)]


def test_commit_must_exist(client, repo):
    client.put(repo.base)
    refused = client.put_json(repo.ref("main"), {"commit": "ab" * 32, "expected": None})
    assert (refused.status, refused.kind) == (404, "commit-not-found")


def test_commit_of_another_repository_does_not_count(client, repo):
    commit = repo.push("main", {"a": b"1"})
    other = f"{repo.base}-b"
    client.put(other)
    refused = client.put_json(f"{other}/refs/main", {"commit": commit["id"], "expected": None})
    assert (refused.status, refused.kind) == (404, "commit-not-found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"commit": "ab" * 32},
        {"commit": "main", "expected": None},
        {"commit": None, "expected": None},
        {"commit": "ab" * 32, "expected": "x"},
        {"commit": "ab" * 32, "expected": None, "force": True},
    ],
)
def test_bad_bodies(client, repo, body):
    client.put(repo.base)
    refused = client.put_json(repo.ref("main"), body)
    assert (refused.status, refused.kind) == (400, "invalid-field")


def test_body_is_needed(client, repo):
    client.put(repo.base)
    refused = client.put(repo.ref("main"))
    assert refused.status == 400
    assert refused.kind in ("invalid-json", "body-mismatch")


def test_list_by_name(client, repo):
    commit = repo.push("main", {"a": b"1"})
    for name in ("b", "a/z", "a", "a-b", "Z"):
        client.put_json(repo.ref(name), {"commit": commit["id"], "expected": None})
    listed = client.all_items(f"{repo.base}/refs", limit=2)
    assert [r["name"] for r in listed] == ["Z", "a", "a-b", "a/z", "b", "main"]


def test_delete(client, repo):
    first = repo.push("main", {"a": b"1"})
    refused = client.delete(repo.ref("main") + "?expected=" + "00" * 32)
    assert (refused.status, refused.kind, refused.json()["head"]) == (
        409,
        "ref-conflict",
        first["id"],
    )
    assert client.delete(repo.ref("main") + "?expected=" + first["id"]).status == 204
    gone = client.get(repo.ref("main"))
    assert (gone.status, gone.kind) == (404, "ref-not-found")
    assert client.delete(repo.ref("main")).status == 404
    assert repo.read(first["id"], "a") == b"1"
    repo.push("again", {"a": b"2"})
    assert client.delete(repo.ref("again")).status == 204


GOOD = [
    "m",
    "main",
    "feature/x",
    "v1.0",
    "A/b/C-d_e.f",
    "abcdef0",
    "abcdefg0",
    "-x",
    "_",
    "r" * 200,
]
BAD = [
    "",
    "a//b",
    "/a",
    "a/",
    "..",
    "a..b",
    ".a",
    "a/.b",
    "a.lock",
    "a.lock/b",
    "a.",
    "a b",
    "a~b",
    "a:b",
    "ä",
    "deadbeef",
    "AB" * 32,
    "r" * 201,
    "a\x7f",
]


@pytest.mark.parametrize("name", GOOD)
def test_good_names(client, repo, name):
    assert client.put(repo.tree_file(name, "f"), b"x").status == 201
    assert client.get(repo.ref(name)).json()["name"] == name
    assert repo.read(name, "f") == b"x"


@pytest.mark.parametrize("name", [n for n in BAD if n])
def test_bad_names(client, repo, name):
    client.put(repo.base)
    for answer in (
        client.put(repo.tree_file(name, "f"), b"x"),
        client.put_json(repo.ref(name), {"commit": "ab" * 32, "expected": None}),
        client.get(repo.ref(name)),
    ):
        assert (answer.status, answer.kind) == (400, "invalid-name")
    repo.put("s", "f", b"x")
    in_body = client.post_json(f"{repo.stage('s')}/commit", {"ref": name})
    assert in_body.status == 400
    assert in_body.kind in ("invalid-name", "invalid-field")


def test_slash_must_be_encoded(client, repo):
    repo.push("feature/x", {"a": b"1"})
    assert quote_ref("feature/x") == "feature%2Fx"
    assert client.get(f"{repo.base}/refs/feature/x").status == 404
