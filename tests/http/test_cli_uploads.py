# SPDX-License-Identifier: Apache-2.0
"""Real curl, as people type it: nothing else is needed on the client."""

import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from client import sha256, wait_until

CURL = ["curl", "-sS", "--fail-with-body", "--max-time", "60"]
REAL_TREE = pathlib.Path("/usr/include/linux")


@pytest.fixture
def sh(client, repo, tmp_path):
    """sh(script): run a shell script in a scratch folder; $U is the repository's address."""

    def run(script, code=0):
        environment = {
            "PATH": os.environ["PATH"],
            "U": client.url + repo.base,
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            [
                "bash",
                "-euo",
                "pipefail",
                "-c",
                f"curl() {{ command {' '.join(CURL)} \"$@\"; }}\n{script}",
            ],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=120,
        )
        assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    run.folder = tmp_path
    return run


def test_upload_a_file_under_its_own_name(sh, repo, noise):
    """curl appends the name of the file where the URL ends in a slash."""
    (sh.folder / "hello.txt").write_bytes(b"hello\n")
    answer = json.loads(sh("curl -T hello.txt $U/stages/s/files/docs/"))
    assert answer["path"] == "docs/hello.txt"
    assert sh("curl $U/stages/s/files/docs/hello.txt") == b"hello\n"


def test_upload_under_another_name(sh):
    (sh.folder / "a b.txt").write_bytes(b"spaces\n")
    sh("curl -T 'a b.txt' $U/stages/s/files/other.txt; curl -T 'a b.txt' $U/stages/s/files/")
    assert (
        sh("curl $U/stages/s/files/other.txt; curl $U/stages/s/files/a%20b.txt")
        == b"spaces\nspaces\n"
    )


def test_upload_from_a_pipe(sh, repo, noise):
    data = noise(5_000_000)
    (sh.folder / "big").write_bytes(data)
    answer = json.loads(sh("cat big | curl -T - $U/stages/s/files/big"))
    assert answer["size"] == len(data)
    assert sha256(sh("curl $U/stages/s/files/big")) == sha256(data)


def test_upload_several_files_by_globbing(sh, repo):
    for name in "abc":
        (sh.folder / name).write_text(name)
    sh("curl -T '{a,b,c}' $U/stages/s/files/")
    assert sorted(repo.staged("s")) == ["a", "b", "c"]


def test_data_binary(sh, repo, noise):
    data = noise(2_000_000)
    (sh.folder / "f").write_bytes(data)
    sh("curl -X PUT --data-binary @f $U/stages/s/files/f")
    assert repo.staged("s")["f"]["size"] == len(data)


def test_large_file_with_expect_100(sh, noise):
    data = noise(30_000_000)
    (sh.folder / "big").write_bytes(data)
    sh("curl -T big $U/trees/main/files/big -o commit.json")
    assert sha256(sh("curl $U/trees/main/files/big")) == sha256(data)


def test_http_1_0(sh):
    (sh.folder / "f").write_bytes(b"old\n")
    sh("curl -0 -T f $U/stages/s/files/f")
    assert sh("curl -0 $U/stages/s/files/f") == b"old\n"


def test_form_with_several_files(sh, repo):
    (sh.folder / "a.txt").write_text("a")
    (sh.folder / "b.txt").write_text("bb")
    sh("curl -F f=@a.txt -F 'g=@b.txt;filename=dir/b.txt' $U/stages/s/form")
    assert {p: e["size"] for p, e in repo.staged("s").items()} == {"a.txt": 1, "dir/b.txt": 2}


