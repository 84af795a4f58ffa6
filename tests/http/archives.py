# SPDX-License-Identifier: Apache-2.0
"""Archives for the stories: good ones, and bad ones made on purpose."""

import gzip
import io
import subprocess
import tarfile
import zipfile


def zstd(data, *options):
    return subprocess.run(
        ["zstd", "-q", "-c", *options], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


def unzstd(data):
    return subprocess.run(
        ["zstd", "-q", "-d", "-c"], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


def tar(files, fmt=tarfile.PAX_FORMAT, mtime=1_700_000_000, mode=0o644):
    """files: (name, bytes or TarInfo without data) in order; a mapping will do."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
            else:
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.mode = len(data), mtime, mode
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tar_entry(name, kind, linkname="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, linkname, size
    return info


def tar_gz(files, **kw):
    return gzip.compress(tar(files, **kw), 6)


def tar_zst(files, **kw):
    return zstd(tar(files, **kw))


def zip_of(files, method=zipfile.ZIP_DEFLATED, streamed=False):
    out = io.BytesIO()
    target = Unseekable(out) if streamed else out
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            info = zipfile.ZipInfo(name, (2024, 2, 29, 12, 0, 0))
            info.external_attr = 0o100644 << 16
            info.compress_type = method
            archive.writestr(info, data)
    return out.getvalue()


class Unseekable(io.RawIOBase):
    """A pipe, as far as zipfile can tell: it writes data descriptors."""

    def __init__(self, out):
        self.out = out

    def writable(self):
        return True

    def write(self, data):
        return self.out.write(data)


def read_tar(data):
    """name -> (bytes, mode, mtime)"""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return {
            m.name: (archive.extractfile(m).read(), m.mode, m.mtime) for m in archive if m.isfile()
        }


def read_zip(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
