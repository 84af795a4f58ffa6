# SPDX-License-Identifier: Apache-2.0
"""The builds that bench/regress compares: folders that are there, or revisions that are built here."""

import os
import re
import subprocess

TARGETS = ("digstored", "bench/micro")


class BuildFailure(Exception):
    """There is no such build, and it cannot be made."""


class Build:
    """A build folder. micro is None if this one has no such program, or one too old to ask."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        self.server = os.path.join(folder, "digstored")
        micro = os.path.join(folder, "bench", "micro")
        self.micro = micro if os.access(micro, os.X_OK) else None
        self.stages = self.list_stages()

    def list_stages(self):
        """The stages of its micro."""
        if self.micro is None:
            return []
        done = subprocess.run([self.micro, "--list"], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            self.micro = None
            return []
        return done.stdout.splitlines()


def find(name, top, work, say):
    """The build that name means: a build folder, or a revision of the repository at top, which is
    built below work and kept there for the next time."""
    folder = os.path.abspath(name)
    if os.path.isdir(folder):
        if not os.access(os.path.join(folder, "digstored"), os.X_OK):
            make(folder, ["digstored"])
        # An older one may have no rule for it, and is then compared without.
        make(folder, ["bench/micro"], needed=False)
        return Build(name, folder)
    sha = revision(name, top)
    folder = os.path.join(work, sha)
    if not os.path.exists(os.path.join(folder, "done")):
        say(f"building {name} ({sha[:12]})")
        export(sha, top, folder)
        build(folder)
        with open(os.path.join(folder, "done"), "w", encoding="ascii"):
            pass
    return Build(f"{name} ({sha[:12]})", os.path.join(folder, "build"))


def revision(name, top):
    """The full name of the commit that name means."""
    done = subprocess.run(["git", "-C", top, "rev-parse", "--verify", "--quiet", "--end-of-options",
                           name + "^{commit}"], capture_output=True, text=True, check=False)
    sha = done.stdout.strip()
    if done.returncode != 0 or not re.fullmatch("[0-9a-f]{40,64}", sha):
        raise BuildFailure(f"{name} is neither a build folder nor a revision")
    return sha


def export(sha, top, folder):
    """The tree of a commit, without a trace in the repository that a broken run could leave."""
    os.makedirs(folder, exist_ok=True)
    with subprocess.Popen(["git", "-C", top, "archive", sha], stdout=subprocess.PIPE) as archive:
        unpacked = subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=False)
    if archive.returncode != 0 or unpacked.returncode != 0:
        raise BuildFailure(f"cannot export {sha}")


def build(folder):
    """Configure and build what is compared, as ./dev does but without tests."""
    target = os.path.join(folder, "build")
    os.makedirs(target, exist_ok=True)
    run(["./autogen.sh"], folder)
    run(["../configure", "-q", "--disable-tests"], target)
    make(target, ["digstored"])
    make(target, ["bench/micro"], needed=False)


def make(folder, targets, needed=True):
    if needed or os.path.exists(os.path.join(folder, "Makefile")):
        run(["make", "-s", f"-j{os.cpu_count()}", *targets], folder, needed)


def run(argv, folder, needed=True):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    if done.returncode != 0 and needed:
        raise BuildFailure(f"{' '.join(argv)} failed in {folder}:\n{(done.stdout + done.stderr)[-2000:]}")
