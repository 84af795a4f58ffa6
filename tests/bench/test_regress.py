# SPDX-License-Identifier: Apache-2.0
"""bench/regress: what it calls slower, and that it says so and ends with 1."""

import json
import os
import pathlib
import subprocess
import sys

import builds
import compare
import counting
import pytest

REGRESS = pathlib.Path(__file__).resolve().parents[2] / "bench" / "regress"


def judge(a, b, threshold=0.1):
    return compare.judge("stage", "ns", a, b, threshold)


def test_the_same_is_the_same():
    verdict = judge([1.0, 1.01, 0.99, 1.0, 1.02], [1.01, 1.0, 0.99, 1.03, 1.0])
    assert verdict.word() == "same"


def test_a_third_slower_is_found():
    verdict = judge([1.0, 1.01, 0.99, 1.0, 1.02], [1.33, 1.34, 1.31, 1.33, 1.36])
    assert verdict.slower and verdict.change == pytest.approx(0.33)


def test_less_than_the_threshold_is_no_failure():
    assert not judge([1.0] * 5, [1.09] * 5).slower
    assert judge([1.0] * 5, [1.11] * 5).slower


def test_faster_is_the_mirror_of_slower():
    slow, fast = [1.3, 1.31, 1.29], [1.0, 1.01, 0.99]
    assert judge(fast, slow).word() == "SLOWER"
    assert judge(slow, fast).word() == "faster"


def test_noise_hides_a_difference_of_its_own_size():
    assert not judge([1.0, 1.6, 0.8, 1.3, 1.1], [1.2, 1.9, 0.9, 1.4, 1.5]).slower


def test_a_disturbed_median_does_not_outvote_an_undisturbed_best_round():
    assert not judge([1.0, 1.0, 1.0], [1.0, 1.5, 1.5]).slower


def test_what_is_far_apart_is_found_on_a_very_noisy_machine():
    assert judge([1.0, 2.5, 1.3, 1.9], [11.0, 25.0, 12.0, 18.0]).slower
    # No round of the one is as good as any of the other.
    assert judge([1.0, 1.9, 1.2, 1.6], [2.0, 3.1, 2.2, 4.0]).slower
    assert not judge([1.0, 2.1, 1.2, 1.6], [2.0, 3.1, 2.2, 4.0]).slower


def test_what_is_not_there_is_not_judged():
    assert judge([], [1.0]) is None
    assert judge([0.0], [1.0]) is None
    assert compare.judge_all({"x": [1.0]}, {"y": [1.0]}, {}, 0.1) == []
    assert compare.only_in_one({"x": [], "z": []}, {"y": [], "z": []}) == ["x", "y"]


def test_counts_have_no_noise():
    assert compare.judge_exactly("s", "instructions", 100, 111, 0.1).slower
    assert not compare.judge_exactly("s", "instructions", 100, 109, 0.1).slower
    assert compare.judge_exactly("s", "instructions", None, 109, 0.1) is None


def test_a_doubt_has_to_be_confirmed():
    first = [judge([1.0] * 3, [2.0] * 3)]
    assert not compare.confirm(first, [judge([1.0] * 3, [1.0] * 3)])[0].slower
    assert compare.confirm(first, [judge([1.0] * 3, [2.0] * 3)])[0].slower
    # Not measured again: it stays.
    assert compare.confirm(first, [])[0].slower


def test_counts_are_read_from_perf_and_valgrind():
    assert counting.parse_perf("1234567,,instructions:u,1002,100.00,,\n") == 1234567
    assert counting.parse_perf("<not supported>,,instructions:u,0,100.00,,\n") is None
    assert counting.parse_valgrind("==7== \n==7== I   refs:      238,023,774\n") == 238023774
    assert counting.parse_valgrind("==7== no such program\n") is None
    one = json.dumps({"version": 1, "stages": [{"stage": "xxh3", "units": 7}]})
    assert counting.units_of(one, "xxh3") == 7
    assert counting.units_of(one, "other") == 0
    assert counting.units_of("", "xxh3") == 0


