# SPDX-License-Identifier: Apache-2.0
"""Progress: the truth while it runs, by polling, by waiting and as events; also after a restart."""

import json
import threading
import time

import pytest

from client import wait_until


def progress(client, repo, stage="s", **query):
    answer = client.get(f"{repo.stage(stage)}/progress", query=query)
    assert answer.status == 200, answer
    return answer.json()


class Events:
    """A stream of Server-Sent Events."""

    def __init__(self, client, target, headers=(), timeout=30):
        self.client = client
        self.connection = client.open(timeout)
        self.connection.send_head(
            "GET", target, client.head_lines([("Accept", "text/event-stream"), *headers])
        )
        self.answer = self.connection.start("GET")
        self.status, self.headers, self.body = self.answer.status, self.answer.headers, b""
        client.contract.check("GET", target, self)

    def header(self, name):
        return self.headers.get(name)

    def next(self):
        """The next event as (name, id, progress), or None at the end of the stream."""
        fields = {}
        while line := self.answer.readline():
            line = line.decode().rstrip("\r\n")
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif not line and "data" in fields:
                value = json.loads(fields["data"])
                self.client.contract.fits_named("progress", value)
                return fields.get("event"), fields.get("id"), value
        return None

    def until(self, wanted):
        while event := self.next():
            if wanted(event[2]):
                return event[2]
        raise AssertionError("the stream ended too early")

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_numbers_after_uploads(client, repo, noise):
    data = noise(1_000_000)
    repo.put("s", "a", data)
    repo.put("s", "b", data)
    state = progress(client, repo)
    assert (state["repo"], state["stage"], state["state"]) == (repo.name, "s", "open")
    assert state["files"]["received"] == 2
    counted = state["bytes"]
    assert (
        counted["received"]
        == counted["chunked"]
        == counted["hashed"]
        == counted["durable"]
        == 2_000_000
    )
    assert (counted["new"], counted["deduplicated"]) == (1_000_000, 1_000_000)
    assert state["uploads"] == []
    commit = repo.commit("s")
    state = progress(client, repo)
    assert (state["state"], state["phase"], state["percent"]) == ("committed", "finalizing", 100)
    assert commit["receipt"]["logical_bytes"] == state["bytes"]["received"]


def test_new_stage_has_nothing(client, repo):
    client.put(repo.stage("s"))
    state = progress(client, repo)
    assert (state["state"], state["phase"]) == ("open", "analyzing")
    assert set(state["bytes"].values()) == {0}


def test_running_upload_is_seen(client, repo, noise):
    data = noise(4_000_000)
    with client.open() as slow:
        slow.send_head(
            "PUT",
            repo.stage_file("s", "big"),
            client.head_lines([("Content-Length", str(len(data)))]),
        )
        slow.send(data[:3_000_000])

        def seen():
            answer = client.get(f"{repo.stage('s')}/progress")
            return (
                answer.status == 200
                and answer.json()["bytes"]["received"] == 3_000_000
                and answer.json()
            )

        state = wait_until(seen)
        (upload,) = state["uploads"]
        assert upload == {"path": "big", "received": 3_000_000, "total": 4_000_000}
        assert state["bytes"]["durable"] <= 3_000_000
        assert state["bytes"]["total"] == 4_000_000
        assert 0 < state["percent"] < 100
        listed = [p for p in client.all_items("/v1/progress") if p["repo"] == repo.name]
        assert [p["stage"] for p in listed] == ["s"]
        slow.send(data[3_000_000:])
        assert slow.response("PUT").status == 201
    state = progress(client, repo)
    assert (state["bytes"]["durable"], state["uploads"]) == (4_000_000, [])


def test_one_shot_can_be_watched(client, repo, noise):
    data = noise(2_000_000)
    with client.open() as slow:
        target = repo.tree_file("main", "big") + "?stage=watch"
        slow.send_head("PUT", target, client.head_lines([("Content-Length", str(len(data)))]))
        slow.send(data[:1_500_000])

        def seen():
            answer = client.get(f"{repo.stage('watch')}/progress")
            return answer.status == 200 and answer.json()["bytes"]["received"] == 1_500_000

        wait_until(seen)
        slow.send(data[1_500_000:])
        assert slow.response("PUT").status == 201
    assert progress(client, repo, "watch")["state"] == "committed"


def test_many_small_files_are_noticed(client, repo):
    for i in range(300):
        repo.put("s", f"f{i}", b"%d" % i)
    assert progress(client, repo)["workload"] == "many_small"
    assert client.get(repo.stage("s")).json()["workload"] == "many_small"


def test_etag(client, repo):
    repo.put("s", "a", b"1")
    target = f"{repo.stage('s')}/progress"
    answer = wait_until(lambda: settled(client, target))
    same = client.get(target, headers={"If-None-Match": answer.header("ETag")})
    assert same.status == 304
    repo.put("s", "b", b"2")
    changed = client.get(target, headers={"If-None-Match": answer.header("ETag")})
    assert changed.status == 200
    assert changed.json()["seq"] > answer.json()["seq"]


