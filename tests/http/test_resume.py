# SPDX-License-Identifier: Apache-2.0
"""Uploads that come in pieces, are cut, and go on where the server says."""

import pytest

from client import sha256, wait_until


def piece(client, target, data, first, total):
    """Send data as the bytes from first on."""
    headers = {"Content-Range": f"bytes {first}-{first + len(data) - 1}/{total}"}
    return client.put(target, data, headers=headers)


def interrupt(client, target, data, sent, chunked=False, reset=False):
    """Begin an upload of data and cut the connection after so many bytes."""
    with client.open() as connection:
        if chunked:
            connection.send_head(
                "PUT", target, client.head_lines([("Transfer-Encoding", "chunked")])
            )
            connection.send_chunk(data[:sent])
        else:
            connection.send_head(
                "PUT", target, client.head_lines([("Content-Length", str(len(data)))])
            )
            connection.send(data[:sent])
        if reset:
            connection.reset()


def settled_offset(client, target):
    """Upload-Offset once it is there and has stopped moving."""
    seen = []

    def probe():
        head = client.head(target)
        if head.status == 204:
            seen.append(int(head.header("Upload-Offset")))
        return len(seen) > 2 and seen[-1] == seen[-3] > 0 and seen[-1]

    return wait_until(probe, pause=0.1)


def test_pieces_make_a_file(client, repo, noise):
    data, target = noise(1_000_000), repo.stage_file("s", "f")
    first = piece(client, target, data[:300_000], 0, len(data))
    assert first.status == 200
    assert first.json()["upload_offset"] == 300_000
    assert first.json()["upload_length"] == 1_000_000
    assert first.header("Upload-Offset") == "300000"
    second = piece(client, target, data[300_000:300_001], 300_000, len(data))
    assert second.json()["upload_offset"] == 300_001
    last = piece(client, target, data[300_001:], 300_001, len(data))
    assert last.status == 201
    assert last.header("Upload-Offset") == "1000000"
    assert client.get(target).body == data


@pytest.mark.parametrize("size", [100, 500_000])
def test_the_total_is_said_last(client, repo, noise, size):
    """Nobody knew that these bytes were all, until the last piece is sent once more with the total."""
    data, target, half = noise(size), repo.stage_file("s", "f"), size // 2
    assert piece(client, target, data[:half], 0, "*").status == 200
    assert piece(client, target, data[half:], half, "*").status == 200
    assert repo.staged("s") == {}
    headers = {
        "Content-Range": f"bytes {half}-{size - 1}/{size}",
        "X-Checksum-Sha256": sha256(data),
    }
    last = client.put(target, data[half:], headers=headers)
    assert last.status == 201, last
    assert last.json()["size"] == size
    assert client.get(target).body == data
    repo.commit("s")
    assert repo.read("main", "f") == data


def test_the_end_of_a_chunked_upload_that_was_cut(client, repo, noise):
    data, target = noise(300_000), repo.stage_file("s", "f")
    interrupt(client, target, data, len(data), chunked=True)
    assert settled_offset(client, target) == len(data)
    assert piece(client, target, data[-1000:], len(data) - 1000, len(data)).status == 201
    assert client.get(target).body == data


@pytest.mark.parametrize("name", ["archive", "form", "import"])
def test_a_file_named_like_a_job(client, repo, noise, name):
    """An archive is on its way into the same stage: a path is no job, whatever it is called."""
    data, target = noise(100_000), repo.stage_file("s", name)
    with client.open() as connection:
        connection.send_head(
            "PUT", f"{repo.stage('s')}/archive", client.head_lines([("Transfer-Encoding", "chunked")])
        )
        connection.send_chunk(b"f" + bytes(99))
        wait_until(lambda: client.get(repo.stage("s")).status == 200)
        assert piece(client, target, data[:50_000], 0, len(data)).status == 200
        assert piece(client, target, data[50_000:], 50_000, len(data)).status == 201
        assert client.delete(target).status == 204


def test_pieces_and_whole_have_one_id(client, repo, noise):
    data = noise(2_000_000)
    whole = repo.put("s", "whole", data)
    target = repo.stage_file("s", "pieces")
    for first in range(0, len(data), 123_457):
        answer = piece(client, target, data[first : first + 123_457], first, len(data))
    assert answer.status == 201
    assert answer.json()["file_id"] == whole["file_id"]
    assert answer.json()["receipt"]["new_bytes"] == 0


