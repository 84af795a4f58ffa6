# SPDX-License-Identifier: Apache-2.0
"""Commits: atomic, repeatable, honest about races and costs; one-shot pushes; history and diff."""

import concurrent.futures
import threading

import pytest

from archives import tar, tar_zst
from client import sha256, wait_until


def try_commit(client, repo, stage, headers=None, **body):
    return client.post_json(f"{repo.stage(stage)}/commit", body, headers=headers)


# ---- making one


def test_commit_says_what_it_is(client, repo):
    repo.put("s", "a/b.txt", b"hello")
    repo.put("s", "c", b"world!")
    answer = try_commit(
        client,
        repo,
        "s",
        ref="release/1.0",
        message="first\nline two",
        author="Ädä <a@example.org>",
        metadata={"job": "17", "a/b.c-d": ""},
    )
    assert answer.status == 201
    commit = answer.json()
    assert answer.header("Location") == f"{repo.base}/commits/{commit['id']}"
    assert answer.header("Digstore-Stage") == "s"
    assert commit["repo"] == repo.name
    assert commit["ref"] == "release/1.0"
    assert commit["parent"] is None
    assert commit["message"] == "first\nline two"
    assert commit["author"] == "Ädä <a@example.org>"
    assert commit["metadata"] == {"job": "17", "a/b.c-d": ""}
    assert (commit["files"], commit["bytes"]) == (2, 11)
    assert commit["receipt"]["logical_bytes"] == 11
    assert commit["receipt"]["durability"] == "full"
    assert client.get(f"{repo.base}/commits/{commit['id']}").json() == commit
    assert client.get(f"{repo.base}/commits/{commit['id'][:12]}").json() == commit


def test_commit_needs_no_body(client, repo):
    repo.put("s", "f", b"x")
    answer = client.post(f"{repo.stage('s')}/commit")
    assert answer.status == 201
    commit = answer.json()
    assert (commit["ref"], commit["message"], commit["author"], commit["metadata"]) == (
        "main",
        "",
        "anonymous",
        {},
    )


def test_merge_keeps_replace_drops(client, repo):
    first = repo.push("main", {"a": b"1", "b/c": b"2"})
    second = repo.push("main", {"b/c": b"changed", "d": b"3"})
    assert second["parent"] == first["id"]
    assert sorted(repo.files("main")) == ["a", "b/c", "d"]
    assert repo.read("main", "b/c") == b"changed"
    third = repo.push("main", {"only": b"4"}, mode="replace")
    assert third["parent"] == second["id"]
    assert sorted(repo.files("main")) == ["only"]
    assert (third["files"], third["bytes"]) == (1, 1)
    assert repo.read(first["id"], "b/c") == b"2"


def test_equal_content_makes_equal_trees(repo):
    one = repo.push("one", {"a": b"1", "b": b"2", "c/d": b"3"})
    repo.push("two", {"c/d": b"3", "a": b"x"})
    two = repo.push("two", {"b": b"2", "a": b"1"})
    assert one["tree"] == two["tree"]
    assert one["id"] != two["id"]


def test_commit_without_change_is_a_commit(repo):
    first = repo.push("main", {"a": b"1"})
    second = repo.push("main", {"a": b"1"})
    assert second["parent"] == first["id"]
    assert second["tree"] == first["tree"]
    assert second["receipt"]["new_bytes"] == 0


def test_second_push_costs_nothing_and_says_so(repo, noise):
    files = {f"f{i}": noise(100_000 + i, i) for i in range(20)}
    first = repo.push("main", files)
    assert first["receipt"]["new_bytes"] == sum(map(len, files.values()))
    second = repo.push("main", files)
    assert second["receipt"]["logical_bytes"] == first["receipt"]["logical_bytes"]
    assert second["receipt"]["new_bytes"] == 0
    assert second["receipt"]["stored_bytes"] == 0


def test_removed_and_replaced_files_are_not_committed(client, repo):
    repo.put("s", "a", b"1")
    repo.put("s", "b", b"2")
    repo.put("s", "a", b"11")
    client.delete(repo.stage_file("s", "b"))
    commit = repo.commit("s")
    assert (commit["files"], commit["bytes"]) == (1, 2)
    assert repo.read("main", "a") == b"11"


