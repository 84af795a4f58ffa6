# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured: Digstore, and nginx as the measure of the machine."""

import glob
import http.client
import json
import os
import shutil
import socket
import time

import measure
import procs

READY_S = 120


class Failure(Exception):
    """Something a row needs did not work; the row says so and the run goes on."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tail(path, lines=15):
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-lines:])
    except OSError:
        return ""


class Target:
    """A server on the loopback with its own folder."""

    name = ""

    def __init__(self, processes, folder):
        self.processes = processes
        self.folder = folder
        self.log = os.path.join(folder, "log")
        self.port = free_port()
        self.child = None
        self.start_s = None

    def __enter__(self):
        begin = time.perf_counter()
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        self.start_s = time.perf_counter() - begin
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.child is not None and not self.processes.stop(self.child):
            print(f"bench: {self.name} had to be killed, see {self.log}")
        self.child = None

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path, timeout=60):
        """One small GET: (status, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait_ready(self):
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            if self.child.poll() is not None:
                raise Failure(f"{self.name} ended with {self.child.returncode}:\n{tail(self.log)}")
            try:
                if self.get(self.ready_path, timeout=5)[0] == self.ready_status:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise Failure(f"{self.name} is not ready after {READY_S} s:\n{tail(self.log)}")

    def server_pids(self):
        return [self.child.pid] + [p for p, _ in procs.descendants(self.child.pid)]

    def database_pids(self):
        return []

    def content_folder(self):
        """Where it keeps the bytes it was given."""
        raise NotImplementedError

    def stored(self):
        """What lies on disk now: allocated bytes, and the lengths of the files."""
        allocated, length = measure.disk_usage(self.content_folder())
        return {"blob_disk_bytes": allocated, "blob_file_bytes": length}

    def alive(self):
        return self.child is not None and self.child.poll() is None


class Digstore(Target):
    """digstored with a data directory of its own and, unless told otherwise, its own database."""

    name = "digstore"
    ready_path = "/readyz"
    ready_status = 200

    def __init__(self, processes, folder, binary, settings):
        super().__init__(processes, folder)
        self.binary = binary
        self.settings = settings
        self.data = os.path.join(folder, "data")

    def start(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("DIGSTORE_")}
        env["DIGSTORE_DATA_DIR"] = self.data
        env["DIGSTORE_LISTEN"] = f"127.0.0.1:{self.port}"
        env.update(self.settings)
        self.child = self.processes.start([self.binary], self.log, env)

    def server_pids(self):
        return [self.child.pid]

    def database_pids(self):
        """Every PostgreSQL process of the private cluster; none with an external database."""
        found = {p for p, _ in procs.descendants(self.child.pid) if is_postgres(p)}
        for name in glob.glob(os.path.join(self.data, "pg", "**", "postmaster.pid"), recursive=True):
            try:
                with open(name, encoding="ascii") as text:
                    postmaster = int(text.readline())
            except (OSError, ValueError):
                continue
            if is_postgres(postmaster):
                found.add(postmaster)
                found |= {p for p, _ in procs.descendants(postmaster)}
        return sorted(found)

    def content_folder(self):
        return os.path.join(self.data, "blobs")

    def stored(self):
        """The packs', and what the database takes."""
        database = measure.disk_usage(os.path.join(self.data, "pg"))[0]
        return super().stored() | {"database_disk_bytes": database}

    def version(self):
        status, body = self.get("/v1")
        return json.loads(body) if status == 200 else {}


def is_postgres(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as name:
            return name.read().startswith("postgres")
    except OSError:
        return False


NGINX_CONFIG = """\
# nginx as Debian ships it, told only what the benchmark needs.
daemon off;
{user}
pid nginx.pid;
error_log error.log;
worker_processes {workers};
events {{ worker_connections 1024; }}
http {{
\taccess_log off;
\tsendfile on;
\tkeepalive_requests 10000000;
\tclient_max_body_size 0;
\tclient_body_temp_path body;
\t{body_buffer}
\tproxy_temp_path proxy;
\tfastcgi_temp_path fastcgi;
\tuwsgi_temp_path uwsgi;
\tscgi_temp_path scgi;
\tserver {{
\t\tlisten 127.0.0.1:{port} backlog=1024;
\t\tlocation = /ready {{ return 204; }}
\t\tlocation / {{
\t\t\troot files;
\t\t\tdav_methods PUT;
\t\t\tcreate_full_put_path on;
\t\t}}
\t}}
}}
"""


class Nginx(Target):
    """nginx with WebDAV PUT: no hash, no sync, no deduplication, a file a request."""

    name = "nginx"
    ready_path = "/ready"
    ready_status = 204

    def __init__(self, processes, folder, body_buffer):
        super().__init__(processes, folder)
        self.body_buffer = body_buffer
        self.files = os.path.join(folder, "files")

    @staticmethod
    def binary():
        return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")

    def start(self):
        os.makedirs(self.files, exist_ok=True)
        config = os.path.join(self.folder, "nginx.conf")
        with open(config, "w", encoding="ascii") as out:
            out.write(NGINX_CONFIG.format(
                user="user root;" if os.geteuid() == 0 else "", workers=os.cpu_count(),
                body_buffer=f"client_body_buffer_size {self.body_buffer};" if self.body_buffer else "",
                port=self.port))
        self.child = self.processes.start(
            [self.binary(), "-p", self.folder + "/", "-c", config, "-e", "error.log"], self.log)

    def content_folder(self):
        return self.files
