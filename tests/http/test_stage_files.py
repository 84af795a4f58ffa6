# SPDX-License-Identifier: Apache-2.0
"""Stages and the files in them: upload, read back, list, remove, expire."""

import base64
import concurrent.futures
import hashlib
import time

import pytest

from archives import tar
from client import Client, Repo, quote, sha256, wait_until
from digstore_server import Server

EMPTY_ID = "chunk:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


# ---- stages


def test_stage_under_a_chosen_name(client, repo):
    made = client.put_json(repo.stage("s1"), {"ttl_seconds": 3600})
    assert made.status == 201
    assert made.header("Location") == repo.stage("s1")
    assert made.header("Digstore-Stage") == "s1"
    stage = made.json()
    assert (stage["state"], stage["files"], stage["bytes"], stage["commit"]) == ("open", 0, 0, None)
    again = client.put(repo.stage("s1"))
    assert again.status == 200
    assert again.json()["expires_at"] == stage["expires_at"]
    assert client.get(repo.stage("s1")).json()["created_at"] == stage["created_at"]


def test_stage_with_a_name_of_the_servers(client, repo):
    client.put(repo.base)
    first = client.post(f"{repo.base}/stages")
    second = client.post_json(f"{repo.base}/stages", {"ttl_seconds": 60})
    assert (first.status, second.status) == (201, 201)
    assert first.json()["name"] != second.json()["name"]
    assert first.header("Location") == repo.stage(first.json()["name"])
    named = client.post_json(f"{repo.base}/stages", {"name": "mine"})
    assert (named.status, named.json()["name"]) == (201, "mine")
    assert client.post_json(f"{repo.base}/stages", {"name": "mine"}).status == 200


def test_stages_make_their_repository(client, repo):
    assert client.put(repo.stage("s")).status == 201
    assert client.get(repo.base).status == 200


def test_list_of_stages(client, repo):
    for name in ("a", "b", "c", "d"):
        assert client.put(repo.stage(name)).status == 201
    assert client.delete(repo.stage("b")).status == 204
    repo.put("c", "f", b"x")
    repo.commit("c")
    every = client.all_items(f"{repo.base}/stages", limit=1)
    assert [s["name"] for s in every] == ["a", "c", "d"]
    still_open = client.all_items(f"{repo.base}/stages", state="open")
    assert [s["name"] for s in still_open] == ["a", "d"]
    assert client.get(f"{repo.base}/stages?state=weird").status == 400


def test_abandoned_stage_is_gone(client, repo):
    repo.put("s", "f", b"x")
    assert client.delete(repo.stage("s")).status == 204
    for answer in (
        client.get(repo.stage("s")),
        client.delete(repo.stage("s")),
        client.get(repo.stage_file("s", "f")),
        client.get(f"{repo.stage('s')}/files"),
    ):
        assert answer.status == 404
        assert answer.kind == "stage-not-found"
    assert client.put(repo.stage("s")).status == 201
    assert repo.staged("s") == {}


def test_committed_stage_takes_nothing_more(client, repo):
    repo.put("s", "f", b"x")
    commit = repo.commit("s")
    for answer in (
        client.put(repo.stage_file("s", "g"), b"y"),
        client.delete(repo.stage_file("s", "f")),
        client.put(repo.stage("s")),
        client.post_json(f"{repo.stage('s')}/commit", {}),
    ):
        assert answer.status == 409
        assert answer.kind == "stage-committed"
        assert answer.json()["commit"] == commit["id"]
    stage = client.get(repo.stage("s")).json()
    assert (stage["state"], stage["commit"]) == ("committed", commit["id"])
    assert client.delete(repo.stage("s")).status == 204
    assert client.get(f"{repo.base}/commits/{commit['id']}").status == 200
    repo.put("s", "f", b"x")


def test_stage_expires(client, repo):
    assert client.put_json(repo.stage("s"), {"ttl_seconds": 1}).status == 201
    repo.put("s", "f", b"x")
    wait_until(lambda: client.get(repo.stage("s")).json()["state"] == "expired")
    for answer in (
        client.put(repo.stage_file("s", "g"), b"y"),
        client.get(repo.stage_file("s", "f")),
        client.get(f"{repo.stage('s')}/files"),
        client.delete(repo.stage_file("s", "f")),
        client.post_json(f"{repo.stage('s')}/commit", {}),
    ):
        assert answer.status == 410
        assert answer.kind == "stage-expired"
    assert client.delete(repo.stage("s")).status == 204
    assert client.put(repo.stage("s")).status == 201


