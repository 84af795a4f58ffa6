# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 client on plain sockets, for tests that must decide every byte they send.

Client.request sends one request on a connection of its own and checks the answer against the
contract. Client.open gives the bare connection: requests in pieces, keep-alive, cut connections.
"""

import hashlib
import http.client
import io
import json
import select
import socket
import time
import urllib.parse

TIMEOUT_SECONDS = 60
PIECE_BYTES = 256 * 1024
SMALL_BYTES = 16 * 1024  # so little always fits into the socket


def quote(text):
    """Percent-encode one name or path; slashes of a path stay."""
    return urllib.parse.quote(text, safe="/")


def quote_ref(name):
    return urllib.parse.quote(name, safe="")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Response:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return self.headers.get(name)

    @property
    def kind(self):
        """Slug of the problem."""
        return self.json()["type"].rpartition(":")[2]

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


class AnswerReader(io.BufferedReader):
    """One buffer for all answers of a connection. An HTTPResponse makes one for itself otherwise,
    and with it goes what it has read of the next answer."""

    def __init__(self, sock):
        super().__init__(socket.SocketIO(sock, "r"))

    def makefile(self, _mode):
        return self

    def close(self):
        """HTTPResponse does that at the end of each answer."""


class Connection:
    """One TCP connection; requests are sent and answers are read when told."""

    def __init__(self, port, timeout=TIMEOUT_SECONDS):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = AnswerReader(self.sock)

    def send(self, data):
        """Send all of data. False if the server answered or closed before it took everything."""
        rest = memoryview(data)
        try:
            while rest:
                readable, writable, _ = select.select([self.sock], [self.sock], [], TIMEOUT_SECONDS)
                if len(rest) > SMALL_BYTES and readable:
                    return False
                assert readable or writable, "the server takes no more bytes"
                rest = rest[self.sock.send(rest[:PIECE_BYTES]) :]
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def send_head(self, method, target, headers):
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers]
        return self.send("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))

    def send_chunk(self, data):
        return self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def start(self, method):
        """Read the head of the answer; its body is read from what is returned."""
        response = http.client.HTTPResponse(self.reader, method=method)
        response.begin()
        return response

    def response(self, method="GET"):
        answer = self.start(method)
        body = answer.read()
        return Response(answer.status, answer.headers, body)

    def read_to_end(self):
        """Everything until the server closes."""
        data = b""
        try:
            while piece := self.reader.read1(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Cut with RST rather than FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Client:
    def __init__(self, server, contract):
        self.server = server
        self.contract = contract

    @property
    def port(self):
        return self.server.port

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def open(self, timeout=TIMEOUT_SECONDS):
        return Connection(self.port, timeout)

    def head_lines(self, headers):
        given = list((headers or {}).items()) if not isinstance(headers, list) else list(headers)
        if not any(name.lower() == "host" for name, _ in given):
            given.insert(0, ("Host", f"127.0.0.1:{self.port}"))
        return given

    def request(
        self,
        method,
        target,
        body=None,
        headers=None,
        query=None,
        chunked=False,
        timeout=TIMEOUT_SECONDS,
        check=True,
    ):
        """One request on a connection of its own. body: bytes, str, or an iterable of bytes (sent
        chunked). The answer is checked against the contract unless check is False."""
        if query:
            target += "?" + urllib.parse.urlencode(query)
        if isinstance(body, str):
            body = body.encode()
        pieces = None
        lines = self.head_lines(headers)
        if body is not None and (chunked or not isinstance(body, (bytes, bytearray, memoryview))):
            pieces = body if not isinstance(body, (bytes, bytearray, memoryview)) else cut(body)
            lines.append(("Transfer-Encoding", "chunked"))
        elif body is not None or method in ("PUT", "POST"):
            lines.append(("Content-Length", str(len(body or b""))))
        with self.open(timeout) as connection:
            connection.send_head(method, target, lines)
            if pieces is not None:
                if all(connection.send_chunk(piece) for piece in pieces if piece):
                    connection.send(b"0\r\n\r\n")
            elif body:
                connection.send(body)
            response = connection.response(method)
        if check:
            self.contract.check(method, target, response)
        return response

    def get(self, target, **kw):
        return self.request("GET", target, **kw)

    def head(self, target, **kw):
        return self.request("HEAD", target, **kw)

    def put(self, target, body=None, **kw):
        return self.request("PUT", target, body, **kw)

    def post(self, target, body=None, **kw):
        return self.request("POST", target, body, **kw)

    def delete(self, target, **kw):
        return self.request("DELETE", target, **kw)

    def put_json(self, target, value, **kw):
        return self.send_json("PUT", target, value, **kw)

    def post_json(self, target, value, **kw):
        return self.send_json("POST", target, value, **kw)

    def send_json(self, method, target, value, headers=None, **kw):
        headers = {"Content-Type": "application/json", **(headers or {})}
        return self.request(method, target, json.dumps(value), headers=headers, **kw)

    def raw(self, data, timeout=TIMEOUT_SECONDS):
        """Send bytes as they are and read until the server closes; not checked."""
        with self.open(timeout) as connection:
            connection.send(data)
            return connection.read_to_end()

    def all_items(self, target, limit=100, **query):
        """Items of every page of a list."""
        items, cursor = [], None
        while True:
            page = self.get(
                target, query={**query, "limit": limit, **({"cursor": cursor} if cursor else {})}
            )
            assert page.status == 200, page
            items += page.json()["items"]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return items
            assert len(page.json()["items"]) <= limit


def cut(data, size=PIECE_BYTES):
    for i in range(0, len(data), size):
        yield data[i : i + size]


class Repo:
    """Addresses of one repository, and the calls that most tests make."""

    def __init__(self, client, name):
        self.client = client
        self.name = name
        self.base = f"/v1/repos/{name}"

    def stage(self, name):
        return f"{self.base}/stages/{name}"

    def stage_file(self, stage, path):
        return f"{self.stage(stage)}/files/{quote(path)}"

    def tree(self, rev):
        return f"{self.base}/trees/{quote_ref(rev)}"

    def tree_file(self, rev, path):
        return f"{self.tree(rev)}/files/{quote(path)}"

    def ref(self, name):
        return f"{self.base}/refs/{quote_ref(name)}"

    def put(self, stage, path, data, **kw):
        """Stage a file; it must succeed."""
        response = self.client.put(self.stage_file(stage, path), data, **kw)
        assert response.status in (200, 201), response
        return response.json()

    def commit(self, stage, **body):
        response = self.client.post_json(f"{self.stage(stage)}/commit", body)
        assert response.status == 201, response
        return response.json()

    def push(self, ref, files, **body):
        """A commit of files (path -> bytes) on ref, by way of a stage."""
        stage = f"push-{time.monotonic_ns()}"
        for path, data in files.items():
            self.put(stage, path, data)
        return self.commit(stage, ref=ref, **body)

    def read(self, rev, path):
        response = self.client.get(self.tree_file(rev, path))
        assert response.status == 200, response
        return response.body

    def staged(self, stage):
        """path -> entry of everything staged."""
        return {
            e["path"]: e for e in self.client.all_items(f"{self.stage(stage)}/files", limit=1000)
        }

    def files(self, rev):
        """path -> entry of a snapshot."""
        return {e["path"]: e for e in self.client.all_items(f"{self.tree(rev)}/files", limit=1000)}


def wait_until(probe, seconds=20, pause=0.05):
    """The first true value of probe()."""
    end = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: last {value!r}"
        time.sleep(pause)
