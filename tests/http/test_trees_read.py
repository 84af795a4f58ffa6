# SPDX-License-Identifier: Apache-2.0
"""Reading snapshots: files with ranges and conditions, listings, archives, revisions."""

import email.parser
import gzip
import io
import tarfile

import pytest

from archives import read_tar, read_zip, unzstd
from client import sha256

SIZE = 3_000_017


@pytest.fixture
def pushed(repo, noise):
    """(repo, commit, data): one big file beside a few small ones."""
    data = noise(SIZE)
    commit = repo.push(
        "main",
        {
            "big.bin": data,
            "empty": b"",
            "docs/a.txt": b"hello world",
            "docs/b.html": b"<p>",
            "docs/deep/c.json": b"{}",
            "src/x.c": b"x",
        },
    )
    return repo, commit, data


# ---- whole files


def test_download(client, pushed):
    repo, commit, data = pushed
    got = client.get(repo.tree_file("main", "big.bin"))
    assert got.status == 200
    assert got.body == data
    assert got.header("Content-Length") == str(SIZE)
    assert got.header("Digstore-Commit") == commit["id"]
    assert got.header("Accept-Ranges") == "bytes"
    entry = repo.files("main")["big.bin"]
    assert got.header("ETag") == f'"{entry["file_id"]}"'
    head = client.head(repo.tree_file("main", "big.bin"))
    assert head.status == 200
    for name in ("Content-Length", "ETag", "Last-Modified", "Content-Type", "Digstore-Commit"):
        assert head.header(name) == got.header(name)


def test_empty_file(client, pushed):
    repo, _, _ = pushed
    got = client.get(repo.tree_file("main", "empty"))
    assert (got.status, got.body, got.header("Content-Length")) == (200, b"", "0")
    assert client.get(repo.tree_file("main", "empty"), headers={"Range": "bytes=0-"}).status == 416


@pytest.mark.parametrize(
    "path, media_type",
    [
        ("docs/a.txt", "text/plain"),
        ("docs/b.html", "text/html"),
        ("docs/deep/c.json", "application/json"),
        ("big.bin", "application/octet-stream"),
        ("empty", "application/octet-stream"),
    ],
)
def test_content_type_by_name(client, pushed, path, media_type):
    repo, _, _ = pushed
    got = client.head(repo.tree_file("main", path))
    assert got.header("Content-Type").partition(";")[0] == media_type
    assert got.header("X-Content-Type-Options") == "nosniff"


# ---- revisions


def test_revision_as_id_prefix_or_ref(client, pushed):
    repo, commit, data = pushed
    repo.push("main", {"big.bin": b"new"})
    client.put_json(repo.ref("rel/1"), {"commit": commit["id"], "expected": None})
    for rev in (commit["id"], commit["id"][:8], commit["id"][:40], commit["id"].upper(), "rel/1"):
        got = client.get(repo.tree_file(rev, "docs/a.txt"))
        assert (got.status, got.header("Digstore-Commit")) == (200, commit["id"])
    assert repo.read("main", "big.bin") == b"new"
    assert repo.read(commit["id"], "big.bin") == data


@pytest.mark.parametrize("rev", ["nope", "ab" * 32, "deadbeef", "a/b"])
def test_unknown_revision(client, pushed, rev):
    repo, _, _ = pushed
    for target in (
        repo.tree_file(rev, "f"),
        f"{repo.tree(rev)}/files",
        f"{repo.tree(rev)}/archive",
    ):
        answer = client.get(target)
        assert (answer.status, answer.kind) == (404, "rev-not-found")
    assert client.head(repo.tree_file(rev, "f")).status == 404


def test_unknown_path_says_which(client, pushed):
    repo, _, _ = pushed
    for path in ("nope", "docs", "docs/a.txt/x", "Docs/a.txt"):
        answer = client.get(repo.tree_file("main", path))
        assert (answer.status, answer.kind, answer.json()["path"]) == (404, "path-not-found", path)


def test_unknown_repository(client, repo):
    for target in (
        repo.tree_file("main", "f"),
        f"{repo.tree('main')}/files",
        f"{repo.base}/commits",
        f"{repo.base}/refs",
        f"{repo.base}/refs/main",
        f"{repo.base}/diff/a/b",
        f"{repo.base}/commits/" + "ab" * 32,
    ):
        answer = client.get(target)
        assert (answer.status, answer.kind) == (404, "repo-not-found"), target


# ---- ranges

