# SPDX-License-Identifier: Apache-2.0
"""Tables, page and plots out of made-up results."""

import json
import re
import types
import xml.etree.ElementTree as ElementTree

import machine
import page
import plots
import pytest
import report

FACTS = {"cpu": "a CPU", "cores": 2, "memory_bytes": 2**34, "kernel": "6", "system": "Debian",
         "file_system": "ext4 rw", "load_before": 0.1, "load_after": 1.5, "minutes": 3.5,
         "command": "bench/run --save", "settings": ["DIGSTORE_X=1"], "digstored": "digstored 1",
         "commit": "abc", "nginx": "nginx 1", "curl": "curl 7", "peers": ["borg 1.2"]}


class Inputs:
    scale = 1.0
    manifest = {"small": {"count": 3, "bytes": 10, "distinct_contents": 2}, "notes": ["too few files"],
                "files": {}, "edited": {"places": []}}

    @staticmethod
    def size(_name):
        return 5_000_000_000


@pytest.fixture
def results(result, client):
    return [result("nginx", "first", 2.0, stored={"blob_file_bytes": 100_000_000}),
            result("digstore", "first", 1.0, receipt={
                "stored_bytes": 70_000_000, "logical_bytes": 100, "new_bytes": 90,
                "seconds": {"hash": 0.5, "sync": 0.1}}, figures={"resident_share": 1.0}),
            result("borg", "first", 4.0, stored={"blob_file_bytes": 71_000_000},
                   figures={"server_hwm_bytes": None, "cpu_server_s": None, "cpu_database_s": None}),
            result("digstore", "fair", client=client(100.0)),
            result("digstore", "tree-list", client=client(2.5))]


def test_ratios_to_each_of_the_others(results):
    others, ratios = report.speeds(report.lines(results))
    assert others == ["nginx", "borg"]
    assert ratios == {"first": {"nginx": pytest.approx(2.0), "borg": pytest.approx(4.0)}}


def test_tables_are_rectangular_and_in_order(results):
    found = report.lines(results)
    for head, body in ((report.MAIN_HEAD, report.main_rows(found)),
                       (report.TIME_HEAD, report.time_rows(found)), report.beside(found),
                       report.sizes(found)):
        assert body
        assert all(len(line) == len(head) for line in body)
    assert [line[1] for line in report.main_rows(found)][:3] == ["nginx", "digstore", "borg"]


def test_stored_bytes_side_by_side(results):
    head, body = report.sizes(report.lines(results))
    assert dict(zip(head, body[0])) == {"MB stored by": "first upload of the big file", "given": "100.0",
                                        "nginx": "100.0", "digstore": "70.0", "borg": "71.0"}


def test_a_cold_row_is_named(result):
    cold = result("digstore", "ranges", figures={"resident_share": 1.0, "disk_read_bytes": 50_000_000})
    warm = result("nginx", "ranges", figures={"resident_share": 1.0})
    lines = report.warmth_lines(report.lines([cold, warm]))
    assert "NOT WARM" not in lines[0] and "NOT WARM" in lines[1]


def test_fairness_says_how_far_apart_they_were(results):
    (line,) = report.fairness_lines(report.lines(results))
    assert "slowest/fastest 8.0" in line and "slowest/p50 4.0" in line


def test_failures_and_omissions_have_their_own_sections(results, result):
    broken = result("restic", "first")
    broken.error = "no space"
    left_out = result("digstore", "recompress")
    left_out.skipped, left_out.figures = "not there", {}
    everything = [*results, broken, left_out]
    parts = dict(report.sections(FACTS, Inputs, everything, report.lines(everything), []))
    assert parts["Failed"] == ["restic first: no space"]
    assert parts["Skipped"] == ["digstore recompress: not there"]


def test_json_holds_every_result(results):
    data = json.loads(report.as_json(FACTS, Inputs, {"scale": 1.0}, results))
    assert [r["row"] for r in data["results"]] == [r.row for r in results]
    assert data["results"][0]["value"] == 50.0 and data["results"][0]["unit"] == "MB/s"
    assert "edited" not in data["inputs"]


def test_the_page_stands_alone(results):
    found = report.lines(results)
    files = dict(page.files("run", FACTS, report.sections(FACTS, Inputs, results, found, []), found))
    text = files[".md"]
    for part in ("bench/run --save", "a CPU", "borg 1.2", "too few files", "DIGSTORE_X=1", "x borg"):
        assert part in text
    shown = re.findall(r"!\[[^]]+\]\(run(-[a-z]+\.svg)\)", text)
    assert set(shown) == set(files) - {".md"} and shown


def test_plots_are_svg_whatever_the_labels(results):
    found = report.lines(results)
    files = dict(page.files("run", FACTS, [], found))
    odd = plots.bars("<&>", "'\"", [("a < b & c", {"x'y": 0.5, "z": 2000.0})], ["x'y", "z"], "1/s", log=True)
    for svg in [odd, plots.stacked("t", "n", [("a", {"x": 2.0, "y": -1.0})], ["x", "y"]),
                *(content for suffix, content in files.items() if suffix.endswith(".svg"))]:
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        width = float(root.get("width"))
        for box in root.iter("{http://www.w3.org/2000/svg}rect"):
            assert float(box.get("x") or 0) + float(box.get("width")) <= width + 1


def test_nothing_to_plot_gives_no_plot():
    assert plots.bars("t", "n", [], ["x"], "s") == ""
    assert plots.stacked("t", "n", [], ["x"]) == ""


def test_commands_are_shown_without_paths_and_secrets():
    shown = machine.command_line(["--scale", "1", "--work", "/somewhere", "--env", "A=secret", "--env=B=c",
                                  "--inputs=/there", "--save"])
    assert shown == "bench/run --scale 1 --save"
    options = types.SimpleNamespace(server="/none", targets=[], env=[("A", "postgres://u:p@h/"), ("B", "1")])
    assert machine.facts("/", options, [])["settings"] == ["A=...", "B=1"]
