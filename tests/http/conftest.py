# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the HTTP stories.

Most stories share one server and use a repository of their own; those that stop or starve a server
start one for themselves. Every answer is checked against openapi.yaml on the way.
"""

import os
import pathlib
import random
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from client import Client, Repo  # noqa: E402
from contract import Contract  # noqa: E402
from digstore_server import Server  # noqa: E402

LAST_TEST = "test_every_operation_was_called"


def pytest_configure(config):
    config.addinivalue_line("markers", "root: needs root; left out for anybody else")


def pytest_collection_modifyitems(config, items):
    """The coverage of the contract is judged last, and only when every story runs."""
    here = pathlib.Path(__file__).resolve().parent
    all_files = {p.name for p in here.glob("test_*.py")}
    whole = all_files == {item.path.name for item in items} and not config.option.keyword
    left_out, last, kept = [], [], []
    for item in items:
        if item.name == LAST_TEST:
            (last if whole else left_out).append(item)
        elif item.get_closest_marker("root") and os.geteuid() != 0:
            left_out.append(item)
        else:
            kept.append(item)
    items[:] = kept + last
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed story shows the end of the log of the server it used."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for name in ("own_server", "server"):
            server = item.funcargs.get(name)
            if isinstance(server, Server):
                report.sections.append(("log of the server", server.log_tail(30)))
                break


@pytest.fixture(scope="session")
def contract():
    return Contract()


@pytest.fixture(scope="session")
def server():
    with Server() as s:
        s.start()
        yield s


@pytest.fixture
def client(server, contract):
    if server.process.poll() is not None:
        raise AssertionError(
            f"the server ended with {server.process.returncode}\n{server.log_tail()}"
        )
    return Client(server, contract)


@pytest.fixture
def own_server():
    """A server that one story may stop, kill and start again."""
    with Server() as s:
        s.start()
        yield s


@pytest.fixture
def own_client(own_server, contract):
    return Client(own_server, contract)


_numbers = iter(range(1, 1 << 30))


def fresh_name(request):
    stem = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60].rstrip("-")
    return f"{stem}-{next(_numbers)}"


@pytest.fixture
def repo(client, request):
    """A repository that does not exist yet, on the shared server."""
    return Repo(client, fresh_name(request))


@pytest.fixture
def own_repo(own_client, request):
    """A repository that does not exist yet, on a server of the story's own."""
    return Repo(own_client, fresh_name(request))


@pytest.fixture
def noise():
    """noise(n, seed): n incompressible bytes, the same every time."""
    return lambda n, seed=0: random.Random(seed).randbytes(n)