def make_tree(folder, noise):
    """A small folder of real files; the names and bytes in it."""
    tree = folder / "tree"
    if REAL_TREE.is_dir():
        shutil.copytree(REAL_TREE, tree, symlinks=False)
    (tree / "sub" / "deep").mkdir(parents=True)
    (tree / "sub" / "deep" / "grüße.txt").write_text("grüße")
    (tree / "sub" / "empty").write_bytes(b"")
    (tree / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (tree / "sub" / "run.sh").chmod(0o755)
    (tree / "big.bin").write_bytes(noise(2_000_000))
    return {str(p.relative_to(tree)): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "pipe",
    [
        "tar c .",
        "tar cz .",
        "tar c . | zstd -q",
        "zip -qr - .",
        "tar c --format=gnu *",
        "tar c --format=ustar .",
    ],
    ids=["tar", "tar.gz", "tar.zst", "zip", "gnu", "ustar"],
)
def test_archive_from_a_pipe(sh, repo, noise, pipe):
    files = make_tree(sh.folder, noise)
    push = f'cd tree && {pipe} | curl -T - "$U/trees/main/archive?message=real"'
    commit = json.loads(sh(push))
    assert (commit["files"], commit["bytes"]) == (len(files), sum(map(len, files.values())))
    listed = repo.files("main")
    assert set(listed) == set(files)
    assert listed["sub/run.sh"]["mode"] == "0755"
    sh(
        "mkdir back && curl $U/trees/main/archive?format=tar.gz | tar xz -C back && diff -r tree back"
    )


def test_post_of_an_archive_file(sh, repo, noise):
    files = make_tree(sh.folder, noise)
    sh("tar cf t.tar -C tree . && curl --data-binary @t.tar $U/stages/s/archive")
    assert set(repo.staged("s")) == set(files)
    sh("""curl -d '{"message": "from curl -d"}' $U/stages/s/commit""")
    assert json.loads(sh("curl $U/commits"))["items"][0]["message"] == "from curl -d"


def test_second_push_of_an_edited_tree_is_cheap(sh, noise):
    make_tree(sh.folder, noise)
    first = json.loads(sh("tar c -C tree . | curl -T - $U/trees/main/archive"))
    sh("echo edited >> tree/sub/run.sh")
    second = json.loads(sh("tar c -C tree . | curl -T - $U/trees/main/archive"))
    assert second["parent"] == first["id"]
    assert second["receipt"]["new_bytes"] < 100
    changes = json.loads(sh(f"curl $U/diff/{first['id']}/main"))["items"]
    assert [(c["path"], c["change"]) for c in changes] == [("sub/run.sh", "modified")]


def test_resume_with_curl(sh, client, repo, noise):
    data = noise(12_000_000)
    (sh.folder / "big").write_bytes(data)
    target = repo.stage_file("s", "big")
    sh("command curl -sS --limit-rate 4M --max-time 1.5 -T big $U/stages/s/files/big", code=28)

    def offset():
        head = client.head(target)
        return head.status == 204 and int(head.header("Upload-Offset"))

    def settled():
        before = offset()
        time.sleep(0.5)
        return before and before == offset() and before

    assert 0 < wait_until(settled) < len(data)
    script = """
    offset=$(curl -I $U/stages/s/files/big | tr -d '\\r' | sed -n 's/^Upload-Offset: //Ip')
    curl -C "$offset" -T big $U/stages/s/files/big
    """
    assert json.loads(sh(script))["size"] == len(data)
    assert sha256(client.get(target).body) == sha256(data)


def test_resume_by_itself_starts_over(sh, client, repo, noise):
    (sh.folder / "big").write_bytes(noise(3_000_000))
    sh("command curl -sS --limit-rate 1M --max-time 1 -T big $U/stages/s/files/big", code=28)
    sh("curl -C - -T big $U/stages/s/files/big")
    assert repo.staged("s")["big"]["size"] == 3_000_000


def test_download_resumes_and_ranges(sh, repo, noise):
    data = noise(3_000_000)
    repo.push("main", {"big": data})
    (sh.folder / "part").write_bytes(data[:1_234_567])
    sh("curl -C - -o part $U/trees/main/files/big")
    assert (sh.folder / "part").read_bytes() == data
    assert sh("curl -r 1000000-1000099 $U/trees/main/files/big") == data[1_000_000:1_000_100]
    sh(
        "curl --etag-save e -o one $U/trees/main/files/big && curl --etag-compare e -o two $U/trees/main/files/big"
    )
    assert not (sh.folder / "two").exists() or (sh.folder / "two").read_bytes() == b""


def test_events_with_curl(sh, repo):
    repo.put("s", "a", b"x")
    repo.commit("s")
    assert b"event: progress\n" in sh("curl -N $U/stages/s/events")


def test_refusal_is_read_whole_while_uploading(sh, noise):
    """The answer to an upload that is refused reaches curl, however much it still has to send."""
    (sh.folder / "big").write_bytes(noise(8_000_000))
    problem = json.loads(sh("curl -T big --path-as-is $U/stages/s/files/a/../b", code=22))
    assert problem["type"].endswith(":invalid-path")
    problem = json.loads(
        sh("curl -H Expect: -T big --path-as-is $U/stages/s/files/a/../b", code=22)
    )
    assert problem["type"].endswith(":invalid-path")