@pytest.mark.parametrize(
    "ttl, status",
    [(0, 400), (1, 201), (604800, 201), (604801, 400), (-1, 400), ("60", 400), (1.5, 400)],
)
def test_stage_life_has_limits(client, repo, ttl, status):
    assert client.put_json(repo.stage("s"), {"ttl_seconds": ttl}).status == status


def test_stage_counts_what_is_in_it(client, repo):
    repo.put("s", "a", b"12345")
    repo.put("s", "b/c", b"123")
    repo.put("s", "a", b"1")
    stage = client.get(repo.stage("s")).json()
    assert (stage["files"], stage["bytes"]) == (2, 4)
    assert stage["receipt"]["logical_bytes"] == 9
    client.delete(repo.stage_file("s", "b/c"))
    assert client.get(repo.stage("s")).json()["files"] == 1


def refused_as_full(answer):
    assert (answer.status, answer.kind) == (413, "stage-full"), answer


def test_full_stage_takes_no_more_files(contract):
    """Removing and committing go on; what came in as one archive counts whole."""
    with Server(environment={"DIGSTORE_STAGE_MEMORY": "64KiB"}) as server:
        server.start()
        client = Client(server, contract)
        repo = Repo(client, "full-stage")
        names = [sha256(str(i).encode()) for i in range(1000)]
        archive = tar({name: b"" for name in names})
        tar_type = {"Content-Type": "application/x-tar"}
        form_type = {"Content-Type": "multipart/form-data; boundary=b"}
        form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nx\r\n--b--'
        assert client.put(f"{repo.stage('s')}/archive", archive, headers=tar_type).status == 201
        refused_as_full(client.put(repo.stage_file("s", "new"), b"x"))
        refused_as_full(client.put(repo.stage_file("s", names[0]), b"x"))
        refused_as_full(client.put(f"{repo.stage('s')}/archive", archive, headers=tar_type))
        refused_as_full(client.post(f"{repo.stage('s')}/form", form, headers=form_type))
        assert client.put(repo.stage("s")).json()["files"] == 1000
        for name in names[:500]:
            assert client.delete(repo.stage_file("s", name)).status == 204
        repo.put("s", "new", b"x")
        repo.put("other", "new", b"x")
        assert repo.commit("s")["files"] == 501


# ---- files


@pytest.mark.parametrize(
    "size", [0, 1, 4096, 43690, 43691, 65536, 87381, 87382, 100_000, 1_048_576, 5_000_011]
)
def test_file_comes_back_as_it_went(client, repo, noise, size):
    data = noise(size, size)
    put = client.put(repo.stage_file("s", "f.bin"), data)
    assert put.status == 201
    staged = put.json()
    assert staged["size"] == size
    assert put.header("Upload-Offset") == str(size)
    assert put.header("ETag") == f'"{staged["file_id"]}"'
    assert put.header("Digstore-Stage") == "s"
    receipt = staged["receipt"]
    assert receipt["logical_bytes"] == size == receipt["new_bytes"] + receipt["deduplicated_bytes"]
    assert (
        receipt["chunks"]["total"] == receipt["chunks"]["new"] + receipt["chunks"]["deduplicated"]
    )
    if receipt["chunks"]["total"] == 1 or size == 0:
        assert staged["file_id"] == "chunk:" + sha256(data)
    else:
        assert staged["file_id"].startswith("recipe:")
    got = client.get(repo.stage_file("s", "f.bin"))
    assert got.status == 200
    assert got.body == data
    assert got.header("ETag") == put.header("ETag")


def test_empty_file_has_a_fixed_id(repo):
    assert repo.put("s", "empty", b"")["file_id"] == EMPTY_ID
    assert repo.put("s", "empty2", [])["file_id"] == EMPTY_ID


@pytest.mark.parametrize("pieces", [[b"x"], [b"a", b"bc", b"def"], [b"q" * 100_000, b"", b"z"]])
def test_chunked_body_of_unknown_length(client, repo, pieces):
    put = client.put(repo.stage_file("s", "f"), iter(pieces))
    assert put.status == 201
    assert client.get(repo.stage_file("s", "f")).body == b"".join(pieces)


