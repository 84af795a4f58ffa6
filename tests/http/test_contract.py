# SPDX-License-Identifier: Apache-2.0
"""The server says what it is, serves its contract, and answers what is outside of it politely."""

import json

import pytest
import yaml

from contract import ROOT


def test_root_names_server_and_links(client):
    root = client.get("/v1")
    assert root.status == 200
    for link in root.json()["links"].values():
        if not link.endswith("/events"):
            assert client.get(link).status == 200, link


def test_health(client):
    assert client.get("/healthz").json() == {"status": "ok"}


def test_readiness_has_reasons(client):
    ready = client.get("/readyz")
    assert ready.status == 200
    assert ready.json()["status"] == "ready"
    assert all(check["ok"] for check in ready.json()["checks"])
    assert ready.json()["checks"]


def test_metrics_are_prometheus_text(client):
    metrics = client.get("/metrics")
    assert metrics.status == 200
    assert metrics.header("Content-Type").startswith("text/plain")
    names = set()
    for line in metrics.body.decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            names.add(name.partition("{")[0])
            float(value)
    assert names and all(name.startswith(("digstore_", "process_")) for name in names)


def test_contract_is_served_as_it_stands(client):
    served = client.get("/openapi.yaml")
    assert served.status == 200
    assert served.body == (ROOT / "openapi.yaml").read_bytes()


def test_contract_is_served_as_json(client):
    served = client.get("/openapi.json")
    assert served.status == 200
    assert json.loads(served.body) == yaml.safe_load((ROOT / "openapi.yaml").read_text("utf-8"))


def test_every_answer_has_its_own_request_id(client):
    ids = {client.get("/healthz").header("Digstore-Request-Id") for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize(
    "target",
    ["/", "/v2", "/v1/", "/v1/repo", "/v1/repos/x/y", "/healthz/x", "/v1/repos/a/stages/b/c"],
)
def test_unknown_address_is_404(client, target):
    answer = client.get(target)
    assert answer.status == 404
    assert answer.kind == "route-not-found"


def methods(answer):
    return {m.strip() for m in answer.header("Allow").split(",")}


def whole(listed):
    """With those that the server answers by itself."""
    return listed | {"OPTIONS"} | ({"HEAD"} if "GET" in listed else set())


@pytest.mark.parametrize(
    "method, target, allowed",
    [
        ("POST", "/healthz", {"GET"}),
        ("DELETE", "/v1", {"GET"}),
        ("POST", "/v1/repos/a", {"GET", "PUT", "DELETE"}),
        ("PUT", "/v1/repos", {"GET"}),
        ("DELETE", "/v1/repos/a/stages", {"GET", "POST"}),
        ("POST", "/v1/repos/a/stages/s/files/f", {"PUT", "GET", "HEAD", "DELETE"}),
        ("GET", "/v1/repos/a/stages/s/commit", {"POST"}),
        ("DELETE", "/v1/repos/a/trees/main/files/f", {"PUT", "GET", "HEAD"}),
        ("DELETE", "/v1/repos/a/trees/main/archive", {"GET", "PUT", "POST"}),
        ("PATCH", "/v1/repos/a", {"GET", "PUT", "DELETE"}),
    ],
)
def test_wrong_method_is_405_with_allow(client, method, target, allowed):
    answer = client.request(method, target)
    assert answer.status == 405
    assert answer.kind == "method-not-allowed"
    assert methods(answer) == whole(allowed)
    assert set(answer.json()["allowed"]) == whole(allowed)


@pytest.mark.parametrize(
    "target, allowed",
    [
        ("/v1/repos/a", {"GET", "PUT", "DELETE"}),
        ("/v1/repos/a/stages/s/commit", {"POST"}),
        ("/v1/repos/a/trees/main/files/f", {"PUT", "GET", "HEAD"}),
    ],
)
def test_options_tell_the_methods(client, target, allowed):
    answer = client.request("OPTIONS", target)
    assert answer.status == 204
    assert methods(answer) == whole(allowed)


def test_options_of_an_unknown_address(client):
    assert client.request("OPTIONS", "/v2").status == 404


@pytest.mark.parametrize("target", ["/v1", "/v1/repos", "/healthz", "/openapi.json"])
def test_head_is_there_where_get_is(client, target):
    get, head = client.get(target), client.head(target)
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Type", "Content-Length"):
        assert head.header(name) == get.header(name)


def test_head_of_what_is_not_there(client):
    for target in ("/v1/repos/no-such-repository", "/v2"):
        answer = client.head(target)
        assert (answer.status, answer.body) == (404, b"")


def test_unknown_query_parameter_is_refused(client):
    answer = client.get("/v1/repos?limt=3")
    assert answer.status == 400
    assert answer.kind == "invalid-query"
    assert answer.json()["field"] == "limt"


def test_repeated_query_parameter_is_refused(client):
    answer = client.get("/v1/repos?limit=3&limit=4")
    assert answer.status == 400
    assert answer.kind == "invalid-query"


def test_body_where_none_is_taken_is_refused(client):
    answer = client.request("GET", "/v1/repos", b"hello")
    assert answer.status == 400
    assert answer.kind == "body-mismatch"


def test_keep_alive_serves_many_requests(client, contract):
    with client.open() as connection:
        for _ in range(5):
            connection.send_head("GET", "/healthz", [("Host", "x")])
            answer = connection.response()
            contract.check("GET", "/healthz", answer)
            assert answer.status == 200


def test_pipelined_requests_are_answered_in_order(client):
    with client.open() as connection:
        connection.send(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert connection.response().json() == {"status": "ok"}
        assert connection.response().json() == {"status": "ok"}
        assert connection.response().json()["name"] == "digstore"


def test_every_operation_was_called(contract):
    """Runs last; see conftest.py."""
    assert contract.never_called() == []
