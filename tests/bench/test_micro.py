# SPDX-License-Identifier: Apache-2.0
"""micro and the load clients build, and micro says what regress reads."""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DIGSTORE_BUILD", ROOT / "build"))


@pytest.fixture(scope="module")
def micro():
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(["make", "-s", "-C", BUILD, "bench"], env=env, capture_output=True, text=True,
                          timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    def run(*arguments):
        return subprocess.run([BUILD / "bench" / "micro", *arguments], capture_output=True, text=True,
                              timeout=120, check=False)
    return run


def stages(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["stages"]


def test_every_stage_runs_and_has_a_name_of_its_own(micro, tmp_path):
    names = micro("--list", "--dir", tmp_path).stdout.splitlines()
    assert len(names) == len(set(names)) > 40
    for group in ("receive", "chunker", "sha256", "probe", "zstd", "expand", "xxh3", "pack", "bloom", "known",
                  "stage map", "recipe", "tree"):
        assert any(n.startswith(group) for n in names), group
    # Slow levels of zstd need seconds for one pass.
    quick = [n for n in names if "9, " not in n]
    measured = stages(micro("--json", "--seconds", "0.001", "--dir", tmp_path,
                            *(a for n in quick for a in ("--stage", n))))
    assert {s["stage"] for s in measured} >= set(quick)
    for stage in measured:
        assert stage["ns"] > 0 and stage["cpu_ns"] > 0 and stage["unit"]
    assert list(tmp_path.iterdir()) == []


def test_passes_are_made_and_not_measured(micro):
    assert stages(micro("--passes", "2", "--stage", "xxh3")) == [
        {"stage": "xxh3", "unit": "byte", "units": 1 << 20, "passes": 2}]


def test_a_file_is_one_more_input(micro):
    names = micro("--list", "--file", __file__).stdout.splitlines()
    assert "zstd 1, file" in names
    assert micro("--list", "--file", "/does/not/exist").returncode == 1


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--passes", "x"], ["--stages"], ["more"]])
def test_wrong_arguments_are_refused(micro, arguments):
    done = micro(*arguments)
    assert done.returncode == 2
    assert "usage" in done.stderr
