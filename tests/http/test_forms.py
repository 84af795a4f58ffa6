# SPDX-License-Identifier: Apache-2.0
"""multipart/form-data: several files in one request."""

import pytest

BOUNDARY = "----digstore-test-boundary"


def part(name, filename, data, boundary=BOUNDARY, extra=""):
    disposition = f'form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\n{extra}\r\n"
    return head.encode("utf-8", "surrogateescape") + data + b"\r\n"


def end(boundary=BOUNDARY):
    return f"--{boundary}--\r\n".encode()


def form(files):
    return b"".join(part("file", name, data) for name, data in files) + end()


def post(client, repo, body, boundary=BOUNDARY, **kw):
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return client.post(f"{repo.stage('s')}/form", body, headers=headers, **kw)


def test_several_files(client, repo, noise):
    files = {
        "a.txt": b"hello",
        "b.bin": noise(300_000),
        "empty": b"",
        "dir/c": b"\r\n--not the boundary\r\n",
    }
    answer = post(client, repo, form(files.items()))
    assert answer.status == 201
    assert answer.header("Digstore-Stage") == "s"
    assert (answer.json()["files"], answer.json()["bytes"]) == (4, sum(map(len, files.values())))
    for path, data in files.items():
        assert client.get(repo.stage_file("s", path)).body == data


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 65536])
def test_pieces_of_any_size(client, repo, noise, size):
    files = {"a": noise(5000, 1), "b": noise(70_000, 2).replace(b"-", b"--")}
    body = form(files.items()) if size > 1 else form([("a", files["a"])])
    answer = post(client, repo, (body[i : i + size] for i in range(0, len(body), size)))
    assert answer.status == 201
    for path in repo.staged("s"):
        assert client.get(repo.stage_file("s", path)).body == files[path]


def test_data_that_looks_like_a_boundary(client, repo):
    data = f"\r\n--{BOUNDARY[:-1]}\r\n\r\n--{BOUNDARY[:-2]}--\n--{BOUNDARY}".encode()
    assert post(client, repo, form([("f", data)])).status == 201
    assert client.get(repo.stage_file("s", "f")).body == data


def test_prefix(client, repo):
    assert (
        post(client, repo, form([("f", b"1"), ("g/h", b"2")]), query={"prefix": "up/"}).status
        == 201
    )
    assert list(repo.staged("s")) == ["up/f", "up/g/h"]


def test_types_of_parts_and_preamble_are_passed_over(client, repo):
    body = (
        b"preamble\r\n"
        + part("file", "f", b"x", extra="Content-Type: image/png\r\n")
        + end()
        + b"epilogue"
    )
    assert post(client, repo, body).status == 201
    assert client.get(repo.stage_file("s", "f")).body == b"x"


def test_utf8_file_name(client, repo):
    assert post(client, repo, form([("grüße.txt", b"x")])).status == 201
    assert list(repo.staged("s")) == ["grüße.txt"]


def test_quoted_boundary(client, repo):
    answer = client.post(
        f"{repo.stage('s')}/form",
        form([("f", b"x")]),
        headers={"Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'},
    )
    assert answer.status == 201


def test_escaped_quote_in_a_name(client, repo):
    """Browsers and curl write %22 or \\" for a quote."""
    assert post(client, repo, form([('a\\"b', b"x")])).status == 201
    assert list(repo.staged("s")) == ['a"b']


def test_last_of_two_parts_wins(client, repo):
    assert post(client, repo, form([("f", b"1"), ("f", b"2")])).status == 201
    assert client.get(repo.stage_file("s", "f")).body == b"2"


def test_part_without_file_name_is_refused(client, repo):
    body = part("file", "f", b"x") + part("note", None, b"hello") + end()
    refused = post(client, repo, body)
    assert refused.status == 400
    assert refused.kind == "form-invalid"
    assert client.get(f"{repo.stage('s')}/files").json().get("items", []) == []


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a//b", "", "a/./b", "x\\\\y", "a\x01b"])
def test_bad_file_name_refuses_everything(client, repo, name):
    repo.put("s", "kept", b"k")
    refused = post(client, repo, form([("good", b"x"), (name, b"y")]))
    assert refused.status == 400
    assert refused.kind in ("invalid-path", "form-invalid")
    assert list(repo.staged("s")) == ["kept"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        part("file", "f", b"x"),
        part("file", "f", b"x") + f"--{BOUNDARY}".encode(),
        f"--{BOUNDARY}\r\nContent-Dispo".encode(),
        f"--{BOUNDARY}\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: attachment; filename="f"\r\n\r\nx\r\n--{BOUNDARY}--\r\n'.encode(),
        f"--{BOUNDARY}\r\n{'X: y' * 20000}\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(),
    ],
    ids=[
        "nothing",
        "text",
        "no-end",
        "cut-end",
        "cut-head",
        "no-disposition",
        "attachment",
        "huge-head",
    ],
)
def test_broken_form_stages_nothing(client, repo, body):
    repo.put("s", "kept", b"k")
    refused = post(client, repo, body)
    assert refused.status == 400
    assert refused.kind == "form-invalid"
    assert list(repo.staged("s")) == ["kept"]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 71,
    ],
)
def test_boundary_that_is_none(client, repo, content_type):
    refused = client.post(
        f"{repo.stage('s')}/form", form([("f", b"x")]), headers={"Content-Type": content_type}
    )
    assert refused.status == 400
    assert refused.kind in ("form-invalid", "invalid-header")


@pytest.mark.parametrize(
    "content_type", ["multipart/mixed; boundary=x", "text/plain", "application/json", None]
)
def test_other_media_types_are_refused(client, repo, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    refused = client.post(f"{repo.stage('s')}/form", b"--x--\r\n", headers=headers)
    assert refused.status == 415
    assert refused.kind == "unsupported-media-type"