def test_empty_stage_is_refused(client, repo):
    client.put(repo.stage("s"))
    for mode in ("merge", "replace"):
        refused = try_commit(client, repo, "s", mode=mode)
        assert refused.status == 409
        assert refused.kind == "stage-empty"
    repo.put("s", "f", b"x")
    client.delete(repo.stage_file("s", "f"))
    assert try_commit(client, repo, "s").kind == "stage-empty"
    assert client.get(repo.stage("s")).json()["state"] == "open"


def test_unknown_stage_and_repository(client, repo):
    assert try_commit(client, repo, "s").kind == "repo-not-found"
    client.put(repo.base)
    unknown = try_commit(client, repo, "s")
    assert (unknown.status, unknown.kind) == (404, "stage-not-found")


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b/c", "a/b"), ("x/y", "x/y/z/w")])
def test_file_in_the_place_of_a_directory(client, repo, paths):
    for path in paths:
        repo.put("s", path, b"x")
    refused = try_commit(client, repo, "s")
    assert (refused.status, refused.kind) == (409, "path-conflict")
    client.delete(repo.stage_file("s", paths[0]))
    repo.commit("s")


def test_file_in_the_place_of_a_directory_of_the_head(client, repo):
    repo.push("main", {"a/b": b"x"})
    repo.put("s", "a", b"y")
    refused = try_commit(client, repo, "s")
    assert (refused.status, refused.kind) == (409, "path-conflict")
    assert "a" in refused.json()["paths"]
    assert try_commit(client, repo, "s", mode="replace").status == 201


# ---- expected parent


def test_expected_parent(client, repo):
    repo.put("s", "a", b"1")
    absent = try_commit(client, repo, "s", expected_parent="00" * 32)
    assert (absent.status, absent.kind) == (409, "parent-mismatch")
    assert absent.json()["head"] is None
    first = repo.commit("s", expected_parent=None)
    repo.put("t", "b", b"2")
    there = try_commit(client, repo, "t", expected_parent=None)
    assert (there.status, there.kind, there.json()["head"]) == (409, "parent-mismatch", first["id"])
    second = repo.commit("t", expected_parent=first["id"])
    repo.put("u", "c", b"3")
    old = try_commit(client, repo, "u", expected_parent=first["id"])
    assert (old.status, old.json()["head"]) == (409, second["id"])
    assert client.get(repo.stage("u")).json()["state"] == "open"
    assert client.get(repo.ref("main")).json()["commit"] == second["id"]


# ---- idempotency


def test_same_key_same_answer(client, repo):
    repo.put("s", "a", b"1")
    key = {"Idempotency-Key": "job-1"}
    first = try_commit(client, repo, "s", headers=key, message="m")
    again = try_commit(client, repo, "s", headers=key, message="m")
    assert (first.status, again.status) == (201, 201)
    assert again.json() == first.json()
    assert first.header("Idempotency-Replayed") is None
    assert again.header("Idempotency-Replayed") == "true"
    assert len(client.all_items(f"{repo.base}/commits")) == 1


def test_same_key_other_request(client, repo):
    repo.put("s", "a", b"1")
    key = {"Idempotency-Key": "job-1"}
    assert try_commit(client, repo, "s", headers=key, message="m").status == 201
    other = try_commit(client, repo, "s", headers=key, message="n")
    assert (other.status, other.kind) == (422, "idempotency-mismatch")
    repo.put("t", "a", b"1")
    other = try_commit(client, repo, "t", headers=key, message="m")
    assert (other.status, other.kind) == (422, "idempotency-mismatch")


def test_refusal_is_not_remembered(client, repo):
    client.put(repo.stage("s"))
    key = {"Idempotency-Key": "job-1"}
    assert try_commit(client, repo, "s", headers=key).kind == "stage-empty"
    repo.put("s", "a", b"1")
    assert try_commit(client, repo, "s", headers=key).status == 201


