# SPDX-License-Identifier: Apache-2.0
"""The history of what the server did, and the tuner: what it shows, obeys and remembers."""

import datetime
import json
import threading

import pytest

from client import Client, Repo, wait_until
from conftest import fresh_name
from digstore_server import Server

TUNER = "/v1/admin/tuner"
MONITOR = "/v1/admin/monitor"
JSON = [("Content-Type", "application/json")]


def monitor(client, **query):
    answer = client.get(MONITOR, query=query)
    assert answer.status == 200, answer
    assert answer.header("Cache-Control") == "no-store"
    rows = answer.json()
    for figure in rows["figures"]:
        assert len(figure["values"]) == len(rows["at"]), figure["name"]
    return rows


def series(rows, name):
    return next(f["values"] for f in rows["figures"] if f["name"] == name)


def tuner(client):
    answer = client.get(TUNER)
    assert answer.status == 200, answer
    return answer.json()


def put(client, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.put(TUNER, data, headers=JSON)


def switch(client, mode, **more):
    answer = put(client, {"mode": mode, **more})
    assert answer.status == 200, answer
    assert answer.json()["mode"] == mode
    return answer.json()


def metrics(client):
    """name{labels} -> value."""
    lines = client.get("/metrics").body.decode().splitlines()
    return {k: float(v) for k, _, v in (x.rpartition(" ") for x in lines if x and x[0] != "#")}


def knobs(state, name="large"):
    """name -> knob of one class."""
    found = next(c for c in state["classes"] if c["class"] == name)
    return {k["name"]: k for k in found["knobs"]}


def with_settings(**settings):
    return Server(environment={f"DIGSTORE_{k.upper()}": str(v) for k, v in settings.items()})


# ---- the monitor


def test_seconds_show_what_is_done(client, repo, noise):
    before = datetime.datetime.now(datetime.timezone.utc).timestamp()
    repo.put("s", "f", noise(3_000_000))
    rows = wait_until(lambda: seen_upload(monitor(client, since=f"{before:.3f}")))
    assert rows["resolution"] == "second" and rows["interval_ms"] == 1000
    assert max(series(rows, "requests")) >= 1
    assert all(v > 1_000_000 for v in series(rows, "rss"))
    assert any(v is not None for v in series(rows, "upload_wait_p99"))


def seen_upload(rows):
    return rows if sum(series(rows, "bytes_in")) >= 1_500_000 else None


def test_since_leaves_out_what_is_known(client):
    rows = wait_until(lambda: at_least(monitor(client), 3))
    later = monitor(client, since=rows["at"][1])
    assert later["at"][0] == rows["at"][2]
    assert later["at"] == sorted(later["at"])
    assert monitor(client, since="2261-01-01T00:00:00Z")["at"] == []


def at_least(rows, count):
    return rows if len(rows["at"]) >= count else None


def test_minutes_are_of_whole_minutes(client):
    rows = monitor(client, resolution="minute")
    assert rows["interval_ms"] == 60_000
    assert all(at.endswith(":00.000000Z") for at in rows["at"])


@pytest.mark.parametrize(
    "query", [{"resolution": "hour"}, {"since": "yesterday"}, {"since": ""}, {"sinse": "1"}]
)
def test_a_question_nobody_understands(client, query):
    answer = client.get(MONITOR, query=query)
    assert (answer.status, answer.kind) == (400, "invalid-query")
    assert answer.json()["field"] in query


# ---- what is shown


def test_knobs_are_within_their_limits(client):
    state = tuner(client)
    assert state["mode_source"] == "default" and state["window_ms"] == 5000
    assert [c["class"] for c in state["classes"]] == [
        "small",
        "large",
        "mixed",
        "repeated",
        "reading",
    ]
    for found in state["classes"]:
        for knob in found["knobs"]:
            assert knob["min"] <= knob["value"] <= knob["max"], knob
            assert knob["min"] <= knob["default"] <= knob["max"], knob
            assert knob["name"] in state["values"]


def test_metrics_have_knobs_and_modes(client):
    shown, state = metrics(client), tuner(client)
    for name, value in state["values"].items():
        assert shown[f'digstore_knob{{name="{name}"}}'] == value
    assert shown['digstore_tuner_mode{mode="on"}'] + shown['digstore_tuner_mode{mode="off"}'] == 1
    assert "digstore_tuner_trials_total" in shown
    assert 'digstore_tuner_decisions_total{decision="kept"}' in shown
    assert shown['digstore_http_request_seconds_count{kind="read"}'] > 0
    assert 'digstore_ingest_commit_wait_seconds_bucket{le="+Inf"}' in shown


def test_limits_of_the_configuration_are_limits_of_the_knobs(contract):
    with with_settings(ingest_threads=1, compress_level_max=3) as server:
        server.start()
        found = knobs(tuner(Client(server, contract)))
        assert (found["ingest_workers"]["min"], found["ingest_workers"]["max"]) == (1, 1)
        assert found["compress_level"]["max"] == found["compress_level"]["value"] == 3


def test_a_fixed_knob_is_not_turned(contract):
    with with_settings(knobs_fixed="commit_group_bytes=8388608 compress_level=-3") as server:
        server.start()
        state = tuner(Client(server, contract))
        for name, value in (("commit_group_bytes", 8388608), ("compress_level", -3)):
            knob = knobs(state)[name]
            assert [knob[k] for k in ("value", "default", "min", "max")] == [value] * 4
            assert state["values"][name] == value


@pytest.mark.parametrize("text", ["compress_level=2", "compress=1", "commit_group_bytes"])
def test_a_knob_that_cannot_be_fixed_ends_the_start(text):
    with with_settings(knobs_fixed=text) as server:
        process = server.spawn()
        assert process.wait(60) == 1
        assert text.partition("=")[0] in server.log()
        server.process = None


# ---- modes


@pytest.mark.parametrize(
    "body, field",
    [
        ({}, "mode"),
        ({"mode": "perhaps"}, "mode"),
        ({"mode": ""}, "mode"),
        ({"mode": 1}, "mode"),
        ({"mode": None}, "mode"),
        ({"mode": "on", "reset": "yes"}, "reset"),
        ({"mode": "on", "reset": None}, "reset"),
        ({"mode": "on", "resett": True}, "resett"),
    ],
)
def test_a_wish_nobody_understands(client, body, field):
    before = tuner(client)["mode"]
    answer = put(client, body)
    assert (answer.status, answer.kind) == (400, "invalid-field")
    assert answer.json()["field"] == field
    assert tuner(client)["mode"] == before


def test_a_wish_that_is_no_json(client):
    assert put(client, b"mode=off").kind == "invalid-json"
    answer = client.put(TUNER, b"{}", headers=[("Content-Type", "text/plain")])
    assert (answer.status, answer.kind) == (415, "unsupported-media-type")
    answer = put(client, b"{" + b" " * 300_000 + b"}")
    assert (answer.status, answer.kind) == (413, "json-too-large")


def test_a_page_of_another_site_may_not(client):
    headers = [*JSON, ("Origin", "http://evil.example")]
    answer = client.put(TUNER, b'{"mode": "off"}', headers=headers)
    assert (answer.status, answer.kind) == (403, "access-denied")


def test_a_mode_holds_over_restarts(own_server, own_client):
    client = own_client
    assert tuner(client)["mode"] == "on"
    state = switch(client, "frozen")
    assert state["mode_source"] == "request"
    own_server.restart()
    assert (tuner(client)["mode"], tuner(client)["mode_source"]) == ("frozen", "request")
    switch(client, "off", reset=True)
    own_server.kill()
    own_server.end_leftover_database()
    own_server.start()
    assert tuner(client)["mode"] == "off"
    assert metrics(client)['digstore_tuner_mode{mode="off"}'] == 1


def test_the_configuration_wins_at_the_next_start(contract):
    with with_settings(tuner="frozen") as server:
        server.start()
        client = Client(server, contract)
        assert tuner(client)["mode_source"] == "configuration"
        state = switch(client, "on")
        assert (state["mode"], state["mode_source"]) == ("on", "request")
        server.restart()
        state = tuner(client)
        assert (state["mode"], state["mode_source"]) == ("frozen", "configuration")


# ---- learning


class Uploads:
    """Small files, new ones all the time, over a few connections."""

    def __init__(self, repo):
        self.repo = repo
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(3)]

    def run(self, number):
        count = 0
        with self.repo.client.open() as connection:
            while not self.over.is_set():
                body = f"{number} {count}".encode() * 300
                target = self.repo.stage_file("s", f"{number}/{count}")
                connection.send_head(
                    "PUT", target, [("Host", "x"), ("Content-Length", str(len(body)))]
                )
                connection.send(body)
                assert connection.response("PUT").status == 201
                count += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def same(a, b):
    """Two decisions; rates are kept to three decimals."""
    rates = ("before", "after")
    return all(a[k] == b[k] or (k in rates and abs(a[k] - b[k]) < 0.01) for k in a.keys() | b.keys())