def test_length_and_pieces_do_not_change_the_id(repo, noise):
    data = noise(3_000_000)
    whole = repo.put("a", "f", data)
    pieces = repo.put("b", "f", (data[i : i + 7919] for i in range(0, len(data), 7919)))
    assert whole["file_id"] == pieces["file_id"]
    assert pieces["receipt"]["new_bytes"] == 0


def test_same_bytes_again_cost_nothing(client, repo, noise):
    data = noise(500_000)
    assert client.put(repo.stage_file("s", "f"), data).status == 201
    again = client.put(repo.stage_file("s", "f"), data)
    assert again.status == 200
    assert again.json()["receipt"]["new_bytes"] == 0
    assert again.json()["receipt"]["stored_bytes"] == 0
    elsewhere = client.put(repo.stage_file("s", "g"), data)
    assert elsewhere.status == 201
    assert elsewhere.json()["receipt"]["new_bytes"] == 0


def test_last_upload_of_a_path_wins(client, repo):
    repo.put("s", "f", b"first")
    put = client.put(repo.stage_file("s", "f"), b"second")
    assert put.status == 201
    assert client.get(repo.stage_file("s", "f")).body == b"second"
    assert list(repo.staged("s")) == ["f"]


def test_compressible_bytes_take_less(repo):
    receipt = repo.put("s", "f", b"All work and no play. " * 50_000)["receipt"]
    assert (
        receipt["stored_bytes"] < receipt["new_bytes"] / 4
        or receipt["new_bytes"] < receipt["logical_bytes"] / 4
    )


def test_edit_in_the_middle_stores_little(repo, noise):
    data = bytearray(noise(8_000_000))
    repo.put("s", "v1", bytes(data))
    data[4_000_000:4_000_010] = b"0123456789abcdef"
    receipt = repo.put("s", "v2", bytes(data))["receipt"]
    assert receipt["new_bytes"] < 400_000


def test_mode_and_mtime_are_kept(client, repo):
    put = client.put(
        repo.stage_file("s", "run.sh") + "?file_mode=0755&mtime=2024-02-29T23:59:59Z",
        b"#!/bin/sh\n",
    )
    assert put.status == 201
    entry = repo.staged("s")["run.sh"]
    assert entry["mode"] == "0755"
    assert entry["mtime"].startswith("2024-02-29T23:59:59")
    got = client.head(repo.stage_file("s", "run.sh"))
    assert got.header("Last-Modified") == "Thu, 29 Feb 2024 23:59:59 GMT"


@pytest.mark.parametrize(
    "mtime, stored",
    [
        ("1", "1970-01-01T00:00:01"),
        ("1700000000", "2023-11-14T22:13:20"),
        ("1700000000.25", "2023-11-14T22:13:20.25"),
        ("2023-11-14T23:13:20%2B01:00", "2023-11-14T22:13:20"),
    ],
)
def test_mtime_forms(client, repo, mtime, stored):
    assert client.put(repo.stage_file("s", "f") + f"?mtime={mtime}", b"x").status == 201
    assert repo.staged("s")["f"]["mtime"].startswith(stored)


def test_mode_is_plain_and_mtime_unknown_if_not_said(repo):
    repo.put("s", "f", b"x")
    entry = repo.staged("s")["f"]
    assert (entry["mode"], entry["mtime"]) == ("0644", None)


@pytest.mark.parametrize(
    "query",
    [
        "file_mode=999",
        "file_mode=07777",
        "file_mode=rwx",
        "file_mode=",
        "mtime=yesterday",
        "mtime=",
        "mtime=2024-13-01T00:00:00Z",
        "mtime=2024-01-01",
    ],
)
def test_bad_mode_or_mtime_is_refused(client, repo, query):
    refused = client.put(repo.stage_file("s", "f") + "?" + query, b"x")
    assert refused.status == 400
    assert refused.kind == "invalid-query"


# ---- digests