def test_same_key_in_parallel_makes_one_commit(client, repo):
    repo.put("s", "a", b"1")
    key = {"Idempotency-Key": "job-1"}
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: try_commit(client, repo, "s", headers=key), range(10)))
    good = [a for a in answers if a.status == 201]
    assert good and len({a.json()["id"] for a in good}) == 1
    assert all(a.kind == "stage-committing" for a in answers if a.status != 201)
    assert len(client.all_items(f"{repo.base}/commits")) == 1


@pytest.mark.parametrize(
    "key, status", [("k" * 128, 201), ("k" * 129, 400), ("", 400), ("with space", 400)]
)
def test_form_of_the_key(client, repo, key, status):
    repo.put("s", "a", b"1")
    answer = try_commit(client, repo, "s", headers={"Idempotency-Key": key})
    assert answer.status == status
    if status == 400:
        assert answer.kind == "invalid-header"


# ---- races


def together(count, work):
    """work(i) for i in range(count), begun at the same moment."""
    barrier = threading.Barrier(count)

    def run(i):
        barrier.wait()
        return work(i)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_merges_of_different_paths_all_win(client, repo):
    for i in range(8):
        repo.put(f"s{i}", f"file-{i}", b"%d" % i)
    answers = together(8, lambda i: try_commit(client, repo, f"s{i}"))
    assert [a.status for a in answers] == [201] * 8
    assert sorted(repo.files("main")) == [f"file-{i}" for i in range(8)]
    history = client.all_items(f"{repo.base}/commits")
    assert {c["id"] for c in history} == {a.json()["id"] for a in answers}
    assert [c["parent"] for c in history] == [c["id"] for c in history[1:]] + [None]


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_race_for_one_path_loses_nothing(client, repo, mode):
    for turn in range(5):
        names = [f"s{turn}-{i}" for i in range(3)]
        for name in names:
            repo.put(name, "same", name.encode())
        answers = together(3, lambda i: try_commit(client, repo, names[i], mode=mode))
        won = [a.json()["id"] for a in answers if a.status == 201]
        assert won
        for answer, name in zip(answers, names):
            if answer.status != 201:
                assert answer.kind in ("merge-conflict", "ref-conflict")
                assert client.get(repo.stage(name)).json()["state"] == "open"
        assert client.get(repo.ref("main")).json()["commit"] in won
        history = [c["id"] for c in client.all_items(f"{repo.base}/commits")]
        assert set(won) <= set(history)
        winner = repo.read("main", "same").decode()
        assert answers[names.index(winner)].status == 201


def test_upload_during_commit_never_sneaks_in(client, repo, noise):
    """A commit waits for nobody: running uploads make it 409, and then it works."""
    repo.put("s", "a", b"1")
    with client.open() as slow:
        slow.send_head(
            "PUT", repo.stage_file("s", "b"), client.head_lines([("Content-Length", "6")])
        )
        slow.send(b"123")
        # The upload is known once the server has taken its head; progress shows it.
        wait_until(lambda: client.get(f"{repo.stage('s')}/progress").json()["uploads"])
        busy = try_commit(client, repo, "s")
        assert (busy.status, busy.kind) == (409, "stage-busy")
        assert client.delete(repo.stage("s")).kind == "stage-busy"
        slow.send(b"456")
        assert slow.response("PUT").status == 201
    assert repo.commit("s")["files"] == 2


# ---- one-shot pushes


def test_one_shot_file(client, repo):
    answer = client.put(
        repo.tree_file("main", "dir/hello.txt"),
        b"hello",
        query={
            "message": "hi there",
            "author": "me",
            "stage": "watch-me",
            "file_mode": "0755",
            "mtime": "1700000000",
        },
    )
    assert answer.status == 201
    commit = answer.json()
    assert answer.header("Digstore-Stage") == "watch-me"
    assert answer.header("Location") == f"{repo.base}/commits/{commit['id']}"
    assert (commit["message"], commit["author"], commit["files"]) == ("hi there", "me", 1)
    assert repo.read("main", "dir/hello.txt") == b"hello"
    entry = repo.files("main")["dir/hello.txt"]
    assert (entry["mode"], entry["mtime"][:19]) == ("0755", "2023-11-14T22:13:20")