def test_it_learns_says_so_and_remembers(contract, request):
    with with_settings(tuner_window="500ms") as server:
        server.start()
        client = Client(server, contract)
        with Uploads(Repo(client, fresh_name(request))):
            decisions = wait_until(lambda: tuner(client)["decisions"], seconds=120, pause=0.5)
            state = tuner(client)
        assert state["class"] in ("small", "mixed")
        first = decisions[-1]
        assert first["number"] == 1 and first["reason"]
        assert first["from"] != first["to"]
        assert metrics(client)["digstore_tuner_trials_total"] >= 1
        wait_until(lambda: f" tuner class={first['class']} knob={first['knob']}" in server.log())
        under_load = {c["class"]: c["load_s"] for c in state["classes"]}
        assert max(under_load.values()) > 0
        server.restart()
        again = tuner(client)
        assert same(again["decisions"][-1], first)
        for found in again["classes"]:
            assert found["load_s"] >= under_load[found["class"]]
        forgotten = switch(client, "on", reset=True)
        assert all(c["load_s"] == 0 for c in forgotten["classes"])
        assert same(forgotten["decisions"][-1], first)
        server.restart()
        assert all(c["load_s"] == 0 for c in tuner(client)["classes"])


def test_off_means_the_configured_values(contract, request, noise):
    with with_settings(tuner="off", tuner_window="100ms") as server:
        server.start()
        client = Client(server, contract)
        with Uploads(Repo(client, fresh_name(request))):
            wait_until(lambda: at_least(monitor(client), 3))
            state = tuner(client)
        assert state["decisions"] == [] and state["class"] is None
        for name, knob in knobs(state).items():
            assert state["values"][name] == knob["default"]