RANGES = [
    ("0-0", 0, 1),
    ("0-99", 0, 100),
    ("65536-65536", 65536, 65537),
    ("43000-900000", 43000, 900001),
    ("1000000-", 1000000, SIZE),
    ("-1", SIZE - 1, SIZE),
    ("-500000", SIZE - 500000, SIZE),
    ("-99999999", 0, SIZE),
    (f"0-{SIZE - 1}", 0, SIZE),
    ("10-99999999999", 10, SIZE),
    (f"{SIZE - 1}-{SIZE - 1}", SIZE - 1, SIZE),
]


@pytest.mark.parametrize("spec, first, end", RANGES, ids=[r[0] for r in RANGES])
def test_single_range(client, pushed, spec, first, end):
    repo, _, data = pushed
    got = client.get(repo.tree_file("main", "big.bin"), headers={"Range": f"bytes={spec}"})
    assert got.status == 206
    assert got.body == data[first:end]
    assert got.header("Content-Range") == f"bytes {first}-{end - 1}/{SIZE}"
    assert got.header("Content-Length") == str(end - first)


@pytest.mark.parametrize("spec", [f"{SIZE}-", "-0", "99999999999-", f"{SIZE}-{SIZE + 5}"])
def test_range_not_satisfiable(client, pushed, spec):
    repo, _, _ = pushed
    got = client.get(repo.tree_file("main", "big.bin"), headers={"Range": f"bytes={spec}"})
    assert (got.status, got.kind) == (416, "range-not-satisfiable")
    assert got.header("Content-Range") == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "value",
    [
        "bytes=5-4",
        "bytes=",
        "bytes=a-b",
        "items=0-4",
        "bytes=0-4,3-9",
        "bytes=9-12,0-4",
        "bytes=" + ",".join(f"{i * 10}-{i * 10}" for i in range(17)),
        "bytes 0-4",
    ],
)
def test_range_that_is_passed_over(client, pushed, value):
    repo, _, data = pushed
    got = client.get(repo.tree_file("main", "big.bin"), headers={"Range": value})
    assert got.status == 200
    assert got.body == data


@pytest.mark.parametrize("count", [2, 5, 16])
def test_several_ranges(client, pushed, count):
    repo, _, data = pushed
    wanted = [(i * 150_000 + i, i * 150_000 + 70_000) for i in range(count)]
    value = "bytes=" + ", ".join(f"{a}-{b}" for a, b in wanted)
    got = client.get(repo.tree_file("main", "big.bin"), headers={"Range": value})
    assert got.status == 206
    kind = got.header("Content-Type")
    assert kind.startswith("multipart/byteranges")
    message = email.parser.BytesParser().parsebytes(
        b"Content-Type: " + kind.encode() + b"\r\n\r\n" + got.body
    )
    boundary = message.get_boundary().encode()
    parts = got.body.split(b"--" + boundary)
    assert len(parts) == count + 2
    assert parts[-1].startswith(b"--")
    for part, (a, b) in zip(parts[1:-1], wanted):
        head, _, body = part.partition(b"\r\n\r\n")
        assert f"content-range: bytes {a}-{b}/{SIZE}".encode() in head.lower()
        assert body == data[a : b + 1] + b"\r\n"


def test_many_reads_cover_the_file(client, pushed):
    repo, _, data = pushed
    step = 250_007
    parts = [
        client.get(
            repo.tree_file("main", "big.bin"), headers={"Range": f"bytes={i}-{i + step - 1}"}
        ).body
        for i in range(0, SIZE, step)
    ]
    assert sha256(b"".join(parts)) == sha256(data)


# ---- conditions


def test_conditions(client, pushed):
    repo, _, _ = pushed
    target = repo.tree_file("main", "docs/a.txt")
    plain = client.get(target)
    etag, modified = plain.header("ETag"), plain.header("Last-Modified")
    later, earlier = "Fri, 01 Jan 2100 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:01 GMT"
    for headers, status in [
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": f'"x", W/{etag}'}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": later}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": later}, 304),
        ({"If-Modified-Since": earlier}, 200),
        ({"If-Modified-Since": "not a date"}, 200),
        ({"If-Match": etag}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": f'"x", {etag}'}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-Match": f"W/{etag}"}, 412),
        ({"If-Unmodified-Since": later}, 200),
        ({"If-Unmodified-Since": earlier}, 412),
        ({"If-Match": etag, "If-Unmodified-Since": earlier}, 200),
    ]:
        for method in ("GET", "HEAD"):
            answer = client.request(method, target, headers=headers)
            assert answer.status == status, (method, headers)
            if status == 304:
                assert answer.header("ETag") == etag


