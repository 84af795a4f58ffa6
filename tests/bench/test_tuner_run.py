# SPDX-License-Identifier: Apache-2.0
"""bench/tuner: which values it measures, what it makes of the runs, and one of everything for a moment."""

import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types

import pytest

RUN = pathlib.Path(__file__).resolve().parents[2] / "bench" / "tuner"


@pytest.fixture(scope="module")
def tuner():
    loader = importlib.machinery.SourceFileLoader("tuner", str(RUN))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("tuner", loader))
    loader.exec_module(module)
    return module


def knob(low, high, default, unit="level"):
    return {"min": low, "max": high, "default": default, "unit": unit}


@pytest.mark.parametrize("given, count, wanted", [
    (knob(1, 2, 2), 2, [1]), (knob(-7, 1, 1), 2, [-3, -1]), (knob(-7, 1, 1), 0, []),
    (knob(4, 128, 32, "bytes"), 2, [16, 64]), (knob(4, 128, 32, "bytes"), 99, [4, 8, 16, 64, 128]),
    (knob(0, 1000, 300, "us"), 2, [16, 512])])
def test_values_are_spread_without_the_default(tuner, given, count, wanted):
    assert tuner.values(given, count) == wanted


def test_the_table_compares_with_default_and_best(tuner):
    def made(setting, rate, **more):
        return {"setting": setting, "rate": rate, "last_third": rate, **more}

    decision = {"class": "large", "knob": "k", "from": 1, "to": 2, "decision": "kept", "reason": "faster"}
    runs = types.SimpleNamespace(name="large", results=[
        made("default", 100e6), made("k = 2", 125e6), {"setting": "k = 3", "error": "no"},
        made("tuner", 120e6, tuner={"decisions": [decision]}, pairs=[1.1, 1.21]), made("default, as long", 100e6)])
    text = tuner.table(runs)
    assert runs.figures["best fixed is"] == "k = 2"
    assert runs.figures["whole run to default"] == pytest.approx(1.2)
    assert runs.figures["best fixed to default"] == pytest.approx(1.25)
    assert runs.figures["learnt to default, in pairs"] == pytest.approx(1.1537, abs=1e-4)
    assert "large k: 1 -> 2: kept, faster" in text and "decisions: 1 kept" in text
    runs.results = runs.results[:1]
    assert "not enough" in tuner.table(runs)


@pytest.mark.parametrize("workload", ["small", "large"])
def test_a_run_of_a_moment(server, workload):
    with tempfile.TemporaryDirectory(prefix="digstore-bench-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        done = subprocess.run(
            [sys.executable, RUN, "--server", server, "--scale", "0.004", "--inputs", f"{folder}/inputs", "--work",
             f"{folder}/work", "--workloads", workload, "--minutes", "0.1", "--tuner-minutes", "0.1", "--warm-up",
             "1", "--pairs", "0", "--window", "200ms", "--values", "1", "--knobs", "compress_level", "--json",
             f"{folder}/out.json"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        with open(f"{folder}/out.json", encoding="utf-8") as text:
            saved = json.load(text)[0]
        assert [r["setting"] for r in saved["runs"]] == ["default", "compress_level = -3", "tuner", "default, as long"]
        assert all(r["rate"] > 0 and r["samples"] for r in saved["runs"])
        assert saved["figures"]["whole run to default"] > 0
        assert os.listdir(f"{folder}/work") == []