def settled(client, target):
    """The progress once its seq stands still (the rate goes to zero after the last upload)."""
    first = client.get(target)
    time.sleep(0.3)
    second = client.get(target)
    return second if second.json()["seq"] == first.json()["seq"] else None


def test_long_poll_wakes_up(client, repo):
    repo.put("s", "a", b"1")
    state = wait_until(lambda: settled(client, f"{repo.stage('s')}/progress")).json()
    timer = threading.Timer(0.5, lambda: repo.put("s", "b", b"2"))
    timer.start()
    begin = time.monotonic()
    later = progress(client, repo, since=state["seq"], wait=20)
    timer.join()
    assert later["seq"] > state["seq"]
    assert 0.3 < time.monotonic() - begin < 15


def test_long_poll_ends_in_time(client, repo):
    repo.put("s", "a", b"1")
    state = wait_until(lambda: settled(client, f"{repo.stage('s')}/progress")).json()
    begin = time.monotonic()
    same = progress(client, repo, since=state["seq"], wait=1)
    assert 0.8 < time.monotonic() - begin < 10
    assert same["seq"] == state["seq"]


def test_long_poll_answers_at_once_if_there_is_news(client, repo):
    repo.put("s", "a", b"1")
    begin = time.monotonic()
    progress(client, repo, since=0, wait=30)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "query", ["wait=61", "wait=-1", "wait=x", "since=-1", "since=x", "since=18446744073709551616"]
)
def test_bad_queries(client, repo, query):
    client.put(repo.stage("s"))
    answer = client.get(f"{repo.stage('s')}/progress?{query}")
    assert (answer.status, answer.kind) == (400, "invalid-query")


def test_unknown_stage(client, repo):
    client.put(repo.base)
    for call in ("progress", "events"):
        answer = client.get(f"{repo.stage('s')}/{call}")
        assert (answer.status, answer.kind) == (404, "stage-not-found")


def test_events_of_a_stage(client, repo, noise):
    client.put(repo.stage("s"))
    with Events(client, f"{repo.stage('s')}/events") as events:
        assert events.header("Content-Type").startswith("text/event-stream")
        name, number, first = events.next()
        assert (name, number) == ("progress", str(first["seq"]))
        assert first["bytes"]["received"] == 0
        repo.put("s", "a", noise(500_000))
        events.until(lambda p: p["bytes"]["durable"] == 500_000 and p["files"]["received"] == 1)
        repo.commit("s")
        last = events.until(lambda p: p["state"] == "committed")
        assert last["percent"] == 100
        assert events.next() is None


def test_events_of_a_finished_stage(client, repo):
    repo.put("s", "a", b"1")
    repo.commit("s")
    with Events(client, f"{repo.stage('s')}/events") as events:
        assert events.next()[2]["state"] == "committed"
        assert events.next() is None


def test_sequence_of_events_grows(client, repo):
    client.put(repo.stage("s"))
    numbers = []
    with Events(client, f"{repo.stage('s')}/events") as events:
        for i in range(5):
            repo.put("s", f"f{i}", b"x")
        repo.commit("s")
        while event := events.next():
            numbers.append(event[2]["seq"])
    assert numbers == sorted(set(numbers))


def test_events_of_the_server(client, repo):
    with Events(client, "/v1/events") as events:
        repo.put("s", "a", b"1")
        events.until(lambda p: p["repo"] == repo.name and p["files"]["received"] == 1)
        repo.commit("s")
        events.until(lambda p: p["repo"] == repo.name and p["state"] == "committed")


def test_watchers_do_not_hold_the_server(client, repo):
    """Many streams and waiting polls are open; ordinary work goes on."""
    client.put(repo.stage("s"))
    streams = [Events(client, f"{repo.stage('s')}/events") for _ in range(20)]
    polls = [client.open() for _ in range(20)]
    try:
        for poll in polls:
            poll.send_head(
                "GET", f"{repo.stage('s')}/progress?since=999999999&wait=5", client.head_lines([])
            )
        begin = time.monotonic()
        repo.put("s", "a", b"1")
        assert client.get(repo.base).status == 200
        assert time.monotonic() - begin < 3
        for stream in streams:
            stream.until(lambda p: p["files"]["received"] == 1)
    finally:
        for closing in (*streams, *polls):
            closing.close()


def test_progress_survives_a_restart(own_server, own_client, own_repo, noise):
    client, repo = own_client, own_repo
    repo.put("s", "a", noise(300_000))
    repo.put("t", "b", b"1")
    repo.commit("t")
    before = progress(client, repo)
    own_server.kill()
    own_server.start()
    after = progress(client, repo)
    assert after["seq"] >= before["seq"]
    assert (after["files"], after["bytes"]) == (before["files"], before["bytes"])
    assert progress(client, repo, "t")["state"] == "committed"
    repo.put("s", "c", b"2")
    later = progress(client, repo)
    assert later["files"]["received"] == 2
    assert later["seq"] > after["seq"]
