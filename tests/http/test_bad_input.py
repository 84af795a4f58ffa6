# SPDX-License-Identifier: Apache-2.0
"""Bad input: each kind gets a clear problem, and nothing that was there is lost."""

import gzip
import io
import json
import struct
import tarfile
import zipfile

import pytest

from archives import tar, tar_entry, tar_gz, tar_zst, zip_of, zstd
from client import sha256


@pytest.fixture
def held(client, repo):
    """A repository with a commit and a stage, which must be as they were when the story ends."""
    commit = repo.push("main", {"kept": b"committed"})
    repo.put("s", "staged", b"staged")
    yield repo
    assert client.get(repo.ref("main")).json()["commit"] == commit["id"]
    assert repo.read("main", "kept") == b"committed"
    assert {p: e["size"] for p, e in repo.staged("s").items()} == {"staged": 6}
    assert client.get(repo.stage_file("s", "staged")).body == b"staged"


def refused(answer, status, *kinds):
    assert answer.status == status, answer
    assert answer.kind in kinds, answer


# ---- paths

BAD_PATHS = [
    "..",
    ".",
    "a/../b",
    "a/..",
    "../a",
    "a/./b",
    "%2e%2e",
    "%2e%2e/x",
    "a/%2E%2E/b",
    "a%2f..%2fb",
    "a//b",
    "/a",
    "a/",
    "a%2F%2Fb",
    "%2Fetc/passwd",
    "a%00b",
    "%00",
    "a%01b",
    "a%0Ab",
    "a%0D%0AX:y",
    "a%1Fb",
    "a%7Fb",
    "a%5Cb",
    "a\\b",
    "..%5Cx",
    "%FF",
    "%C0%AF",
    "%C0%80",
    "%ED%A0%80",
    "%F4%90%80%80",
    "a%C3",
    "%E2%82",
    "%zz",
    "%4",
    "%",
    "a%2",
    "a%u0041",
    "x" * 256,
    "d/" + "x" * 256,
    "%C3%BC" * 128,
    "/".join(["p" * 204] * 5) + "p",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_bad_path(client, held, path):
    for target in (f"{held.stage('s')}/files/{path}", f"{held.tree('main')}/files/{path}"):
        refused(client.put(target, b"x"), 400, "invalid-path", "malformed-request")
        refused(client.get(target), 400, "invalid-path", "malformed-request")
    refused(
        client.delete(f"{held.stage('s')}/files/{path}"), 400, "invalid-path", "malformed-request"
    )


@pytest.mark.parametrize("length, status", [(1023, 201), (1024, 201), (1025, 400)])
def test_length_of_a_path(client, repo, length, status):
    path = ("d" * 99 + "/") * 10 + "f" * (length - 1000)
    assert len(path) == length
    assert client.put(repo.stage_file("s", path), b"x").status == status


@pytest.mark.parametrize("length, status", [(254, 201), (255, 201), (256, 400)])
def test_length_of_a_segment(client, repo, length, status):
    assert client.put(repo.stage_file("s", "f" * length), b"x").status == status
    assert (
        client.put(
            repo.stage_file("s", "d/" + "ü" * (length // 2) + "u" * (length % 2)), b"x"
        ).status
        == status
    )


def test_no_path_at_all(client, held):
    answer = client.put(f"{held.stage('s')}/files/", b"x")
    assert answer.status in (400, 404)
    assert answer.kind in ("invalid-path", "route-not-found")


def test_path_of_a_read_is_judged_before_the_repository(client, repo):
    refused(client.get(f"{repo.tree('main')}/files/a/../b"), 400, "invalid-path")


# ---- names

BAD_REPOS = [
    "UPPER",
    "-a",
    ".a",
    "_a",
    "a%20b",
    "%C3%BC",
    "a..b",
    "a.",
    "a%00",
    "a%2Fb",
    "r" * 101,
    "%FF",
    "%zz",
]
BAD_STAGES = ["-a", ".a", "_a", "a%20b", "%C3%BC", "a%00", "a%2Fb", "s" * 101, "%FF", "a%0A"]
NO_TEXT = ("a%00", "%FF", "%zz")


def kind_of_bad_name(name):
    """What cannot be decoded is refused before anybody asks what it names."""
    return "invalid-path" if name in NO_TEXT else "invalid-name"


@pytest.mark.parametrize("name", BAD_REPOS)
def test_bad_repository_name(client, name):
    for method, target in (
        ("PUT", f"/v1/repos/{name}"),
        ("GET", f"/v1/repos/{name}"),
        ("DELETE", f"/v1/repos/{name}"),
        ("PUT", f"/v1/repos/{name}/stages/s/files/f"),
    ):
        refused(client.request(method, target), 400, kind_of_bad_name(name))


@pytest.mark.parametrize("name", BAD_STAGES)
def test_bad_stage_name(client, held, name):
    target = f"{held.base}/stages/{name}"
    kind = kind_of_bad_name(name)
    refused(client.put(target), 400, kind)
    refused(client.get(target), 400, kind)
    refused(client.put(f"{target}/files/f", b"x"), 400, kind)


def test_bad_stage_name_in_a_body(client, held):
    refused(
        client.post_json(f"{held.base}/stages", {"name": "a/b"}),
        400,
        "invalid-name",
        "invalid-field",
    )


# ---- bodies


def test_body_cut_short(client, held):
    for method_target in (held.stage_file("s", "f"), held.tree_file("main", "f")):
        with client.open() as connection:
            connection.send_head(
                "PUT", method_target, client.head_lines([("Content-Length", "100")])
            )
            connection.send(b"only this")
            connection.half_close()
            connection.read_to_end()
    assert client.get(held.stage_file("s", "f")).status == 404
    assert client.get(held.tree_file("main", "f")).status == 404


def test_connection_reset_in_mid_body(client, held):
    for target in (
        held.stage_file("s", "f"),
        f"{held.stage('s')}/archive",
        f"{held.tree('main')}/archive",
    ):
        with client.open() as connection:
            connection.send_head("PUT", target, client.head_lines([("Content-Length", "5000000")]))
            connection.send(tar({"sneaked": b"x" * 100_000}) * 3)
            connection.reset()
    assert client.get(held.stage_file("s", "f")).status == 404


def test_chunked_body_without_its_end(client, held):
    with client.open() as connection:
        connection.send_head(
            "PUT", held.stage_file("s", "f"), client.head_lines([("Transfer-Encoding", "chunked")])
        )
        connection.send_chunk(b"hello")
        connection.half_close()
        connection.read_to_end()
    assert client.get(held.stage_file("s", "f")).status == 404


@pytest.mark.parametrize(
    "broken",
    [
        b"zz\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"ffffffffffffffffff\r\nhello\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_broken_chunks(client, held, broken):
    head = f"PUT {held.stage_file('s', 'f')} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    answer = client.raw(head + broken, timeout=10)
    assert b" 201 " not in answer[:20]
    assert client.get(held.stage_file("s", "f")).status == 404


def test_body_longer_than_declared(client, repo):
    """The file has the declared bytes; what follows is no request."""
    head = (
        f"PUT {repo.stage_file('s', 'f')} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n".encode()
    )
    answer = client.raw(head + b"abc\x01\x02garbage\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert answer.count(b"HTTP/1.1 2") == 1
    assert client.get(repo.stage_file("s", "f")).body == b"abc"


def test_body_over_the_limit_is_refused_at_once(client, held, contract):
    limit = contract.limits["file_bytes_max"]
    for target in (
        held.stage_file("s", "f"),
        f"{held.stage('s')}/archive",
        held.tree_file("main", "f"),
    ):
        with client.open() as connection:
            connection.send_head(
                "PUT", target, client.head_lines([("Content-Length", str(limit + 1))])
            )
            answer = connection.response("PUT")
            contract.check("PUT", target, answer)
            refused(answer, 413, "body-too-large")


# ---- digests and codings


def test_digest_mismatch(client, held):
    for target in (
        held.stage_file("s", "staged"),
        held.tree_file("main", "kept"),
        f"{held.stage('s')}/archive",
    ):
        body = tar({"staged": b"other"})
        refused(
            client.put(target, body, headers={"X-Checksum-Sha256": sha256(b"")}),
            422,
            "digest-mismatch",
        )


@pytest.mark.parametrize(
    "media_type",
    [
        "image/png",
        "text/html",
        "application/x-7z-compressed",
        "multipart/form-data; boundary=x",
        "nonsense",
    ],
)
def test_unsupported_media_type(client, held, media_type):
    for target in (f"{held.stage('s')}/archive", f"{held.tree('main')}/archive"):
        refused(
            client.put(target, tar({"a": b"1"}), headers={"Content-Type": media_type}),
            415,
            "unsupported-media-type",
        )


def test_unsupported_media_type_of_json(client, held):
    for media_type in ("text/plain", "application/xml", "application/x-tar"):
        answer = client.post(
            f"{held.stage('s')}/commit", "{}", headers={"Content-Type": media_type}
        )
        refused(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("coding", ["br", "deflate", "compress", "gzip, zstd", "x"])
def test_unsupported_encoding(client, held, coding):
    headers = {"Content-Encoding": coding}
    refused(
        client.put(held.stage_file("s", "f"), b"x", headers=headers), 415, "unsupported-encoding"
    )
    refused(
        client.put(f"{held.stage('s')}/archive", tar({"a": b"1"}), headers=headers),
        415,
        "unsupported-encoding",
    )
    refused(
        client.post(f"{held.stage('s')}/commit", "{}", headers=headers), 415, "unsupported-encoding"
    )
    refused(
        client.put(held.tree_file("main", "f"), b"x", headers=headers), 415, "unsupported-encoding"
    )


def test_encoded_file_is_refused(client, held):
    """A file is stored as it comes: a coding around it would be lost or kept by accident."""
    refused(
        client.put(
            held.stage_file("s", "f"), gzip.compress(b"x"), headers={"Content-Encoding": "gzip"}
        ),
        415,
        "unsupported-encoding",
    )


# ---- archives


def flip(data, at):
    out = bytearray(data)
    out[at] ^= 0x55
    return bytes(out)


FILES = {"a.txt": b"hello\n" * 1000, "b.bin": bytes(range(256)) * 64}
TAR, TGZ, TZST, ZIP = tar(FILES), tar_gz(FILES), tar_zst(FILES), zip_of(FILES)


def tar_with_size(size_field):
    """One entry whose header says another size than there is data."""
    header = bytearray(tar({"f": b"x" * 100})[:512])
    header[124:136] = size_field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"x" * 512 + bytes(1024)


def pax_with_size(text):
    record = b" size=" + text + b"\n"
    length = len(record) + 2
    record = b"%d" % length + record
    extended = tar_entry("PaxHeader", tarfile.XHDTYPE, size=len(record)).tobuf(tarfile.USTAR_FORMAT)
    return extended + record.ljust(512, b"\0") + tar({"f": b"x" * 100})


def zip_with_crc(wrong):
    data = bytearray(zip_of({"f": b"x" * 100}, zipfile.ZIP_STORED))
    data[14:18] = struct.pack("<I", wrong)
    at = data.index(b"PK\x01\x02")
    data[at + 16 : at + 20] = struct.pack("<I", wrong)
    return bytes(data)


def ten_fold(data):
    for _ in range(10):
        data = gzip.compress(data)
    return data


BROKEN = {
    "gz-ten-fold": ten_fold(TAR),
    "nothing": b"",
    "text": b"This is no archive.\n" * 100,
    "noise": bytes((i * 7919 + i // 3) % 256 for i in range(20_000)),
    "tar-cut-in-data": TAR[:3000],
    "tar-cut-in-header": TAR[: 512 + 6144 + 100],
    "tar-header-flipped": flip(TAR, 10),
    "tar-size-too-big": tar_with_size(b"00000100000\0"),
    "tar-size-huge": tar_with_size(b"77777777777\0"),
    "tar-size-negative": tar_with_size(b"\xff" * 12),
    "tar-size-base256": tar_with_size(b"\x80" + b"\xff" * 11),
    "pax-size-huge": pax_with_size(b"9223372036854775807"),
    "pax-size-junk": pax_with_size(b"-5"),
    "gz-cut": TGZ[: len(TGZ) // 2],
    "gz-cut-trailer": TGZ[:-4],
    "gz-flipped": flip(TGZ, len(TGZ) // 2),
    "gz-bad-crc": flip(TGZ, len(TGZ) - 6),
    "gz-of-text": gzip.compress(b"no tar in here"),
    "zst-cut": TZST[: len(TZST) // 2],
    "zst-flipped": flip(TZST, len(TZST) // 2),
    "zst-of-text": zstd(b"no tar in here"),
    "zip-cut": ZIP[:200],
    "zip-flipped": flip(ZIP, 60),
    "zip-bad-crc": zip_with_crc(12345),
    "cpio": b"070701" + b"0" * 104 + b"x\0\0\0" + b"070701" + b"0" * 104 + b"TRAILER!!!\0\0\0\0",
    "ar": b"!<arch>\nf/              0           0     0     644     1         `\nx\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_archive_stages_nothing(client, held, name):
    for target in (f"{held.stage('s')}/archive", f"{held.tree('main')}/archive"):
        refused(client.put(target, BROKEN[name]), 422, "invalid-archive")


@pytest.mark.parametrize(
    "said, data",
    [
        ("application/zip", TAR),
        ("application/x-tar", ZIP),
        ("application/gzip", TAR),
        ("application/zstd", TGZ),
        ("application/x-tar", TGZ),
    ],
)
def test_archive_that_is_not_what_it_says(client, held, said, data):
    refused(
        client.put(f"{held.stage('s')}/archive", data, headers={"Content-Type": said}),
        422,
        "invalid-archive",
    )


@pytest.mark.parametrize(
    "coding, data", [("gzip", TAR), ("zstd", TAR), ("gzip", TZST), ("zstd", TGZ)]
)
def test_coding_that_is_not_what_it_says(client, held, coding, data):
    headers = {"Content-Encoding": coding, "Content-Type": "application/x-tar"}
    refused(client.put(f"{held.stage('s')}/archive", data, headers=headers), 422, "invalid-archive")


BAD_ENTRIES = {
    "absolute": "/etc/passwd",
    "dotdot": "../x",
    "dotdot-inside": "a/../../x",
    "dotdot-end": "a/..",
    "empty-segment": "a//b",
    "control": "a\x01b",
    "newline": "a\nb",
    "backslash": "a\\b",
    "drive": "..\\..\\x",
    "too-long": "d/" * 600 + "f",
    "segment-too-long": "f" * 256,
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_archive_entry_with_a_bad_name(client, held, name):
    entries = [("good", b"x"), (BAD_ENTRIES[name], b"y"), ("also-good", b"z")]
    for data in (tar(entries), zip_of(entries)):
        refused(client.put(f"{held.stage('s')}/archive", data), 422, "archive-entry-refused")
        refused(client.put(f"{held.tree('main')}/archive", data), 422, "archive-entry-refused")


def test_archive_entry_that_is_no_utf8(client, held):
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1"
    ) as archive:
        info = tarfile.TarInfo("gr\xfc\xdfe")
        archive.addfile(info)
    refused(client.put(f"{held.stage('s')}/archive", out.getvalue()), 422, "archive-entry-refused")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices(client, held, kind):
    data = tar([("good", b"x"), ("special", tar_entry("special", kind, "good"))])
    answer = client.put(f"{held.stage('s')}/archive", data)
    refused(answer, 422, "archive-entry-refused")
    assert answer.json()["entry"] == "special"


def test_symbolic_link_in_a_zip(client, held):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    refused(client.put(f"{held.stage('s')}/archive", out.getvalue()), 422, "archive-entry-refused")


BOMB_BYTES = 96 * 1024 * 1024
BOMBS = {
    "gzip": lambda: gzip.compress(tar({"zeros": bytes(BOMB_BYTES)}), 9),
    "zstd": lambda: zstd(tar({"zeros": bytes(BOMB_BYTES)})),
    "zip": lambda: zip_of({"zeros": bytes(BOMB_BYTES)}),
    "many-zstd-frames": lambda: zstd(tar({"zeros": bytes(1024 * 1024 * 4)})[:-1024], "-19")
    + zstd(bytes(8 * 1024 * 1024), "-19") * 40,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb(client, held, name):
    refused(client.put(f"{held.stage('s')}/archive", BOMBS[name]()), 413, "archive-too-large")


def test_zstd_with_a_window_that_needs_too_much_memory(client, held):
    data = zstd(tar({"f": bytes(range(256)) * 200_000}), "--long=27", "-1")
    refused(client.put(f"{held.stage('s')}/archive", data), 422, "invalid-archive")


# ---- JSON

BAD_JSON = {
    "nothing-but-space": b" ",
    "open": b'{"ref": "main"',
    "trailing": b"{} {}",
    "comma": b'{"ref": "main",}',
    "single-quotes": b"{'ref': 'main'}",
    "nan": b'{"ref": NaN}',
    "comment": b"{} // x",
    "bom": b"\xef\xbb\xbf{}",
    "utf16": '{"ref": "main"}'.encode("utf-16"),
    "bad-utf8": b'{"message": "\xff"}',
    "overlong": b'{"message": "\xc0\xaf"}',
    "surrogate": b'{"message": "\\ud800"}',
    "nul": b'{"message": "\\u0000"}',
    "raw-nul": b'{"message": "a\0b"}',
    "raw-newline": b'{"message": "a\nb"}',
    "big-number": b'{"message": 1e999}',
    "duplicate-key": b'{"ref": "main", "ref": "other"}',
    "duplicate-inside": b'{"metadata": {"a": "1", "a": "2"}}',
    "array": b"[]",
    "string": b'"main"',
    "null": b"null",
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json(client, held, name):
    answer = client.post(
        f"{held.stage('s')}/commit", BAD_JSON[name], headers={"Content-Type": "application/json"}
    )
    refused(answer, 400, "invalid-json", "invalid-field")


@pytest.mark.parametrize(
    "body",
    [
        {"reff": "main"},
        {"ref": 5},
        {"ref": None},
        {"ref": ""},
        {"message": ["x"]},
        {"author": ""},
        {"author": "a\nb"},
        {"author": "a" * 257},
        {"mode": "append"},
        {"mode": "MERGE"},
        {"expected_parent": "abc"},
        {"expected_parent": "AB" * 32},
        {"expected_parent": 0},
        {"metadata": []},
        {"metadata": {"a": 1}},
        {"metadata": {"": "x"}},
        {"metadata": {"a b": "x"}},
        {"metadata": {"k" * 65: "x"}},
        {"metadata": {"a": "v" * 1025}},
        {"metadata": {f"k{i}": "" for i in range(65)}},
    ],
    ids=lambda b: json.dumps(b)[:40],
)
def test_bad_field(client, held, body):
    answer = client.post_json(f"{held.stage('s')}/commit", body)
    refused(answer, 400, "invalid-field", "invalid-name")


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {f"k{i}": "" for i in range(64)}},
        {"metadata": {"k" * 64: "v" * 1024}},
        {"author": "a" * 256},
        {"message": "m" * 65536},
    ],
    ids=["pairs", "key-and-value", "author", "message"],
)
def test_fields_at_their_limits(client, repo, body):
    repo.put("s", "f", b"x")
    assert client.post_json(f"{repo.stage('s')}/commit", body).status == 201


def test_message_over_its_limit(client, held):
    answer = client.post_json(f"{held.stage('s')}/commit", {"message": "m" * 65537})
    assert answer.status in (400, 413)
    assert answer.kind in ("invalid-field", "json-too-large")


@pytest.mark.parametrize(
    "depth, status, kind",
    [(32, 400, "invalid-field"), (33, 413, "json-too-large"), (100_000, 413, "json-too-large")],
)
def test_depth_of_json(client, held, depth, status, kind):
    body = '{"metadata":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
    refused(
        client.post(
            f"{held.stage('s')}/commit", body, headers={"Content-Type": "application/json"}
        ),
        status,
        kind,
    )


def test_brackets_in_strings_are_no_depth(client, repo):
    repo.put("s", "f", b"x")
    assert (
        client.post_json(f"{repo.stage('s')}/commit", {"message": "[{" * 100 + '"\\'}).status == 201
    )


@pytest.mark.parametrize("extra, status", [(-1, 201), (0, 201), (1, 413)])
def test_size_of_json(client, repo, contract, extra, status):
    repo.put("s", "f", b"x")
    body = "{}".ljust(contract.limits["json_bytes_max"] + extra)
    answer = client.post(
        f"{repo.stage('s')}/commit", body, headers={"Content-Type": "application/json"}
    )
    assert answer.status == status
    if status == 413:
        assert answer.kind == "json-too-large"


def test_endless_json_is_cut_off(client, held):
    pieces = (b" " * 100_000 for _ in range(100))
    answer = client.post(
        f"{held.stage('s')}/commit", pieces, headers={"Content-Type": "application/json"}
    )
    refused(answer, 413, "json-too-large")


# ---- what is not there


def test_range_not_satisfiable(client, held):
    answer = client.get(held.tree_file("main", "kept"), headers={"Range": "bytes=9-"})
    refused(answer, 416, "range-not-satisfiable")


def test_unknown_things_say_which(client, held):
    nowhere = "/v1/repos/no-such-repository"
    for method, target, kind in [
        ("GET", nowhere, "repo-not-found"),
        ("GET", f"{nowhere}/stages", "repo-not-found"),
        ("GET", f"{nowhere}/stages/s", "repo-not-found"),
        ("GET", f"{nowhere}/trees/main/files/f", "repo-not-found"),
        ("GET", held.stage("nope"), "stage-not-found"),
        ("DELETE", held.stage("nope"), "stage-not-found"),
        ("GET", held.stage_file("nope", "f"), "stage-not-found"),
        ("POST", f"{held.stage('nope')}/commit", "stage-not-found"),
        ("GET", held.stage_file("s", "nope"), "path-not-found"),
        ("DELETE", held.stage_file("s", "nope"), "path-not-found"),
        ("GET", held.tree_file("nope", "kept"), "rev-not-found"),
        ("GET", held.tree_file("main", "nope"), "path-not-found"),
        ("GET", held.ref("nope"), "ref-not-found"),
        ("DELETE", held.ref("nope"), "ref-not-found"),
        ("GET", f"{held.base}/commits/{'0' * 64}", "commit-not-found"),
    ]:
        refused(client.request(method, target), 404, kind)


def test_method_not_allowed(client, held):
    answer = client.post(held.stage_file("s", "staged"), b"x")
    refused(answer, 405, "method-not-allowed")
    assert "PUT" in answer.header("Allow")


# ---- HTTP itself


def raw_request(client, repo, lines, body=b""):
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else None


SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

BAD_HTTP = {
    "two-lengths": (["Host: x", "Content-Length: 0", "Content-Length: 36"], 400),
    "length-and-chunked": (["Host: x", "Content-Length: 5", "Transfer-Encoding: chunked"], 400),
    "chunked-twice": (["Host: x", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
    "gzip-chunked": (["Host: x", "Transfer-Encoding: gzip, chunked"], 501),
    "xchunked": (["Host: x", "Transfer-Encoding: xchunked"], 501),
    "space-before-colon": (["Host: x", "Transfer-Encoding : chunked"], 400),
    "signed-length": (["Host: x", "Content-Length: +3"], 400),
    "hex-length": (["Host: x", "Content-Length: 0x3"], 400),
    "list-length": (["Host: x", "Content-Length: 3, 3"], 400),
    "no-host": (["Content-Length: 0"], 400),
    "two-hosts": (["Host: x", "Host: y", "Content-Length: 0"], 400),
    "two-ranges": (["Host: x", "Content-Length: 0", "Range: bytes=0-1", "Range: bytes=2-3"], 400),
    "other-expectation": (["Host: x", "Content-Length: 0", "Expect: miracles"], 417),
    "control-byte": (["Host: x", "Content-Length: 0", "X-A: a\x01b"], 400),
    "too-many-headers": (["Host: x", "Content-Length: 0", *(f"X-{i}: y" for i in range(70))], 431),
    "headers-too-long": (
        ["Host: x", "Content-Length: 0", *(f"X-{i}: {'y' * 1000}" for i in range(18))],
        431,
    ),
}


@pytest.mark.parametrize("name", BAD_HTTP)
def test_bad_http_is_refused_and_the_connection_closed(client, held, name):
    """What follows such a request is never read as a request."""
    headers, status = BAD_HTTP[name]
    head = raw_request(client, held, [f"PUT {held.stage_file('s', 'smuggled')} HTTP/1.1", *headers])
    answer = client.raw(head + SMUGGLED, timeout=15)
    assert status_of(answer) in (status, 413 if "length" in name else status), answer[:300]
    assert b'"status":"ok"' not in answer.replace(b" ", b"")
    assert client.get(held.stage_file("s", "smuggled")).status == 404


@pytest.mark.parametrize(
    "line",
    [
        "GET http://x/v1 HTTP/1.1",
        "GET /v1 HTTP/1.2",
        "GET /v1 HTTP/2.0",
        "GET v1 HTTP/1.1",
        "GET /v1#x HTTP/1.1",
    ],
)
def test_bad_request_line(client, line):
    answer = client.raw(raw_request(client, None, [line, "Host: x"]), timeout=15)
    assert status_of(answer) in (400, 404, 505), answer[:300]
    assert status_of(answer) != 200


def test_target_too_long(client):
    answer = client.get("/v1/repos?cursor=" + "x" * 4200, check=False)
    assert answer.status == 414


def test_foreign_origin_may_not_write(client, held):
    """A page that a browser has open elsewhere can send such requests without asking."""
    form = {"Content-Type": "multipart/form-data; boundary=b", "Origin": "http://evil.example"}
    refused(
        client.post(f"{held.stage('s')}/form", b"--b--\r\n", headers=form), 403, "access-denied"
    )
    refused(
        client.put(held.stage_file("s", "f"), b"x", headers={"Origin": "null"}),
        403,
        "access-denied",
    )
    refused(
        client.delete(held.base, headers={"Origin": "http://127.0.0.1:1"}), 403, "access-denied"
    )


def test_own_origin_may_write(client, repo):
    origin = {"Origin": f"http://127.0.0.1:{client.port}"}
    assert client.put(repo.stage_file("s", "f"), b"x", headers=origin).status == 201
    assert client.get(repo.base, headers={"Origin": "http://evil.example"}).status == 200


def test_silly_connections_do_no_harm(client):
    for junk in (
        b"",
        b"\r\n\r\n",
        b"\0" * 1000,
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET",
        b"GET / HTTP/1.1\r\n" + b"A" * 100_000,
    ):
        with client.open(5) as connection:
            connection.send(junk)
    assert client.get("/healthz").status == 200
