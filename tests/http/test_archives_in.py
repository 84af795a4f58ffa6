# SPDX-License-Identifier: Apache-2.0
"""Archives become many staged files, all together or not at all."""

import gzip
import io
import tarfile
import zipfile

import pytest

from archives import tar, tar_entry, tar_gz, tar_zst, zip_of, zstd
from client import sha256

FILES = {
    "readme.txt": b"hello\n",
    "src/main.c": b"int main(void) { return 0; }\n" * 50,
    "src/empty": b"",
    "data/big.bin": bytes(range(256)) * 3000,
    "ümläut/日本.txt": "grüße".encode(),
}


def expect(repo, stage, files):
    staged = repo.staged(stage)
    assert {p: e["size"] for p, e in staged.items()} == {p: len(d) for p, d in files.items()}
    for path, data in files.items():
        assert repo.client.get(repo.stage_file(stage, path)).body == data


FORMATS = {
    "ustar": (lambda f: tar(f, fmt=tarfile.USTAR_FORMAT), "application/x-tar"),
    "pax": (lambda f: tar(f, fmt=tarfile.PAX_FORMAT), "application/x-tar"),
    "gnu": (lambda f: tar(f, fmt=tarfile.GNU_FORMAT), "application/x-tar"),
    "tar.gz": (tar_gz, "application/gzip"),
    "tar.zst": (tar_zst, "application/zstd"),
    "zip": (zip_of, "application/zip"),
    "zip-stored": (lambda f: zip_of(f, zipfile.ZIP_STORED), "application/zip"),
    "zip-streamed": (lambda f: zip_of(f, streamed=True), "application/zip"),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("said", ["type", "octets", "nothing", "curl"])
def test_every_format_said_or_guessed(client, repo, name, said):
    make, media_type = FORMATS[name]
    headers = {
        "type": {"Content-Type": media_type},
        "octets": {"Content-Type": "application/octet-stream"},
        "nothing": {},
        "curl": {"Content-Type": "application/x-www-form-urlencoded"},
    }[said]
    answer = client.put(f"{repo.stage('s')}/archive", make(FILES), headers=headers)
    assert answer.status == 201
    result = answer.json()
    assert (result["stage"], result["files"], result["skipped"]) == ("s", len(FILES), 0)
    assert result["bytes"] == sum(map(len, FILES.values())) == result["receipt"]["logical_bytes"]
    expect(repo, "s", FILES)


@pytest.mark.parametrize("name", ["pax", "tar.gz", "zip", "zip-streamed"])
def test_chunked_archive(client, repo, name):
    data = FORMATS[name][0](FILES)
    pieces = (data[i : i + 1000] for i in range(0, len(data), 1000))
    assert client.post(f"{repo.stage('s')}/archive", pieces).status == 201
    expect(repo, "s", FILES)


@pytest.mark.parametrize(
    "coding, pack", [("gzip", gzip.compress), ("zstd", zstd), ("identity", bytes)]
)
def test_content_encoding_is_taken_off(client, repo, coding, pack):
    headers = {"Content-Type": "application/x-tar", "Content-Encoding": coding}
    assert client.put(f"{repo.stage('s')}/archive", pack(tar(FILES)), headers=headers).status == 201
    expect(repo, "s", FILES)


def test_digest_of_an_archive(client, repo):
    data = tar(FILES)
    wrong = client.put(
        f"{repo.stage('s')}/archive", data, headers={"X-Checksum-Sha256": sha256(b"")}
    )
    assert wrong.status == 422
    assert wrong.kind == "digest-mismatch"
    assert client.get(f"{repo.stage('s')}/files").json().get("items", []) == []
    right = client.put(
        f"{repo.stage('s')}/archive", data, headers={"X-Checksum-Sha256": sha256(data)}
    )
    assert right.status == 201


def test_dot_slash_and_directories_as_tar_c_writes_them(client, repo):
    data = tar(
        [
            (".", tar_entry("./", tarfile.DIRTYPE)),
            ("./a", b"1"),
            ("d", tar_entry("./d/", tarfile.DIRTYPE)),
            ("./d/b", b"2"),
        ]
    )
    answer = client.put(f"{repo.stage('s')}/archive", data)
    assert (answer.status, answer.json()["files"]) == (201, 2)
    expect(repo, "s", {"a": b"1", "d/b": b"2"})


@pytest.mark.parametrize("prefix", ["vendor", "vendor/", "a/b/c"])
def test_prefix(client, repo, prefix):
    assert (
        client.put(f"{repo.stage('s')}/archive", tar({"x": b"1"}), query={"prefix": prefix}).status
        == 201
    )
    expect(repo, "s", {f"{prefix.rstrip('/')}/x": b"1"})


@pytest.mark.parametrize("prefix", ["/", "a//b", "../x", "a/./b", "x\\y"])
def test_bad_prefix(client, repo, prefix):
    refused = client.put(f"{repo.stage('s')}/archive", tar({"x": b"1"}), query={"prefix": prefix})
    assert refused.status == 400
    assert refused.kind in ("invalid-path", "invalid-query")


def test_modes_and_times_are_kept(client, repo):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, mode in (("script", 0o755), ("setuid", 0o4711), ("plain", 0o640)):
            info = tarfile.TarInfo(name)
            info.mode, info.mtime, info.size = mode, 1_700_000_000, 1
            archive.addfile(info, io.BytesIO(b"x"))
    assert client.put(f"{repo.stage('s')}/archive", out.getvalue()).status == 201
    staged = repo.staged("s")
    assert {p: e["mode"] for p, e in staged.items()} == {
        "script": "0755",
        "setuid": "0711",
        "plain": "0640",
    }
    assert all(e["mtime"].startswith("2023-11-14T22:13:20") for e in staged.values())


def test_last_of_two_entries_wins(client, repo):
    data = tar([("f", b"first"), ("g", b"x"), ("f", b"second")])
    answer = client.put(f"{repo.stage('s')}/archive", data)
    assert answer.status == 201
    expect(repo, "s", {"f": b"second", "g": b"x"})


def test_long_names(client, repo):
    names = ["/".join(["n" * 100] * 5), "x" * 255, "/".join(["q" * 255] * 4)]
    for fmt in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert (
            client.put(
                f"{repo.stage('s')}/archive", tar({n: n.encode() for n in names}, fmt=fmt)
            ).status
            == 201
        )
        expect(repo, "s", {n: n.encode() for n in names})


def test_empty_archive_stages_nothing(client, repo):
    answer = client.put(f"{repo.stage('s')}/archive", tar({}))
    assert (answer.status, answer.json()["files"]) == (201, 0)
    assert repo.staged("s") == {}


SPECIAL = [
    ("symlink", tarfile.SYMTYPE),
    ("hardlink", tarfile.LNKTYPE),
    ("fifo", tarfile.FIFOTYPE),
    ("chr", tarfile.CHRTYPE),
    ("blk", tarfile.BLKTYPE),
]


@pytest.mark.parametrize("name, kind", SPECIAL)
def test_special_entries_can_be_skipped(client, repo, name, kind):
    data = tar([("a", b"1"), (name, tar_entry(name, kind, "a")), ("b", b"2")])
    refused = client.put(f"{repo.stage('s')}/archive", data)
    assert refused.status == 422
    assert refused.kind == "archive-entry-refused"
    assert refused.json()["entry"] == name
    skipped = client.put(f"{repo.stage('s')}/archive", data, query={"special": "skip"})
    assert skipped.status == 201
    assert (skipped.json()["files"], skipped.json()["skipped"]) == (2, 1)
    expect(repo, "s", {"a": b"1", "b": b"2"})


def test_archive_adds_to_what_is_staged(client, repo):
    repo.put("s", "kept", b"k")
    repo.put("s", "f", b"old")
    assert client.put(f"{repo.stage('s')}/archive", tar({"f": b"new", "g": b"g"})).status == 201
    expect(repo, "s", {"kept": b"k", "f": b"new", "g": b"g"})


def test_thousands_of_small_files(client, repo, noise):
    files = {f"d{i % 50}/f{i}": noise(i % 3000, i) for i in range(4000)}
    answer = client.put(f"{repo.stage('s')}/archive", tar_gz(files))
    assert (answer.status, answer.json()["files"]) == (201, 4000)
    staged = repo.staged("s")
    assert {p: e["file_id"] for p, e in staged.items()} == {
        p: "chunk:" + sha256(d) for p, d in files.items()
    }
    again = client.put(f"{repo.stage('t')}/archive", tar(files))
    assert again.json()["receipt"]["new_bytes"] == 0


def test_large_file_in_an_archive(client, repo, noise):
    data = noise(20_000_000)
    assert client.put(f"{repo.stage('s')}/archive", tar({"big": data})).status == 201
    assert sha256(client.get(repo.stage_file("s", "big")).body) == sha256(data)
    assert repo.put("s", "same", data)["receipt"]["new_bytes"] == 0