MICRO = """\
#!{python}
import json, sys
stages = {stages}
if "--list" in sys.argv:
    print(*stages, sep="\\n")
else:
    asked = [sys.argv[i + 1] for i, a in enumerate(sys.argv) if a == "--stage"]
    print(json.dumps({{"version": 1, "stages": [
        {{"stage": n, "ns": v, "cpu_ns": v}} for n, v in stages.items() if not asked or n in asked]}}))
"""


def make_build(folder, **stages):
    """A folder that looks like a build whose stages take so long."""
    (folder / "bench").mkdir(parents=True)
    micro = folder / "bench" / "micro"
    micro.write_text(MICRO.format(python=sys.executable, stages=stages))
    server = folder / "digstored"
    server.write_text("#!/bin/sh\n")
    for program in (micro, server):
        os.chmod(program, 0o755)
    return folder


def regress(tmp_path, a, b, *more):
    return subprocess.run(
        [sys.executable, REGRESS, a, b, "--no-macro", "--no-count", "--rounds", "3", "--work",
         tmp_path / "work", *more], capture_output=True, text=True, timeout=60, check=False)


def test_the_same_build_twice_passes(tmp_path):
    build = make_build(tmp_path / "a", hash=1.0, cut=2.0)
    done = regress(tmp_path, build, build)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is slower" in done.stdout


def test_a_slower_build_fails_and_the_stage_is_named(tmp_path):
    a = make_build(tmp_path / "a", hash=1.0, cut=2.0, gone=1.0)
    b = make_build(tmp_path / "b", hash=1.0, cut=2.6)
    done = regress(tmp_path, a, b, "--json", tmp_path / "out.json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "SLOWER: cut (stages: time, +30.0 %)" in done.stdout
    assert "SLOWER: hash" not in done.stdout
    assert "only in one of them, not compared: gone" in done.stdout
    assert json.loads((tmp_path / "out.json").read_text())["figures"]["stages"][1]["cut"] == [2.6] * 3
    assert regress(tmp_path, b, a).returncode == 0
    assert regress(tmp_path, a, b, "--threshold", "50").returncode == 0


def test_what_is_no_build_is_refused(tmp_path):
    build = make_build(tmp_path / "a", hash=1.0)
    done = regress(tmp_path, build, "no-such-revision")
    assert done.returncode == 2
    assert "neither a build folder nor a revision" in done.stderr
    assert regress(tmp_path, build, "--output=/tmp/x").returncode == 2
    assert regress(tmp_path, build, build, "--rounds", "2").returncode == 2
    with pytest.raises(builds.BuildFailure):
        builds.revision("--help", str(tmp_path))


def test_a_build_without_micro_leaves_nothing_to_compare(tmp_path):
    a, b = make_build(tmp_path / "a", hash=1.0), make_build(tmp_path / "b", hash=1.0)
    (b / "bench" / "micro").unlink()
    done = regress(tmp_path, a, b)
    assert done.returncode == 2
    assert "are not compared" in done.stdout


def test_costs_of_a_run_grow_when_it_gets_slower():
    # The script has no .py of its own.
    source = compile(REGRESS.read_text(), str(REGRESS), "exec")
    module = {"__name__": "regress", "__file__": str(REGRESS)}
    exec(source, module)  # noqa: S102
    results = [{"target": "digstore", "row": "first", "value": 500.0,
                "figures": {"wall_s": 2.0, "server_hwm_bytes": 90e6, "cpu_server_s": 1.5,
                            "cpu_database_s": 0.5}},
               {"target": "digstore", "row": "singles", "value": 900.0,
                "figures": {"wall_s": 3.0, "server_hwm_bytes": 30e6, "commit_s": 0.25,
                            "cpu_server_s": 0.1}},
               {"target": "digstore", "row": "tree-push", "value": 4.0, "figures": {"wall_s": 1.0}},
               {"target": "digstore", "row": "restore", "value": 4.0, "figures": {"wall_s": 1.0}},
               {"target": "disk", "row": "write-probe", "value": None, "figures": {}}]
    assert module["costs_of_run"](results) == {
        "first, s": 2.0, "first, s of CPU": 2.0, "first, MB of memory": 90.0, "singles, s": 3.0,
        "singles, MB of memory": 30.0, "singles, s of its commit": 0.25, "tree-push, ms": 4.0}
