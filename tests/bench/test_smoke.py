# SPDX-License-Identifier: Apache-2.0
"""One run of everything at a tiny scale: every row works, what comes back is checked, all is written."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

RUN = pathlib.Path(__file__).resolve().parents[2] / "bench" / "run"
SCALE = "0.004"
# Rows that a whole run has; import, recompress and those of peers are not among them.
DIGSTORE = ("first", "again", "download", "ranges", "edit", "archive", "archive-again", "archive-get",
            "restore", "singles", "lone", "parallel", "fair", "readers-same", "readers-apart", "first-byte",
            "tree-build", "tree-list", "tree-push")
CHECKS = ("content of big.bin", "content of edited.bin", "content of ranges", "content of the archive",
          "content of the directory", "content of single files", "content of parallel uploads", "listing")


@pytest.fixture(scope="module")
def folder():
    """Not below pytest's private folder: a server that was started as root runs as somebody else."""
    with tempfile.TemporaryDirectory(prefix="digstore-bench-", dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield path


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, RUN, "--scale", SCALE, "--repeat", "1", "--no-peers", "--inputs", f"{folder}/inputs",
         "--work", f"{folder}/work", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)


def test_a_whole_run(folder, server):
    done = run(folder, "--server", server, "--json", f"{folder}/out.json", "--save", "--results",
               f"{folder}/results", "--label", "smoke")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for check in CHECKS:
        assert f"{check}: checked" in done.stdout
    with open(f"{folder}/out.json", encoding="utf-8") as text:
        saved = json.load(text)
    assert not [r for r in saved["results"] if r["error"] or r["skipped"]]
    rows = {r["row"] for r in saved["results"] if r["target"] == "digstore" and r["value"]}
    assert rows >= set(DIGSTORE)
    kinds = sorted(os.path.splitext(n)[1] for n in os.listdir(f"{folder}/results"))
    assert kinds[:2] == [".json", ".md"] and set(kinds[2:]) == {".svg"}
    # Nothing is left lying about.
    assert os.listdir(f"{folder}/work") == []


def test_a_server_that_does_not_start_fails_the_run(folder):
    done = run(folder, "--server", "/bin/false", "--phases", "tree")
    assert done.returncode == 1
    assert "FAILED" in done.stdout


@pytest.mark.parametrize("arguments, said", [
    (["--phases", "huge"], "there are only"), (["--peers", "tape"], "there are only"),
    (["--scale", "1000"], "must be within"), (["--env", "X"], "wants NAME=VALUE"),
    (["--repeat", "0"], "must be within")])
def test_wrong_arguments_are_refused(folder, arguments, said):
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