def test_one_shot_needs_nothing_made_before(client, repo):
    answer = client.put(repo.tree_file("feature/x", "f"), iter([b"a", b"b"]))
    assert answer.status == 201
    assert answer.json()["ref"] == "feature/x"
    assert answer.header("Digstore-Stage")
    assert repo.read("feature/x", "f") == b"ab"


def test_one_shots_merge_or_replace(client, repo):
    client.put(repo.tree_file("main", "a"), b"1")
    client.put(repo.tree_file("main", "b"), b"2")
    assert sorted(repo.files("main")) == ["a", "b"]
    client.put(repo.tree_file("main", "c") + "?mode=replace", b"3")
    assert sorted(repo.files("main")) == ["c"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_one_shot_archive(client, repo, method):
    files = {"src/a": b"1", "src/b": b"2" * 1000}
    answer = client.request(
        method, f"{repo.tree('main')}/archive?prefix=in&message=m", tar_zst(files)
    )
    assert answer.status == 201
    assert answer.json()["files"] == 2
    assert sorted(repo.files("main")) == ["in/src/a", "in/src/b"]
    assert repo.read("main", "in/src/b") == b"2" * 1000


def test_one_shot_of_an_empty_archive(client, repo):
    refused = client.put(f"{repo.tree('main')}/archive", tar({}))
    assert (refused.status, refused.kind) == (409, "stage-empty")


def test_one_shot_expected_parent(client, repo):
    first = client.put(repo.tree_file("main", "a"), b"1", query={"expected_parent": "none"}).json()
    refused = client.put(repo.tree_file("main", "a"), b"2", query={"expected_parent": "none"})
    assert (refused.status, refused.kind, refused.json()["head"]) == (
        409,
        "parent-mismatch",
        first["id"],
    )
    assert repo.read("main", "a") == b"1"
    assert (
        client.put(repo.tree_file("main", "a"), b"2", query={"expected_parent": first["id"]}).status
        == 201
    )
    assert (
        client.put(repo.tree_file("main", "a"), b"3", query={"expected_parent": "abc"}).kind
        == "invalid-query"
    )


def test_one_shot_wrong_digest_commits_nothing(client, repo):
    client.put(repo.base)
    refused = client.put(
        repo.tree_file("main", "a"), b"1", headers={"X-Checksum-Sha256": sha256(b"2")}
    )
    assert (refused.status, refused.kind) == (422, "digest-mismatch")
    assert client.get(repo.ref("main")).status == 404


def test_one_shot_is_never_a_piece(client, repo):
    refused = client.put(
        repo.tree_file("main", "a"), b"hello", headers={"Content-Range": "bytes 0-4/10"}
    )
    assert (refused.status, refused.kind) == (400, "invalid-header")


def test_one_shot_into_a_used_stage(client, repo):
    repo.put("s", "x", b"1")
    refused = client.put(repo.tree_file("main", "a") + "?stage=s", b"2")
    assert (refused.status, refused.kind) == (409, "stage-busy")
    repo.commit("s")
    refused = client.put(repo.tree_file("main", "a") + "?stage=s", b"2")
    assert (refused.status, refused.kind) == (409, "stage-committed")
    assert sorted(repo.files("main")) == ["x"]


@pytest.mark.parametrize(
    "query",
    ["mode=append", "mode=0644", "stage=a/b", "author=", "message=x&message=y", "colour=red"],
)
def test_one_shot_bad_query(client, repo, query):
    refused = client.put(repo.tree_file("main", "a") + "?" + query, b"x")
    assert refused.status == 400
    assert refused.kind in ("invalid-query", "invalid-name")


def test_parallel_one_shots_all_arrive(client, repo, noise):
    def push(i):
        return client.put(repo.tree_file("main", f"f{i}"), noise(5000, i)).status

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert set(pool.map(push, range(24))) == {201}
    assert len(repo.files("main")) == 24
    assert len(client.all_items(f"{repo.base}/commits", limit=7)) == 24


# ---- history


def test_history_newest_first_in_pages(client, repo):
    made = [repo.push("main", {"f": b"%d" % i}, message=f"m{i}")["id"] for i in range(5)]
    listed = client.all_items(f"{repo.base}/commits", limit=2)
    assert [c["id"] for c in listed] == made[::-1]
    assert [c["message"] for c in client.all_items(f"{repo.base}/commits", ref=made[2])] == [
        "m2",
        "m1",
        "m0",
    ]
    unknown = client.get(f"{repo.base}/commits?ref=nope")
    assert (unknown.status, unknown.kind) == (404, "rev-not-found")


@pytest.mark.parametrize(
    "name, status, kind",
    [
        ("ab" * 32, 404, "commit-not-found"),
        ("abcdef01", 404, "commit-not-found"),
        ("abc", 400, "invalid-name"),
        ("main", 400, "invalid-name"),
        ("ab" * 33, 400, "invalid-name"),
    ],
)
def test_commit_that_is_not_there(client, repo, name, status, kind):
    client.put(repo.base)
    answer = client.get(f"{repo.base}/commits/{name}")
    assert (answer.status, answer.kind) == (status, kind)


# ---- diff


def test_diff(client, repo, noise):
    big = noise(2_000_000)
    edited = big[:1_000_000] + b"edit" + big[1_000_000:]
    first = repo.push("main", {"same": b"s", "gone": b"g", "big": big})
    second = repo.push("main", {"same": b"s", "big": edited, "dir/new": b"n"}, mode="replace")
    answer = client.get(f"{repo.base}/diff/{first['id']}/main")
    assert answer.status == 200
    diff = answer.json()
    assert (diff["a"], diff["b"]) == (first["id"], second["id"])
    assert [(c["path"], c["change"]) for c in diff["items"]] == [
        ("big", "modified"),
        ("dir/new", "added"),
        ("gone", "removed"),
    ]
    modified, added, removed = diff["items"]
    assert (modified["old_size"], modified["new_size"]) == (2_000_000, 2_000_004)
    assert modified["new_bytes"] is None or 4 <= modified["new_bytes"] < 500_000
    assert (added["old_size"], added["old_file_id"]) == (None, None)
    assert (removed["new_size"], removed["new_file_id"]) == (None, None)
    summary = diff["summary"]
    assert (summary["added"], summary["removed"], summary["modified"]) == (1, 1, 1)
    assert (summary["old_bytes"], summary["new_bytes"]) == (2_000_001, 2_000_005)


def test_diff_of_equal_snapshots(client, repo):
    repo.push("main", {"a": b"1"})
    diff = client.get(f"{repo.base}/diff/main/main").json()
    assert diff["items"] == []
    assert set(diff["summary"].values()) == {0}


def test_diff_in_pages_with_prefix(client, repo):
    first = repo.push("main", {"x": b"0"})
    repo.push("main", {f"d{i % 3}/f{i}": b"%d" % i for i in range(12)})
    target = f"{repo.base}/diff/{first['id']}/main"
    paths = [c["path"] for c in client.all_items(target, limit=5)]
    assert paths == sorted(f"d{i % 3}/f{i}" for i in range(12))
    assert [c["path"] for c in client.all_items(target, prefix="d1/")] == sorted(
        f"d1/f{i}" for i in range(12) if i % 3 == 1
    )
    page = client.get(target + "?limit=5").json()
    assert page["summary"]["added"] == 12
    assert client.get(target + f"?limit=5&cursor={page['next_cursor']}").json()["summary"] is None


def test_diff_of_modes_alone(client, repo):
    first = repo.push("main", {"f": b"x"})
    client.put(repo.tree_file("main", "f") + "?file_mode=0755", b"x")
    (change,) = client.get(f"{repo.base}/diff/{first['id']}/main").json()["items"]
    assert change["change"] == "modified"
    assert change["old_file_id"] == change["new_file_id"]


@pytest.mark.parametrize("a, b", [("main", "nope"), ("nope", "main"), ("ab" * 32, "main")])
def test_diff_with_an_unknown_side(client, repo, a, b):
    repo.push("main", {"a": b"1"})
    answer = client.get(f"{repo.base}/diff/{a}/{b}")
    assert (answer.status, answer.kind) == (404, "rev-not-found")