@pytest.mark.parametrize(
    "validator, status",
    [("etag", 206), ("weak", 200), ("other", 200), ("modified", 206), ("early", 200)],
)
def test_if_range(client, pushed, validator, status):
    repo, _, _ = pushed
    target = repo.tree_file("main", "docs/a.txt")
    plain = client.get(target)
    value = {
        "etag": plain.header("ETag"),
        "weak": "W/" + plain.header("ETag"),
        "other": '"x"',
        "modified": plain.header("Last-Modified"),
        "early": "Thu, 01 Jan 1970 00:00:01 GMT",
    }[validator]
    answer = client.get(target, headers={"Range": "bytes=0-4", "If-Range": value})
    assert answer.status == status
    assert answer.body == (b"hello" if status == 206 else b"hello world")


def test_etag_follows_content_not_commit(client, repo):
    repo.push("main", {"a": b"1", "b": b"1"})
    first = client.head(repo.tree_file("main", "a")).header("ETag")
    repo.push("main", {"b": b"2"})
    assert client.head(repo.tree_file("main", "a")).header("ETag") == first
    assert client.head(repo.tree_file("main", "b")).header("ETag") != first


# ---- listings


def test_list_whole(client, pushed):
    repo, commit, _ = pushed
    page = client.get(f"{repo.tree('main')}/files")
    assert page.header("Digstore-Commit") == commit["id"]
    entries = page.json()["items"]
    assert [e["path"] for e in entries] == [
        "big.bin",
        "docs/a.txt",
        "docs/b.html",
        "docs/deep/c.json",
        "empty",
        "src/x.c",
    ]
    assert {e["type"] for e in entries} == {"file"}
    assert entries[0]["size"] == SIZE
    assert entries[1]["file_id"] == "chunk:" + sha256(b"hello world")


@pytest.mark.parametrize(
    "prefix, expected",
    [
        ("", [("big.bin", "file"), ("docs/", "prefix"), ("empty", "file"), ("src/", "prefix")]),
        ("docs/", [("docs/a.txt", "file"), ("docs/b.html", "file"), ("docs/deep/", "prefix")]),
        ("docs", [("docs/", "prefix")]),
        ("docs/d", [("docs/deep/", "prefix")]),
        ("docs/deep/", [("docs/deep/c.json", "file")]),
        ("e", [("empty", "file")]),
        ("nothing", []),
    ],
)
@pytest.mark.parametrize("limit", [1, 100])
def test_list_like_directories(client, pushed, prefix, expected, limit):
    repo, _, _ = pushed
    items = client.all_items(
        f"{repo.tree('main')}/files", limit=limit, prefix=prefix, delimiter="/"
    )
    assert [(e["path"], e["type"]) for e in items] == expected


def test_other_delimiters_are_refused(client, pushed):
    repo, _, _ = pushed
    for delimiter in ("-", "", "//"):
        refused = client.get(f"{repo.tree('main')}/files?delimiter={delimiter}")
        assert (refused.status, refused.kind) == (400, "invalid-query")


def test_pages_of_a_moving_ref_are_of_one_snapshot(client, repo):
    repo.push("main", {f"f{i:02}": b"x" for i in range(20)})
    first = client.get(f"{repo.tree('main')}/files?limit=10").json()
    repo.push("main", {"new": b"x"}, mode="replace")
    second = client.get(f"{repo.tree('main')}/files?limit=100&cursor={first['next_cursor']}").json()
    assert [e["path"] for e in first["items"] + second["items"]] == [f"f{i:02}" for i in range(20)]


def test_cursor_of_another_list_is_refused(client, repo):
    repo.push("main", {f"f{i}": b"x" for i in range(3)})
    cursor = client.get(f"{repo.tree('main')}/files?limit=1").json()["next_cursor"]
    refused = client.get("/v1/repos", query={"cursor": cursor})
    assert (refused.status, refused.kind) == (400, "invalid-query")


def test_list_of_thousands(client, repo):
    from archives import tar

    paths = [f"d{i % 40:02}/e{i % 7}/f{i}" for i in range(5000)]
    assert (
        client.put(f"{repo.tree('main')}/archive", tar({p: p.encode() for p in paths})).status
        == 201
    )
    assert [
        e["path"] for e in client.all_items(f"{repo.tree('main')}/files", limit=1000)
    ] == sorted(paths)
    folded = client.all_items(f"{repo.tree('main')}/files", limit=7, delimiter="/")
    assert [e["path"] for e in folded] == [f"d{i:02}/" for i in range(40)]