def test_head_tells_where_to_go_on(client, repo, noise):
    data, target = noise(500_000), repo.stage_file("s", "f")
    assert client.head(target).status == 404
    piece(client, target, data[:200_000], 0, len(data))
    head = client.head(target)
    assert head.status == 204
    assert head.header("Upload-Offset") == "200000"
    assert head.header("Upload-Length") == "500000"
    assert client.get(target).status == 404
    assert repo.staged("s") == {}
    piece(client, target, data[200_000:], 200_000, len(data))
    head = client.head(target)
    assert (head.status, head.header("Upload-Offset")) == (200, "500000")


@pytest.mark.parametrize("first", [0, 1, 199_999, 200_001, 400_000])
def test_wrong_offset_is_409_with_the_right_one(client, repo, noise, first):
    data, target = noise(500_000), repo.stage_file("s", "f")
    piece(client, target, data[:200_000], 0, len(data))
    wrong = piece(
        client, target, data[first : first + 250_000][: 499_999 - first], first, len(data)
    )
    assert wrong.status == 409
    assert wrong.kind == "offset-mismatch"
    assert wrong.json()["upload_offset"] == 200_000
    assert wrong.header("Upload-Offset") == "200000"
    assert piece(client, target, data[200_000:], 200_000, len(data)).status == 201
    assert client.get(target).body == data


def test_first_piece_must_begin_at_zero(client, repo):
    wrong = piece(client, repo.stage_file("s", "f"), b"abc", 7, 10)
    assert wrong.status == 409
    assert wrong.json()["upload_offset"] == 0


def test_repeated_piece_is_a_no_op(client, repo, noise):
    data, target = noise(300_000), repo.stage_file("s", "f")
    for _ in range(3):
        answer = piece(client, target, data[:100_000], 0, len(data))
        assert (answer.status, answer.json()["upload_offset"]) == (200, 100_000)
    inside = piece(client, target, data[5_000:50_000], 5_000, len(data))
    assert (inside.status, inside.json()["upload_offset"]) == (200, 100_000)
    assert piece(client, target, data[100_000:], 100_000, len(data)).status == 201
    repeated = piece(client, target, data[100_000:], 100_000, len(data))
    assert repeated.status == 200
    assert repeated.json()["size"] == 300_000
    assert repeated.header("Upload-Offset") == "300000"
    assert client.get(target).body == data


def test_whole_range_starts_over(client, repo, noise):
    """What `curl -C - -T` sends."""
    old, new, target = noise(300_000, 1), noise(300_000, 2), repo.stage_file("s", "f")
    piece(client, target, old[:100_000], 0, len(old))
    assert piece(client, target, new, 0, len(new)).status == 201
    assert client.get(target).body == new


def test_plain_upload_starts_over(client, repo, noise):
    data, target = noise(300_000), repo.stage_file("s", "f")
    piece(client, target, data[:100_000], 0, len(data))
    assert client.put(target, b"short").status == 201
    assert client.get(target).body == b"short"
    assert client.head(target).header("Upload-Offset") == "5"


def test_total_may_come_late(client, repo, noise):
    data, target = noise(300_000), repo.stage_file("s", "f")
    first = piece(client, target, data[:100_000], 0, "*")
    assert (first.status, first.json()["upload_length"]) == (200, None)
    assert piece(client, target, data[100_000:200_000], 100_000, "*").status == 200
    assert client.head(target).header("Upload-Length") is None
    assert piece(client, target, data[200_000:], 200_000, len(data)).status == 201
    assert client.get(target).body == data


def test_total_may_not_change(client, repo, noise):
    data, target = noise(300_000), repo.stage_file("s", "f")
    piece(client, target, data[:100_000], 0, 300_000)
    other = piece(client, target, data[100_000:], 100_000, 400_000)
    assert other.status == 409
    assert other.kind == "offset-mismatch"
    assert other.json()["upload_length"] == 300_000


@pytest.mark.parametrize(
    "value",
    [
        "bytes 5-4/10",
        "bytes 0-10/10",
        "bytes a-b/c",
        "bytes 0-4",
        "0-4/5",
        "bytes */5",
        "items 0-4/5",
        "bytes 0-4/5, 6-7/8",
        "bytes -4/5",
        "bytes 0-99999999999999999999/5",
    ],
)
def test_content_range_that_is_none_is_refused(client, repo, value):
    refused = client.put(repo.stage_file("s", "f"), b"hello", headers={"Content-Range": value})
    assert refused.status == 400
    assert refused.kind == "invalid-header"
    assert client.head(repo.stage_file("s", "f")).status == 404


