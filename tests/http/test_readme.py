# SPDX-License-Identifier: Apache-2.0
"""What the README tells people to type works as it stands.

A shell block that follows a line `<!-- test -->` is run literally, block by block in one shell, in
an empty folder, with a fresh server on the address the README names.
"""

import os
import re
import subprocess

import pytest

from contract import ROOT
from digstore_server import Server

README = ROOT / "README.md"
PORT = 8420


def blocks():
    if not README.exists():
        return []
    return re.findall(
        r"^<!-- test -->\n+```sh\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


def port_is_free(port):
    import socket

    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def test_readme_works_as_it_stands(tmp_path):
    script = "\n".join(blocks())
    assert script.count("curl ") >= 10
    server = Server(port=PORT) if port_is_free(PORT) else Server()
    if server.port != PORT:  # somebody's own server is there; its data is none of our business
        script = script.replace(f":{PORT}", f":{server.port}")
    with server:
        server.start()
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        output = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, output[-4000:]
        assert "urn:digstore:problem:" not in output, output[-4000:]
        server.stop()


@pytest.mark.parametrize("word", ["./dev up", "./dev check"])
def test_readme_names_the_commands(word):
    assert word in README.read_text("utf-8")