def digest_headers(data):
    raw = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return [
        {"Repr-Digest": f"sha-256=:{raw}:"},
        {"Repr-Digest": f"sha-512=:AAAA:, sha-256=:{raw}:"},
        {"X-Checksum-Sha256": sha256(data)},
        {"X-Checksum-Sha256": sha256(data).upper()},
        {"X-Checksum-Sha256": sha256(data), "Repr-Digest": f"sha-256=:{raw}:"},
    ]


@pytest.mark.parametrize("form", range(5))
def test_right_digest_is_accepted(client, repo, noise, form):
    data = noise(200_000)
    assert (
        client.put(repo.stage_file("s", "f"), data, headers=digest_headers(data)[form]).status
        == 201
    )


@pytest.mark.parametrize("form", range(5))
def test_wrong_digest_is_refused_and_changes_nothing(client, repo, noise, form):
    data = noise(200_000)
    repo.put("s", "f", b"before")
    refused = client.put(repo.stage_file("s", "f"), data, headers=digest_headers(data + b"x")[form])
    assert refused.status == 422
    assert refused.kind == "digest-mismatch"
    assert client.get(repo.stage_file("s", "f")).body == b"before"
    refused = client.put(
        repo.stage_file("s", "g"), iter([data]), headers=digest_headers(data + b"x")[form]
    )
    assert refused.status == 422
    assert list(repo.staged("s")) == ["f"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Checksum-Sha256": "00"},
        {"X-Checksum-Sha256": "g" * 64},
        {"Repr-Digest": "sha-256=abc"},
        {"Repr-Digest": "sha-256=:AAAA:"},
        {"Repr-Digest": "sha-256=:!!!!:"},
    ],
)
def test_digest_that_is_none_is_refused(client, repo, headers):
    refused = client.put(repo.stage_file("s", "f"), b"x", headers=headers)
    assert refused.status == 400
    assert refused.kind == "invalid-header"


# ---- paths

GOOD_PATHS = [
    "a",
    "a/b/c",
    "with space and % and ?#&",
    "ümläut/日本語/🎈",
    "...",
    ".hidden/..data",
    "-dash",
    "con",
    "a" * 255,
    "/".join(["d" * 100] * 10),
    "/".join(["p" * 255, "q" * 255, "r" * 255, "s" * 255]),
    "trailing.",
    "quote\"'`$",
    "semi;colon:star*",
]


@pytest.mark.parametrize("path", GOOD_PATHS)
def test_good_paths_are_taken(client, repo, path):
    assert repo.put("s", path, path.encode())["path"] == path
    assert list(repo.staged("s")) == [path]
    assert client.get(repo.stage_file("s", path)).body == path.encode()


def test_path_as_curl_sends_it(client, repo):
    """Letters beyond ASCII come as they were typed; both spellings are one path."""
    raw = client.put(f"{repo.stage('s')}/files/grüße.txt", b"x")
    assert raw.status == 201
    assert raw.json()["path"] == "grüße.txt"
    assert client.get(repo.stage_file("s", "grüße.txt")).body == b"x"


def test_encoded_slash_is_a_slash(client, repo):
    assert client.put(f"{repo.stage('s')}/files/a%2Fb", b"x").json()["path"] == "a/b"


def test_normal_forms_are_two_paths(repo):
    repo.put("s", "é", b"composed")
    repo.put("s", "e\u0301", b"decomposed")
    assert len(repo.staged("s")) == 2


# ---- listing and removing


def test_list_is_sorted_by_bytes_and_paged(client, repo):
    paths = ["b", "a/z", "a", "a-b", "a.b", "ä", "Z", "z/y/x", "a/b"]
    for path in paths:
        repo.put("s", path, path.encode())
    expected = sorted(paths, key=str.encode)
    for limit in (1, 2, 100):
        assert [
            e["path"] for e in client.all_items(f"{repo.stage('s')}/files", limit=limit)
        ] == expected
    below = client.all_items(f"{repo.stage('s')}/files", prefix="a/")
    assert [e["path"] for e in below] == ["a/b", "a/z"]


def test_removed_file_is_gone(client, repo):
    repo.put("s", "a", b"1")
    repo.put("s", "b", b"2")
    removed = client.delete(repo.stage_file("s", "a"))
    assert removed.status == 204
    assert removed.header("Digstore-Stage") == "s"
    for answer in (client.get(repo.stage_file("s", "a")), client.delete(repo.stage_file("s", "a"))):
        assert answer.status == 404
        assert answer.kind == "path-not-found"
    assert list(repo.staged("s")) == ["b"]