# ---- archives out


@pytest.mark.parametrize("fmt", ["tar", "zip"])
def test_archive_of_many_files(client, repo, fmt):
    """The directory at the end of a zip is larger than what is sent at a time."""
    from archives import tar

    files = {f"{'d' * 80}/{'e' * 80}/{i:05}": b"%d" % i for i in range(20_000)}
    assert client.put(f"{repo.tree('main')}/archive", tar(files)).status == 201
    got = client.get(f"{repo.tree('main')}/archive?format={fmt}")
    assert contents(fmt, got.body) == files


def contents(fmt, body):
    if fmt == "zip":
        return read_zip(body)
    raw = {"tar": bytes, "tar.gz": gzip.decompress, "tar.zst": unzstd}[fmt](body)
    return {name: data for name, (data, _, _) in read_tar(raw).items()}


@pytest.mark.parametrize(
    "fmt, media_type",
    [
        ("tar", "application/x-tar"),
        ("tar.gz", "application/gzip"),
        ("tar.zst", "application/zstd"),
        ("zip", "application/zip"),
    ],
)
def test_archive_out(client, pushed, fmt, media_type):
    repo, commit, data = pushed
    got = client.get(f"{repo.tree('main')}/archive?format={fmt}")
    assert got.status == 200
    assert got.header("Content-Type") == media_type
    assert got.header("Digstore-Commit") == commit["id"]
    assert f".{fmt}" in got.header("Content-Disposition")
    assert contents(fmt, got.body) == {
        "big.bin": data,
        "empty": b"",
        "docs/a.txt": b"hello world",
        "docs/b.html": b"<p>",
        "docs/deep/c.json": b"{}",
        "src/x.c": b"x",
    }
    part = client.get(f"{repo.tree('main')}/archive?format={fmt}&prefix=docs/")
    assert sorted(contents(fmt, part.body)) == ["docs/a.txt", "docs/b.html", "docs/deep/c.json"]


def test_archive_is_a_tar_by_default(client, pushed):
    repo, _, _ = pushed
    got = client.get(f"{repo.tree('main')}/archive")
    assert len(read_tar(got.body)) == 6


def test_archive_of_nothing_is_404(client, pushed):
    repo, _, _ = pushed
    answer = client.get(f"{repo.tree('main')}/archive?prefix=nope/")
    assert (answer.status, answer.kind) == (404, "path-not-found")


def test_archive_of_an_unknown_format(client, pushed):
    repo, _, _ = pushed
    for fmt in ("rar", "", "TAR"):
        answer = client.get(f"{repo.tree('main')}/archive?format={fmt}")
        assert (answer.status, answer.kind) == (400, "invalid-query")


def test_archive_goes_round(client, repo, noise):
    """What comes out as an archive goes in as one, and makes the same tree."""
    files = {
        "a/run": noise(200_000),
        "b": b"",
        "ü/" + "n" * 200: b"long",
        "/".join(["p" * 90] * 9): b"longer",
    }
    for i, (path, data) in enumerate(files.items()):
        client.put(repo.stage_file("s", path) + f"?file_mode=07{i}5&mtime=170000000{i}", data)
    first = repo.commit("s")
    for fmt in ("tar", "tar.gz", "tar.zst"):
        body = client.get(f"{repo.tree('main')}/archive?format={fmt}").body
        again = client.put(f"{repo.tree('copy')}/archive?mode=replace", body)
        assert again.status == 201
        assert again.json()["tree"] == first["tree"], fmt
        assert again.json()["receipt"]["new_bytes"] == 0
    zipped = client.get(f"{repo.tree('main')}/archive?format=zip").body
    assert client.put(f"{repo.tree('zipped')}/archive", zipped).status == 201
    assert {p: e["file_id"] for p, e in repo.files("zipped").items()} == {
        p: e["file_id"] for p, e in repo.files("main").items()
    }


def test_archive_keeps_modes_and_times(client, repo):
    client.put(repo.tree_file("main", "run") + "?file_mode=0755&mtime=1700000000", b"x")
    body = client.get(f"{repo.tree('main')}/archive").body
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        (member,) = archive.getmembers()
    assert (member.mode, int(member.mtime), member.isfile()) == (0o755, 1700000000, True)
