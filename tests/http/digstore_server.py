# SPDX-License-Identifier: Apache-2.0
"""A digstored of its own for a test: started on a free loopback port, watched, stopped.

The binary is $DIGSTORED, or build/digstored. Started as root the server drops to the user
"digstore", so everything it needs lies in a folder below /tmp that this user can reach.
Only processes that were started here, or that they started, are ever signalled.
"""

import http.client
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("DIGSTORED", str(ROOT / "build" / "digstored"))
SERVER_USER = "digstore"
READY_SECONDS = 60
STOP_SECONDS = 45
KEPT_ENVIRONMENT = (
    "PATH",
    "LANG",
    "DIGSTORE_ABORT_ON_BUG",
    "ASAN_OPTIONS",
    "UBSAN_OPTIONS",
    "TSAN_OPTIONS",
)


def clean_environment():
    """The environment without any DIGSTORE_ setting and without proxies."""
    return {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def open_to_server_user(folder):
    """Let the user that the server drops to own folder, when we are root."""
    os.chmod(folder, 0o755)
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam(SERVER_USER)
        except KeyError:
            raise RuntimeError(f"no user {SERVER_USER}: run the tests by ./dev test") from None
        os.chown(folder, user.pw_uid, user.pw_gid)


def make_folder():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="digstore-test-", dir="/tmp"))
    open_to_server_user(folder)
    return folder


def descendants(pid):
    """pids of all living descendants of pid."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as f:
                    fields = f.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] != b"Z":
                parents[int(name)] = int(fields[1])
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        for child, its_parent in parents.items():
            if its_parent == parent:
                found.append(child)
                todo.append(child)
    return found


class Server:
    """One data folder and the process that serves it; may be started and stopped many times."""

    def __init__(self, folder=None, port=None, environment=None):
        self.own_folder = folder is None
        self.folder = pathlib.Path(folder) if folder else make_folder()
        self.data = self.folder / "data"
        self.log_path = self.folder / "log"
        self.port = port or free_port()
        self.environment = environment or {}
        self.process = None

    # ---- life

    def spawn(self, arguments=()):
        """Start the process and do not wait for anything."""
        environment = clean_environment()
        environment["DIGSTORE_DATA_DIR"] = str(self.data)
        environment["DIGSTORE_LISTEN"] = f"127.0.0.1:{self.port}"
        environment.update(self.environment)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        return self.process

    def start(self):
        self.spawn()
        self.wait_ready()
        return self

    def ready(self):
        """The status of /readyz, or None if nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait_ready(self, seconds=READY_SECONDS):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(
                    f"the server ended with {self.process.returncode} at start\n{self.log_tail()}"
                )
            if self.ready() == 200:
                return
            time.sleep(0.02)
        raise AssertionError(f"the server is not ready after {seconds} s\n{self.log_tail()}")

    def stop(self, number=signal.SIGTERM):
        """Stop as an operator would; it must end by itself, with 0."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in [process.pid, *descendants(process.pid)]:
                kill_quietly(pid)
            process.wait()
            raise AssertionError(f"the server did not stop\n{self.log_tail()}") from None
        assert code == 0, f"the server ended with {code}\n{self.log_tail()}"

    def kill(self):
        """The process is gone at once, as when the machine stops; its PostgreSQL ends by itself."""
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        """Whatever the state: no process and no folder is left."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            self.process = None
            self.end_leftover_database()
            if self.own_folder:
                shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- looking inside

    def log(self):
        try:
            return self.log_path.read_text(errors="replace")
        except OSError:
            return ""

    def log_tail(self, lines=60):
        return "\n".join(self.log().splitlines()[-lines:])

    def postmaster(self):
        """pid of the private PostgreSQL of our data folder, or None."""
        for path in self.data.glob("pg/*/postmaster.pid"):
            try:
                pid = int(path.read_text().split()[0])
                if os.path.realpath(f"/proc/{pid}/cwd") == os.path.realpath(path.parent):
                    return pid
            except (OSError, ValueError, IndexError):
                continue
        return None

    def database_processes(self):
        """The private PostgreSQL with all its backends."""
        pid = self.postmaster()
        return [] if pid is None else [pid, *descendants(pid)]

    def end_leftover_database(self):
        """After a kill the private PostgreSQL ends by itself; here we make sure of it."""
        end = time.monotonic() + 10
        while time.monotonic() < end and self.postmaster() is not None:
            time.sleep(0.05)
        for pid in self.database_processes():
            kill_quietly(pid)


def kill_quietly(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
