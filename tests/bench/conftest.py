# SPDX-License-Identifier: Apache-2.0
"""The modules of bench/ for its tests, and made-up results for them to judge."""

import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from rows import Result  # noqa: E402


def make_result(target, row, wall_s=1.0, repetition=0, **more):
    """A result that worked, with the figures that every row has."""
    figures = {"wall_s": wall_s, "cpu_busy_share": 0.5, "server_hwm_bytes": 50_000_000,
               "client_peak_bytes": 10_000_000, "cpu_server_s": 0.5, "cpu_database_s": 0.1,
               "cpu_client_s": 0.1, "cpu_other_s": 0.3, "sync_after_s": 0.01,
               "disk_written_bytes": 100_000_000, "disk_read_bytes": 0, "disk_busy_share": 0.1}
    figures |= more.pop("figures", {})
    more.setdefault("work_bytes", 100_000_000)
    more.setdefault("operations", 1000)
    return Result(target, row, repetition, figures=figures, **more)


def make_client(p50, **more):
    """What a load client prints."""
    ms = {"min": p50 / 2, "p50": p50, "p90": p50 * 2, "p99": p50 * 3, "max": p50 * 4}
    return {"latency_ms": ms, "first_byte_ms": ms, "requests": 10, "reconnects": 0, **more}


@pytest.fixture
def result():
    return make_result


@pytest.fixture
def client():
    return make_client


@pytest.fixture
def server():
    return os.environ.get("DIGSTORED", str(ROOT / "build" / "digstored"))