@pytest.mark.parametrize("length", [4, 6])
def test_piece_of_another_length_than_it_says(client, repo, length):
    refused = client.put(
        repo.stage_file("s", "f"), b"x" * length, headers={"Content-Range": "bytes 0-4/10"}
    )
    assert refused.status == 400
    assert refused.kind == "body-mismatch"
    refused = client.put(
        repo.stage_file("s", "g"), iter([b"x" * length]), headers={"Content-Range": "bytes 0-4/10"}
    )
    assert refused.status == 400
    assert refused.kind == "body-mismatch"


def test_digest_covers_the_whole_file(client, repo, noise):
    data = noise(300_000)
    for path, digest, status in (("right", sha256(data), 201), ("wrong", sha256(data[1:]), 422)):
        target = repo.stage_file("s", path)
        piece(client, target, data[:100_000], 0, len(data))
        last = client.put(
            target,
            data[100_000:],
            headers={
                "Content-Range": f"bytes 100000-299999/{len(data)}",
                "X-Checksum-Sha256": digest,
            },
        )
        assert last.status == status, last
    assert list(repo.staged("s")) == ["right"]


def test_delete_forgets_the_part(client, repo, noise):
    target = repo.stage_file("s", "f")
    piece(client, target, noise(100_000), 0, 200_000)
    assert client.delete(target).status == 204
    assert client.head(target).status == 404
    assert client.delete(target).status == 404


def test_commit_leaves_parts_out(client, repo, noise):
    piece(client, repo.stage_file("s", "part"), noise(100_000), 0, 200_000)
    empty = client.post_json(f"{repo.stage('s')}/commit", {})
    assert empty.status == 409
    assert empty.kind == "stage-empty"
    repo.put("s", "whole", b"x")
    commit = repo.commit("s")
    assert commit["files"] == 1
    assert list(repo.files(commit["id"])) == ["whole"]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_cut_upload_goes_on(client, repo, noise, chunked, reset):
    data, target = noise(12_000_000), repo.stage_file("s", "big")
    interrupt(client, target, data, 7_000_000, chunked, reset)
    offset = settled_offset(client, target)
    assert 0 < offset <= 7_000_000
    assert client.get(target).status == 404
    rest = piece(client, target, data[offset:], offset, len(data))
    assert rest.status == 201
    assert rest.json()["size"] == len(data)
    assert sha256(client.get(target).body) == sha256(data)


def test_cut_piece_goes_on(client, repo, noise):
    data, target = noise(9_000_000), repo.stage_file("s", "big")
    piece(client, target, data[:1_000_000], 0, len(data))
    with client.open() as connection:
        connection.send_head(
            "PUT",
            target,
            client.head_lines(
                [("Content-Length", "8000000"), ("Content-Range", "bytes 1000000-8999999/9000000")]
            ),
        )
        connection.send(data[1_000_000:6_000_000])
    offset = settled_offset(client, target)
    assert 1_000_000 <= offset <= 6_000_000
    assert piece(client, target, data[offset:], offset, len(data)).status == 201
    assert sha256(client.get(target).body) == sha256(data)


def test_cut_replacement_leaves_the_old_file(client, repo, noise):
    target = repo.stage_file("s", "f")
    repo.put("s", "f", b"old")
    data = noise(6_000_000)
    interrupt(client, target, data, 4_000_000)
    offset = settled_offset(client, target)
    assert client.get(target).body == b"old"
    assert repo.staged("s")["f"]["size"] == 3
    assert piece(client, target, data[offset:], offset, len(data)).status == 201
    assert client.get(target).body == data


def test_resume_survives_a_restart(own_server, own_client, own_repo, noise):
    client, repo = own_client, own_repo
    data = noise(12_000_000)
    cut, pieces = repo.stage_file("s", "cut"), repo.stage_file("s", "pieces")
    interrupt(client, cut, data, 7_000_000)
    offset = settled_offset(client, cut)
    assert piece(client, pieces, data[:3_333_333], 0, len(data)).status == 200
    own_server.restart()
    head = client.head(pieces)
    assert (head.status, head.header("Upload-Offset"), head.header("Upload-Length")) == (
        204,
        "3333333",
        "12000000",
    )
    assert int(client.head(cut).header("Upload-Offset")) == offset
    own_server.kill()
    own_server.start()
    assert client.head(pieces).header("Upload-Offset") == "3333333"
    assert piece(client, pieces, data[3_333_333:], 3_333_333, len(data)).status == 201
    assert piece(client, cut, data[offset:], offset, len(data)).status == 201
    assert repo.staged("s")["cut"]["file_id"] == repo.staged("s")["pieces"]["file_id"]
    assert sha256(client.get(cut).body) == sha256(data)
