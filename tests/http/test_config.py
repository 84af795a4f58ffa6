# SPDX-License-Identifier: Apache-2.0
"""The command line and the settings: one table, clear precedence, mistakes named with their line."""

import re
import subprocess

import pytest

from client import wait_until
from digstore_server import BINARY, Server, clean_environment, free_port


def run(*arguments, environment=None):
    return subprocess.run(
        [BINARY, *arguments],
        env={**clean_environment(), **(environment or {})},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def printed(*arguments, environment=None):
    """key -> value of --print-config."""
    done = run("--print-config", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    pairs = re.findall(r"^\s*([a-z][a-z0-9_.-]*)\s*=\s*(.*?)\s*$", done.stdout, re.MULTILINE)
    return {key.replace("-", "_"): value.strip('"') for key, value in pairs}


@pytest.fixture
def ini(tmp_path):
    path = tmp_path / "digstore.ini"

    def write(text):
        path.write_text(text)
        path.chmod(0o644)
        tmp_path.chmod(0o755)
        return str(path)

    return write


def test_help():
    done = run("--help")
    assert done.returncode == 0
    for word in (
        "--listen",
        "--data-dir",
        "--database-url",
        "--config",
        "--check-config",
        "--print-config",
        "--version",
        "--insecure-no-auth",
    ):
        assert word in done.stdout
    assert done.stderr == ""


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert re.match(r"digstored \d+\.\d+", done.stdout)


def test_defaults():
    settings = printed()
    assert settings["listen"] == "127.0.0.1:8420"
    assert "data_dir" in settings


def test_every_setting_is_in_the_help():
    text = run("--help").stdout
    for key in printed():
        assert f"--{key.replace('_', '-')}" in text


def test_precedence(ini):
    path = ini("listen = 127.0.0.1:1001\ndata_dir = /from/file\n")
    assert printed("--config", path)["listen"] == "127.0.0.1:1001"
    environment = {"DIGSTORE_LISTEN": "127.0.0.1:1002"}
    settings = printed("--config", path, environment=environment)
    assert (settings["listen"], settings["data_dir"]) == ("127.0.0.1:1002", "/from/file")
    settings = printed("--config", path, "--listen", "127.0.0.1:1003", environment=environment)
    assert settings["listen"] == "127.0.0.1:1003"
    assert printed("--listen=127.0.0.1:1004")["listen"] == "127.0.0.1:1004"


def test_printed_config_is_a_config(ini):
    done = run("--print-config", "--listen", "127.0.0.1:1005")
    path = ini(done.stdout)
    assert run("--check-config", "--config", path).returncode == 0
    assert printed("--config", path)["listen"] == "127.0.0.1:1005"


def test_check_config_is_silent_about_a_good_one(ini):
    done = run("--check-config", "--config", ini("# a comment\n\nlisten = 127.0.0.1:8420\n"))
    assert done.returncode == 0


@pytest.mark.parametrize(
    "text, line, word",
    [
        ("# fine\n\nlisten = 127.0.0.1:1\nlissten = 127.0.0.1:2\n", 4, "lissten"),
        ("listen = nowhere\n", 1, "listen"),
        ("# x\nlisten = 127.0.0.1:99999\n", 2, "listen"),
        ("listen\n", 1, "listen"),
        ("a = b = c\n", 1, "a"),
        ("listen = 127.0.0.1:1\nlisten = 127.0.0.1:2\n", 2, "listen"),
    ],
)
def test_mistake_in_the_file_names_its_line(ini, text, line, word):
    path = ini(text)
    for arguments in (("--check-config",), ()):
        done = run(*arguments, "--config", path)
        assert done.returncode != 0
        assert f"{path}:{line}" in done.stderr, done.stderr
        assert word in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lisen", "x"),
        ("--listen",),
        ("--listen", "nowhere"),
        ("surplus",),
        ("--config", "/no/such/file"),
    ],
)
def test_mistake_on_the_command_line(arguments):
    done = run("--check-config", *arguments)
    assert done.returncode != 0
    assert arguments[-1] in done.stderr or arguments[0] in done.stderr


def test_mistake_in_the_environment():
    done = run("--check-config", environment={"DIGSTORE_LISTEN": "nowhere"})
    assert done.returncode != 0
    assert "DIGSTORE_LISTEN" in done.stderr


def test_unknown_setting_in_the_environment():
    """A warning: orchestrators put names of their own into the environment."""
    done = run("--check-config", environment={"DIGSTORE_LISSTEN": "127.0.0.1:1"})
    assert done.returncode == 0
    assert "DIGSTORE_LISSTEN" in done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0", "*", "[::]"])
def test_open_addresses_need_a_word(address):
    done = run("--check-config", "--listen", f"{address}:{free_port()}")
    assert done.returncode != 0
    assert "--insecure-no-auth" in done.stderr
    with Server() as server:
        process = server.spawn(["--listen", f"{address}:{server.port}"])
        assert process.wait(30) != 0
        assert "insecure-no-auth" in server.log()
        server.process = None


def test_open_address_with_the_word():
    with Server() as server:
        server.spawn(["--listen", f"0.0.0.0:{server.port}", "--insecure-no-auth"])
        server.wait_ready()
        server.stop()


def test_start_prints_address_and_curl_lines(own_server):
    # It is printed once requests are answered, so a request can be answered before it is there.
    assert wait_until(lambda: own_server.log().count("curl ") >= 3)
    assert f"http://127.0.0.1:{own_server.port}" in own_server.log()