def test_staged_file_can_be_read_in_ranges(client, repo, noise):
    data = noise(1_000_000)
    repo.put("s", "f", data)
    part = client.get(repo.stage_file("s", "f"), headers={"Range": "bytes=65000-700000"})
    assert part.status == 206
    assert part.body == data[65000:700001]
    assert part.header("Content-Range") == "bytes 65000-700000/1000000"
    etag = part.header("ETag")
    assert client.get(repo.stage_file("s", "f"), headers={"If-None-Match": etag}).status == 304
    assert client.get(repo.stage_file("s", "f"), headers={"If-Match": '"other"'}).status == 412
    assert client.get(repo.stage_file("s", "f"), headers={"Range": "bytes=1000000-"}).status == 416


def test_head_of_a_whole_file(client, repo):
    repo.put("s", "f.txt", b"hello")
    head = client.head(repo.stage_file("s", "f.txt"))
    assert head.status == 200
    assert head.header("Content-Length") == "5"
    assert head.header("Upload-Offset") == "5"
    assert head.header("Content-Type").startswith("text/plain")
    assert (
        client.head(
            repo.stage_file("s", "f.txt"), headers={"If-None-Match": head.header("ETag")}
        ).status
        == 304
    )
    assert client.head(repo.stage_file("s", "nope")).status == 404


# ---- together


def test_many_parallel_uploads_fill_one_stage(client, repo, noise):
    def upload(i):
        data = noise(1000 + i * 37, i)
        assert client.put(repo.stage_file("s", f"d{i % 7}/f{i}"), data).status == 201
        return f"d{i % 7}/f{i}", sha256(data)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        expected = dict(pool.map(upload, range(200)))
    staged = repo.staged("s")
    assert {p: e["file_id"] for p, e in staged.items()} == {
        p: "chunk:" + h for p, h in expected.items()
    }


def test_parallel_uploads_of_one_content_store_it_once(client, repo, noise):
    data = noise(2_000_000)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: repo.put("s", f"f{i}", data), range(6)))
    assert len({a["file_id"] for a in answers}) == 1
    assert client.get(repo.base).json()["statistics"]["unique_bytes"] == 2_000_000
    for i in range(6):
        assert sha256(client.get(repo.stage_file("s", f"f{i}")).body) == sha256(data)


def test_slow_upload_does_not_hold_others(client, repo):
    with client.open() as slow:
        slow.send_head(
            "PUT", repo.stage_file("s", "slow"), client.head_lines([("Content-Length", "10")])
        )
        slow.send(b"12345")
        begin = time.monotonic()
        repo.put("s", "fast", b"x")
        assert time.monotonic() - begin < 5
        slow.send(b"67890")
        assert slow.response("PUT").status == 201


def test_expect_100_continue(client, repo):
    with client.open() as connection:
        connection.send_head(
            "PUT",
            repo.stage_file("s", "f"),
            client.head_lines([("Content-Length", "5"), ("Expect", "100-continue")]),
        )
        assert connection.sock.recv(64).startswith(b"HTTP/1.1 100 ")
        connection.send(b"hello")
        assert connection.response("PUT").status == 201


def test_refusal_comes_before_100_continue(client, repo):
    with client.open() as connection:
        connection.send_head(
            "PUT",
            f"{repo.stage('s')}/files/a/../b",
            client.head_lines([("Content-Length", "1000000"), ("Expect", "100-continue")]),
        )
        assert connection.sock.recv(64).startswith(b"HTTP/1.1 400 ")


def test_keep_alive_uploads(client, repo, contract):
    with client.open() as connection:
        for i in range(20):
            target = repo.stage_file("s", f"f{i}")
            connection.send_head("PUT", target, client.head_lines([("Content-Length", "3")]))
            connection.send(b"abc")
            answer = connection.response("PUT")
            contract.check("PUT", target, answer)
            assert answer.status == 201
    assert len(repo.staged("s")) == 20


def test_names_need_no_care_for_quoting(client, repo):
    assert quote("a b/c") == "a%20b/c"
    assert client.get(repo.stage_file("s", "a b/c")).status == 404
