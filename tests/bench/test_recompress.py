# SPDX-License-Identifier: Apache-2.0
"""Phase recompress on a server that only plays it: not every server has the operation."""

import json
import types

import phase_recompress as phase
import pytest
from targets import Failure


class Server:
    """Answers one state after the other; the last one for ever."""

    folder = "/none"

    def __init__(self, *states, status=200):
        self.states = list(states)
        self.status = status

    def get(self, path):
        assert path == "/v1/admin/recompression"
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return self.status, json.dumps(state).encode()

    @staticmethod
    def url(path):
        return path


def state(requested, reason=None, replaced=0, name="running"):
    return {"state": name, "reason": reason, "error": "why", "run_requested": requested,
            "replaced": {"packs": 1, "bytes": replaced}}


def run(server, timeout=None):
    asked, waited = [], []
    bench = types.SimpleNamespace(options=types.SimpleNamespace(timeout=timeout),
                                  curl=lambda meter, arguments, size, answer: asked.append(arguments))
    left = phase.run(bench, server, types.SimpleNamespace(waited=waited.append), 1000)
    assert '{"action": "run"}' in asked[0] and len(waited) == 1
    return left


def test_a_server_without_it_is_told_and_not_failed():
    assert "has no" in phase.missing(Server({}, status=404))
    assert "switched off" in phase.missing(Server(state(False, "disabled", name="off")))
    assert phase.missing(Server(state(False, "busy", name="waiting"))) == ""


def test_it_waits_for_the_end_and_says_what_waits_to_be_removed(monkeypatch):
    monkeypatch.setattr(phase, "POLL_S", 0)
    server = Server(state(True, "busy"), state(True), state(False, "nothing-to-do", 77, "waiting"))
    assert run(server) == 77


def test_it_does_not_wait_for_what_will_not_come(monkeypatch):
    monkeypatch.setattr(phase, "POLL_S", 0)
    with pytest.raises(Failure, match="disk-full"):
        run(Server(state(True, "disk-full")))
    with pytest.raises(Failure, match="not over"):
        run(Server(state(True, "busy")), timeout=0.01)
    with pytest.raises(Failure, match="503"):
        run(Server({}, status=503))
