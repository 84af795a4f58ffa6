# SPDX-License-Identifier: Apache-2.0
"""What counts as a row's figure, as faster, and as good enough."""

import pytest
import report
import verdicts
from rows import ROWS, Result


def judge(results, scale=1):
    return verdicts.lines(report.lines(results), results, scale)


def line_of(results, start, scale=1):
    found = [text for text in judge(results, scale) if text.split()[:2] == start.split()]
    assert len(found) == 1, judge(results, scale)
    return found[0]


def test_every_goal_is_about_a_row_that_exists():
    for row, what, _, floor, must, aim in verdicts.WANTED:
        assert row in ROWS
        marks = [m for m in (floor, must, aim) if m is not None]
        # From the weakest to the strongest.
        assert marks == sorted(marks, reverse=what in verdicts.FALLING)
        assert marks


def test_figures_are_in_the_unit_of_the_row(result, client):
    assert result("digstore", "first", 2.0).value() == pytest.approx(50)
    assert result("digstore", "singles", 2.0).value() == pytest.approx(500)
    assert result("digstore", "tree-list", client=client(3.0)).value() == 3.0


def test_a_failed_row_has_no_figure_and_no_line():
    broken = Result("digstore", "first", 0, error="refused", figures={"wall_s": 1.0})
    assert broken.value() is None
    assert not report.lines([broken])


def test_the_median_counts_and_not_the_best(result):
    runs = [result("digstore", "first", s, i) for i, s in enumerate((9.0, 1.0, 2.0))]
    line = report.lines(runs)["digstore", "first"]
    assert line.result.figures["wall_s"] == 2.0
    assert (line.fastest_s, line.slowest_s, line.runs) == (1.0, 9.0, 3)


def test_of_two_runs_the_slower_one_counts(result):
    runs = [result("digstore", "first", s, i) for i, s in enumerate((1.0, 2.0))]
    assert report.lines(runs)["digstore", "first"].result.figures["wall_s"] == 2.0


def test_ratio_is_to_the_named_row_of_nginx(result):
    found = report.lines([result("nginx", "first", 2.0), result("digstore", "again", 0.5)])
    assert found["digstore", "again"].ratio == pytest.approx(4.0)


def test_lower_times_are_faster_where_times_are_the_figure(result, client):
    found = report.lines([result("nginx", "lone", client=client(1.0)),
                          result("digstore", "lone", client=client(4.0))])
    assert found["digstore", "lone"].ratio == pytest.approx(0.25)


@pytest.mark.parametrize("seconds, verdict", [
    (0.6, "reaches the aim"), (0.61, "reaches the must"), (1.0, "reaches the must"),
    (1.01, "reaches the floor"), (5.1, "MISSES it")])
def test_marks_of_a_falling_goal(result, seconds, verdict):
    assert verdict in line_of([result("digstore", "archive", seconds)], "archive seconds")


@pytest.mark.parametrize("nginx_s, verdict", [
    (3.0, "reaches the aim"), (2.9, "reaches the must"), (1.9, "MISSES it")])
def test_marks_of_a_rising_goal(result, nginx_s, verdict):
    results = [result("nginx", "first", nginx_s), result("digstore", "first", 1.0)]
    assert verdict in line_of(results, "first x")


def test_a_small_run_is_not_judged(result):
    assert "not judged" in line_of([result("digstore", "archive", 0.1)], "archive seconds", 0.02)


def test_no_rival_no_verdict(result):
    assert not [t for t in judge([result("digstore", "first")]) if "x nginx" in t]


def test_both_ways_to_run_restic_must_be_beaten(result):
    results = [result("digstore", "archive", 1.0), result("restic", "archive", 20.0),
               result("restic-rest", "archive", 4.0)]
    line = line_of(results, "archive x")
    assert "4 times" in line and "MISSES it" in line


@pytest.mark.parametrize("cpu, written, verdict", [
    (0.95, 0, "reaches the aim"), (0.5, 950_000_000, "reaches the aim"),
    (0.85, 0, "reaches the must"), (0.5, 500_000_000, "MISSES it")])
def test_cpu_or_disk_has_to_be_busy(result, cpu, written, verdict):
    figures = {"cpu_busy_share": cpu, "disk_written_bytes": written}
    results = [result("digstore", "first", figures=figures),
               Result("disk", "write-probe", 0, figures={"bytes_per_s": 1e9})]
    assert verdict in line_of(results, "first use")


def recompressed(result, left, **rivals):
    results = [result("digstore", "recompress", figures={"left_file_bytes": left})]
    return results + [result(n, "first", stored={"blob_file_bytes": s}) for n, s in rivals.items()]


@pytest.mark.parametrize("left, verdict", [
    (64, "reaches the aim"), (66, "reaches the must"), (71, "reaches the must"), (72, "MISSES it")])
def test_recompression_is_judged_by_restic_and_borg(result, left, verdict):
    results = recompressed(result, left * 1e6, restic=66e6, borg=72e6)
    assert verdict in line_of(results, "recompress stored")


def test_recompression_without_rivals_is_only_told(result):
    line = line_of(recompressed(result, 1e6), "recompress stored")
    assert "neither" in line and "reaches" not in line


def test_packs_of_digstore_are_not_taken_for_stored_bytes(result):
    packs = result("digstore", "lone", stored={"blob_file_bytes": 64_000_000})
    assert verdicts.stored_bytes(packs) is None
    assert verdicts.stored_bytes(result("borg", "first", stored={"blob_file_bytes": 7})) == 7


def test_again_has_to_be_faster_than_first(result):
    slow = [result("digstore", "first", 1.0), result("digstore", "again", 1.5)]
    assert any("SLOWER than first" in text for text in judge(slow))
