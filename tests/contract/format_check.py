#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what Digstore wrote by doc/FORMAT.md alone: a second implementation that shares no code
with the first one, and says where the two, or the examples in the document, do not agree.

    format_check.py                        the worked examples of doc/FORMAT.md
    format_check.py pack FILE...           packs: every byte, every checksum, every chunk
    format_check.py store URL BLOBS        a whole store that nobody writes at the moment: database
                                           (libpq URL, read with psql) and pack directory
    format_check.py cat URL BLOBS REPO REV PATH
                                           one file of a commit or ref, to standard output

Prints what is wrong and exits 1 if anything is. Needs python3, libxxhash, libzstd, and psql for the
last two. Slow: meant for stores of some hundred MiB.
"""
import ctypes
import hashlib
import pathlib
import re
import struct
import subprocess
import sys

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "doc" / "FORMAT.md"
MASK32 = 0xFFFFFFFF
EMPTY = hashlib.sha256(b"").digest()


class Wrong(Exception):
    pass


def need(condition, text, *values):
    if not condition:
        raise Wrong(text % values if values else text)


# ---- the two foreign algorithms

xxhash = ctypes.CDLL("libxxhash.so.0")
xxhash.XXH3_64bits_withSeed.restype = ctypes.c_uint64
xxhash.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
zstd = ctypes.CDLL("libzstd.so.1")
zstd.ZSTD_decompress.restype = ctypes.c_size_t
zstd.ZSTD_decompress.argtypes = [
    ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t
]
zstd.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
zstd.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh3(data, seed=0):
    return xxhash.XXH3_64bits_withSeed(bytes(data), len(data), seed)


def expand(codec, stored, raw_bytes):
    if codec == 0:
        return bytes(stored)
    stored = bytes(stored)
    size = zstd.ZSTD_findFrameCompressedSize(stored, len(stored))
    need(size == len(stored), "not one zstd frame")
    out = ctypes.create_string_buffer(raw_bytes)
    need(zstd.ZSTD_decompress(out, raw_bytes, stored, len(stored)) == raw_bytes, "does not expand")
    return out.raw


def sha256(data):
    return hashlib.sha256(data).digest()


# ---- chapter 1: packs

FRAME_RAW_MAX = FRAME_STORED_MAX = 16 << 20
FRAME_CHUNKS_MAX = 65536


def round_up(n, unit):
    return (n + unit - 1) // unit * unit


def read_header(data, pack_id):
    need(len(data) >= 4096, "shorter than its header")
    magic, version, hash_alg, checksum, size, own_id, uuid, created = struct.unpack_from(
        "<8sHBBIQ16sq", data)
    need(magic == b"DGSTPACK" and version == 1, "header: magic or version")
    need(hash_alg == 1 and checksum == 1 and size == 4096, "header: algorithms or size")
    need(own_id == pack_id, "header: of pack %d", own_id)
    need(not any(data[48:4088]), "header: not zero where it should be")
    need(struct.unpack_from("<Q", data, 4088)[0] == xxh3(data[:4088]), "header: checksum")
    return uuid, created


class Frame:
    """A frame whose header is right."""

    def __init__(self, data, offset, pack_id):
        magic, version, codec, flags, n, zero, raw, stored, payload_sum, head_sum = (
            struct.unpack_from("<4sBBHIIQQQQ", data, offset))
        need(magic == b"DGSF" and version == 1 and codec in (0, 1), "frame: magic, version, codec")
        need(flags == 0 and zero == 0 and 1 <= n <= FRAME_CHUNKS_MAX, "frame: flags or chunks")
        need(n <= raw <= FRAME_RAW_MAX and 1 <= stored <= FRAME_STORED_MAX, "frame: sizes")
        need(codec != 0 or raw == stored, "frame: raw and not of raw size")
        payload = offset + 48 + 40 * n
        self.offset, self.codec, self.raw_bytes, self.stored_bytes = offset, codec, raw, stored
        self.bytes = round_up(48 + 40 * n + stored, 16)
        need(offset + self.bytes <= len(data), "frame: ends behind the file")
        table = data[offset + 48 : payload]
        proof = data[offset : offset + 40] + struct.pack("<QQQ", xxh3(table), pack_id, offset)
        need(xxh3(proof) == head_sum, "frame: header checksum")
        self.table = table
        self.chunks = [(h, length) for h, length in struct.iter_unpack("<32sQ", table)]
        need(all(length > 0 for _, length in self.chunks), "frame: empty chunk")
        need(sum(length for _, length in self.chunks) == raw, "frame: chunks do not sum up")
        self.stored = data[payload : payload + stored]
        self.whole = xxh3(self.stored) == payload_sum

    def raw(self):
        return expand(self.codec, self.stored, self.raw_bytes)


def try_frame(data, offset, pack_id):
    if data[offset : offset + 4] != b"DGSF" or offset + 48 > len(data):
        return None
    try:
        return Frame(data, offset, pack_id)
    except Wrong:
        return None


def footer_end(data, offset, pack_id, uuid, frames):
    """Where the footer at offset and its trailer end; None if there is none."""
    if offset + 128 > len(data) or data[offset : offset + 4] != b"DGSI":
        return None
    magic, version, zero, f, zero2, c, own_id, at, own_uuid, check = struct.unpack_from(
        "<4sB3sIIQQQ16sQ", data, offset)
    need(version == 1 and not any(zero) and zero2 == 0, "footer: version or zeros")
    need(xxh3(data[offset : offset + 56]) == check, "footer: header checksum")
    need((own_id, at, own_uuid) == (pack_id, offset, uuid), "footer: of something else")
    end = offset + 64 + 32 * f + 40 * c
    magic, version, zero, own_id, at, size, check, zero2, own_check = struct.unpack_from(
        "<8sH6sQQQQQQ", data, end)
    need(magic == b"DGSTFOOT" and version == 1 and not any(zero) and zero2 == 0, "trailer: fields")
    need((own_id, at, size) == (pack_id, offset, end - offset), "trailer: of something else")
    need(check == xxh3(data[offset:end]), "footer: checksum")
    need(own_check == xxh3(data[end : end + 56]), "trailer: checksum")
    entries = list(struct.iter_unpack("<QQQIB3s", data[offset + 64 : offset + 64 + 32 * f]))
    need(entries == [(x.offset, x.raw_bytes, x.stored_bytes, len(x.chunks), x.codec, b"\0\0\0")
                     for x in frames], "footer: does not list the frames")
    need(data[offset + 64 + 32 * f : end] == b"".join(x.table for x in frames),
         "footer: does not list the chunks")
    return end + 64


class Pack:
    """A pack read as 1.5 says, from the first byte to the last."""

    def __init__(self, path):
        self.path = path
        self.id = int(path.name[:16], 16)
        need(path.name == "%016x.pack" % self.id, "%s: not the name of a pack", path)
        data = path.read_bytes()
        self.size = len(data)
        self.uuid, self.created_us = read_header(data, self.id)
        self.frames, self.damaged, self.sealed = [], 0, False
        at = good = 4096
        while at < len(data):
            frame = try_frame(data, at, self.id)
            if frame is not None:
                if frame.whole:
                    self.frames.append(frame)
                    good = at + frame.bytes
                else:
                    self.damaged += 1
                at += frame.bytes
                continue
            if at % 4096 == 0:
                end = footer_end(data, at, self.id, self.uuid, self.frames)
                if end is not None:
                    self.sealed = end == len(data)
                    at = good = end
                    continue
            if any(data[at : at + 16]):
                self.damaged += 1
            at += 16
        self.end = good
        self.at = {frame.offset: frame for frame in self.frames}

    def check(self):
        """Every chunk against its hash; the number of chunks."""
        count = 0
        for frame in self.frames:
            raw, at = frame.raw(), 0
            for chunk, length in frame.chunks:
                need(sha256(raw[at : at + length]) == chunk, "%s at %d: a chunk is not its hash",
                     self.path, frame.offset)
                at += length
                count += 1
        return count


# ---- chapter 2: where files are cut

K0, K1 = 0x9E3779B1, 0x85EBCA6B


def cut_limits(target):
    return round_up(-(-2 * target // 3), 64), 4 * target // 3 // 64 * 64


def next_cut(data, start, target):
    """Length of the chunk that begins at start."""
    smallest, largest = cut_limits(target)
    left = len(data) - start
    if left <= smallest:
        return left
    best_i, best_h = 0, None
    for i in range(smallest, min(left, largest) + 1):
        b, a = struct.unpack_from("<II", data, start + i - 8)
        h = (K0 * a + K1 * b - 1) & MASK32
        if best_h is None or h < best_h:
            best_i, best_h = i, h
    return best_i


def cuts(data, target):
    at, lengths = 0, []
    while at < len(data):
        lengths.append(next_cut(data, at, target))
        at += lengths[-1]
    return lengths


# ---- chapters 3 to 7: packed values

class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        need(self.at + n <= len(self.data), "ends too early")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def varint(self, shortest=True):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        need(value < 1 << 64, "varint: too large")
        need(not shortest or shift == 0 or byte != 0, "varint: not the shortest form")
        return value

    def done(self):
        return self.at == len(self.data)


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def zigzag(value):
    return value >> 1 ^ -(value & 1)


def recipe_part(data):
    """The slices of a part: (chunk, offset in it, length)."""
    c = Cursor(data)
    version, chunker, hash_alg, flags = c.take(4)
    need(version == 1 and chunker == 1 and hash_alg == 1 and flags & ~1 == 0, "recipe part: header")
    slices = []
    while not c.done():
        chunk = c.take(32)
        length = c.varint(False)
        offset = c.varint(False) if flags & 1 else 0
        need(length > 0, "recipe part: empty slice")
        slices.append((chunk, offset, length))
    return slices


def recipe_list(slices):
    return b"".join(chunk + struct.pack("<QQ", offset, length) for chunk, offset, length in slices)


def recipe_id(slices):
    return sha256(recipe_list(slices))


def read_node(data):
    """(level, items); an item is (key, rest): of a leaf (kind, id, size, mode, mtime), else
    (hash, files, bytes)."""
    need(len(data) <= 65536, "tree node: too large")
    c = Cursor(data)
    need(c.take(2) == b"T\1", "tree node: magic or version")
    level = c.take(1)[0]
    count = c.varint()
    need(level <= 12 and count <= 512 and (count > 0 or level == 0), "tree node: level or count")
    items, key = [], b""
    for _ in range(count):
        shared, more = c.varint(), c.varint()
        tail = c.take(more)
        need(shared <= len(key) and more > 0 and shared + more <= 1024, "tree node: key length")
        need(shared == len(key) or tail[0] > key[shared], "tree node: keys do not ascend")
        key = key[:shared] + tail
        if level == 0:
            kind, content = c.take(1)[0], c.take(32)
            rest = (kind, content, c.varint(), c.varint(), c.number("<q"))
            need(kind in (1, 2) and rest[3] < 1 << 32, "tree node: kind or mode")
        else:
            rest = (c.take(32), c.varint(), c.varint())
            need(rest[1] > 0, "tree node: empty child")
        items.append((key, rest))
    need(c.done(), "tree node: something behind the last item")
    return level, items


def write_node(level, items):
    out, last = b"T\1" + bytes([level]) + varint(len(items)), b""
    for key, rest in items:
        shared = 0
        while shared < min(len(last), len(key)) and last[shared] == key[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + key[shared:]
        if level == 0:
            kind, content, size, mode, mtime = rest
            out += bytes([kind]) + content + varint(size) + varint(mode) + struct.pack("<q", mtime)
        else:
            out += rest[0] + varint(rest[1]) + varint(rest[2])
        last = key
    return out


def split_level(level, items):
    """The items of a level, node by node."""
    node, written, last = [], 0, b""
    for item in items:
        key = item[0]
        shared = 0
        while shared < min(len(last), len(key)) and last[shared] == key[shared]:
            shared += 1
        node.append(item)
        written += len(key) - shared
        last = key
        candidate = len(node) >= 80 or written >= 8192
        if (candidate and xxh3(key, level) < 1 << 58) or len(node) == 512 or written >= 32768:
            yield node
            node, written, last = [], 0, b""
    if node:
        yield node


def build_tree(files):
    """All nodes of the tree of these leaf items, and the name of its root."""
    nodes, level, items = {}, 0, files
    while True:
        parents = []
        for node in split_level(level, items):
            data = write_node(level, node)
            nodes[sha256(data)] = data
            count = len(node) if level == 0 else sum(rest[1] for _, rest in node)
            size = sum(rest[2] for _, rest in node)
            parents.append((node[-1][0], (sha256(data), count, size)))
        if not parents:
            data = write_node(0, [])
            return {sha256(data): data}, sha256(data)
        if len(parents) == 1:
            return nodes, parents[0][1][0]
        level, items = level + 1, parents


def read_commit(data):
    c = Cursor(data)
    need(c.take(8) == b"DGSTCMT\1", "commit: magic or version")
    commit = {"tree": c.take(32)}
    parents = c.take(1)[0]
    need(parents <= 1, "commit: parents")
    commit["parent"] = c.take(32) if parents else None
    commit["created_us"] = c.number("<q")
    commit["files"], commit["bytes"] = c.number("<Q"), c.number("<Q")
    for name in ("ref", "author", "message", "metadata", "receipt"):
        commit[name] = c.take(c.number("<I")).decode()
    need(c.done(), "commit: something behind the receipt")
    return commit


def read_stage_batch(data):
    """The records of a batch: (path, content or None)."""
    c = Cursor(data)
    need(c.take(1) == b"\1", "stage batch: version")
    while not c.done():
        record = c.take(1)[0]
        if record == 3:
            for _ in range(c.varint(False)):
                c.varint(False)
            continue
        path = c.take(c.varint(False))
        need(record in (1, 2) and 1 <= len(path) <= 1024, "stage batch: record")
        if record == 2:
            yield path, None
            continue
        kind, content = c.take(1)[0], c.take(32)
        need(kind in (1, 2), "stage batch: kind")
        size, mode = c.varint(False), c.varint(False)
        yield path, (kind, content, size, mode, zigzag(c.varint(False)))


def compress(h, block):
    """One step of SHA-256, since nothing else gives its inner state."""
    def turn(x, n):
        return (x >> n | x << 32 - n) & MASK32

    w = list(struct.unpack(">16I", block))
    for i in range(16, 64):
        s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3
        s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10
        w.append((w[i - 16] + s0 + w[i - 7] + s1) & MASK32)
    s = list(h)
    for i in range(64):
        s1 = turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)
        t1 = s[7] + s1 + (s[4] & s[5] ^ ~s[4] & s[6]) + SHA_K[i] + w[i]
        s0 = turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)
        t2 = s0 + (s[0] & s[1] ^ s[0] & s[2] ^ s[1] & s[2])
        s = [(t1 + t2) & MASK32, s[0], s[1], s[2], (s[3] + t1) & MASK32, s[4], s[5], s[6]]
    return [(a + b) & MASK32 for a, b in zip(h, s)]


def primes(n):
    found = []
    k = 2
    while len(found) < n:
        if all(k % p for p in found):
            found.append(k)
        k += 1
    return found


def root_bits(value, power):
    """The first 32 bits of the fraction of the square or cube root."""
    scaled = value << 32 * power
    low, high = 0, 1 << 64
    while low < high:
        mid = (low + high + 1) // 2
        low, high = (mid, high) if mid**power <= scaled else (low, mid - 1)
    return low & MASK32


SHA_K = [root_bits(p, 3) for p in primes(64)]
SHA_H = [root_bits(p, 2) for p in primes(8)]


def stream_state(data):
    """What a SHA-256 stream that has seen data looks like when it is saved."""
    h, rest = SHA_H, len(data) % 64
    for at in range(0, len(data) - rest, 64):
        h = compress(h, data[at : at + 64])
    block = data[len(data) - rest :] + b"\0" * (64 - rest)
    return b"SHS1" + struct.pack("<Q8I", len(data), *h) + block


# ---- chapters 8 and 9: a store

class Store:
    def __init__(self, url, blobs):
        self.url, self.blobs = url, pathlib.Path(blobs)
        self.open_packs = {}
        self.places = None  # (repository, chunk) -> place, once all rows were read

    def rows(self, sql):
        """Rows of text fields, bytea as bytes, NULL as None."""
        run = subprocess.run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-c",
             f"COPY ({sql}) TO STDOUT"],
            check=False, stdout=subprocess.PIPE)
        need(run.returncode == 0, "psql has failed")
        escapes = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r", "\\b": "\b", "\\f": "\f",
                   "\\v": "\v"}
        for line in run.stdout.decode().split("\n")[:-1]:
            row = []
            for field in line.split("\t"):
                if field == "\\N":
                    row.append(None)
                elif field.startswith("\\\\x"):
                    row.append(bytes.fromhex(field[3:]))
                else:
                    row.append(re.sub(r"\\.", lambda m: escapes[m[0]], field))
            yield row

    def row(self, sql):
        rows = list(self.rows(sql))
        need(len(rows) == 1, "%d rows: %s", len(rows), sql)
        return rows[0]

    def pack(self, pack_id):
        if pack_id not in self.open_packs:
            if len(self.open_packs) >= 16:
                self.open_packs.clear()
            path = self.blobs / ("%02x" % (pack_id & 255)) / ("%016x.pack" % pack_id)
            self.open_packs[pack_id] = Pack(path)
        return self.open_packs[pack_id]

    # 9: one file

    def place(self, repo, chunk):
        if self.places is None:
            return map(int, self.row(
                "SELECT pack_id, frame_offset, frame_bytes, raw_offset, length FROM chunk WHERE"
                f" repo_id = {repo} AND hash = '\\x{chunk.hex()}' AND state = 0"))
        place = self.places.get((int(repo), chunk))
        need(place is not None, "chunk %s: no row", chunk.hex())
        return place

    def chunk(self, repo, chunk):
        pack, offset, size, raw_offset, length = self.place(repo, chunk)
        frame = self.pack(pack).at.get(offset)
        need(frame is not None and frame.bytes == size, "no frame at %d of pack %d", offset, pack)
        data = frame.raw()[raw_offset : raw_offset + length]
        need(sha256(data) == chunk, "a chunk is not its hash")
        return data

    def slices(self, recipe):
        """All slices of a recipe, with the starts of its parts checked."""
        found, end = [], 0
        for start, entries in self.rows(
                "SELECT start, entries FROM recipe_part"
                f" WHERE recipe_id = {recipe} ORDER BY start"):
            need(int(start) == end, "recipe %d: the parts do not meet at %d", recipe, end)
            part = recipe_part(entries)
            need(part, "recipe %d: an empty part", recipe)
            found += part
            end += sum(length for _, _, length in part)
        return found, end

    def content(self, repo, kind, content, size):
        if size == 0:
            need(kind == 1 and content == EMPTY, "an empty file with a name of its own")
            return b""
        if kind == 1:
            data = self.chunk(repo, content)
        else:
            total, chunks, recipe, whole = self.row(
                "SELECT size, chunks, recipe_id, sha256 FROM file WHERE"
                f" repo_id = {repo} AND id = '\\x{content.hex()}'")
            slices, end = self.slices(int(recipe))
            need(int(total) == size == end and int(chunks) == len(slices) >= 2, "file row: sizes")
            need(recipe_id(slices) == content, "a recipe is not its id")
            data = b"".join(
                self.chunk(repo, c)[offset : offset + length] for c, offset, length in slices)
            need(whole is None or sha256(data) == whole, "file row: sha256")
        need(len(data) == size, "a content is not of its size")
        return data

    def node(self, repo, name):
        (data,) = self.row(
            f"SELECT data FROM tree_node WHERE repo_id = {repo} AND hash = '\\x{name.hex()}'")
        need(sha256(data) == name, "a tree node is not its name")
        return data

    def commit_of(self, repo, rev):
        if re.fullmatch("[0-9a-f]{64}", rev):
            commit = bytes.fromhex(rev)
        else:
            quoted = rev.replace("'", "''")
            (commit,) = self.row(
                f"SELECT commit_id FROM ref WHERE repo_id = {repo} AND name = '{quoted}'")
        (canonical,) = self.row("SELECT canonical FROM commit WHERE"
                                f" repo_id = {repo} AND id = '\\x{commit.hex()}'")
        need(sha256(canonical) == commit, "a commit is not its id")
        return read_commit(canonical)

    def cat(self, repo_name, rev, path):
        quoted = repo_name.replace("'", "''")
        (repo,) = self.row(f"SELECT id FROM repo WHERE name = '{quoted}'")
        name, key = self.commit_of(repo, rev)["tree"], path.encode()
        while True:
            level, items = read_node(self.node(repo, name))
            below = [rest for last, rest in items if last >= key]
            need(below, "no such path")
            if level == 0:
                entry = dict(items).get(key)
                need(entry is not None, "no such path")
                return self.content(repo, *entry[:3])
            name = below[0][0]

    # 8: everything

    def leaves(self, repo, name, parent=None):
        """The files below a node, which must be what its parent says."""
        level, items = read_node(self.node(repo, name))
        own = [item for item in items] if level == 0 else []
        before = None
        for key, rest in items if level > 0 else ():
            below = self.leaves(repo, rest[0], (level, key, *rest[1:]))
            need(before is None or below[0][0] > before, "tree: a child begins too early")
            own += below
            before = key
        if parent is not None:
            need(own and level == parent[0] - 1 and own[-1][0] == parent[1] and
                 len(own) == parent[2] and sum(r[2] for _, r in own) == parent[3],
                 "tree: a node is not what its parent says")
        return own

    def check_packs(self):
        packs, count = {}, 0
        for path in sorted(self.blobs.glob("??/*.pack")):
            pack = Pack(path)
            need(path.parent.name == "%02x" % (pack.id & 255), "%s: in the wrong folder", path)
            need(pack.damaged == 0, "%s: %d damaged places", path, pack.damaged)
            count += pack.check()
            packs[pack.id] = pack
        uuids = {int(i): bytes.fromhex(u.replace("-", "")) for i, u in
                 self.rows("SELECT id, uuid FROM repo")}
        known, may_be_named = {}, set()
        for pack_id, repo, state, size in self.rows("SELECT id, repo_id, state, bytes FROM pack"):
            known[int(pack_id)] = int(repo)
            if int(state) < 3:
                may_be_named.add(int(pack_id))
            pack = packs.get(int(pack_id))
            if pack is None and int(state) in (3, 4):
                continue
            need(pack is not None, "pack %s has no file", pack_id)
            need(pack.uuid == uuids[int(repo)], "pack %s is of another repository", pack_id)
            need(int(state) != 1 or pack.sealed, "pack %s is not sealed", pack_id)
            need(int(state) in (0, 4) or pack.size == int(size), "pack %s: its size", pack_id)
        frames = {(p.id, f.offset): f for p in packs.values() for f in p.frames}
        self.places = {}
        for repo, chunk, pack, offset, size, raw_offset, length in self.rows(
                "SELECT repo_id, hash, pack_id, frame_offset, frame_bytes, raw_offset, length"
                " FROM chunk WHERE state = 0"):
            frame = frames.get((int(pack), int(offset)))
            need(frame is not None and frame.bytes == int(size), "chunk %s: no such frame",
                 chunk.hex())
            need(known.get(int(pack)) == int(repo), "chunk %s: of another repository", chunk.hex())
            need(int(pack) in may_be_named, "chunk %s: in a pack that is not in use", chunk.hex())
            at = 0
            for name, chunk_bytes in frame.chunks:
                if at == int(raw_offset):
                    break
                at += chunk_bytes
            need((name, at, chunk_bytes) == (chunk, int(raw_offset), int(length)),
                 "chunk %s: not in its frame", chunk.hex())
            place = (pack, offset, size, raw_offset, length)
            self.places[int(repo), chunk] = tuple(map(int, place))
        return f"{len(packs)} packs with {count} chunks, {len(self.places)} chunk rows"

    def check_content(self, repo, target, kind, content, size, seen):
        if content in seen:
            return
        seen.add(content)
        data = self.content(repo, kind, content, size)
        lengths = cuts(data, target)
        need((len(lengths) > 1) == (kind == 2), "content %s: of the wrong kind", content.hex())
        if kind == 2:
            (recipe,) = self.row("SELECT recipe_id FROM file WHERE"
                                 f" repo_id = {repo} AND id = '\\x{content.hex()}'")
            slices, _ = self.slices(int(recipe))
            need([s[1:] for s in slices] == [(0, n) for n in lengths],
                 "content %s: not cut where it should be", content.hex())

    def check_history(self, repo, target, seen):
        commits = trees = 0
        for commit, parent, tree, created, canonical in self.rows(
                "SELECT id, parent, tree, (extract(epoch FROM created_at) * 1000000)::bigint,"
                f" canonical FROM commit WHERE repo_id = {repo}"):
            need(sha256(canonical) == commit, "a commit is not its id")
            c = read_commit(canonical)
            need((c["parent"], c["tree"], c["created_us"]) == (parent, tree, int(created)),
                 "commit %s: columns differ", commit.hex())
            files = self.leaves(repo, tree)
            need((len(files), sum(r[2] for _, r in files)) == (c["files"], c["bytes"]),
                 "commit %s: sums", commit.hex())
            need(build_tree(files)[1] == tree, "tree %s: not cut where it should be", tree.hex())
            for _, (kind, content, size, _, _) in files:
                self.check_content(repo, target, kind, content, size, seen)
            commits += 1
            trees += len(files)
        for name, commit in self.rows(f"SELECT name, commit_id FROM ref WHERE repo_id = {repo}"):
            self.commit_of(repo, name)
        return f"{commits} commits of {trees} files"

    def check_stages(self, repo, target, seen):
        entries = uploads = 0
        for (stage,) in self.rows(f"SELECT id FROM stage WHERE repo_id = {repo} AND state <= 1"):
            files = {}
            for records, check in self.rows(
                    "SELECT records, checksum FROM stage_batch"
                    f" WHERE stage_id = {stage} ORDER BY seq"):
                need(xxh3(records) == int(check) % (1 << 64), "stage batch: checksum")
                for path, entry in read_stage_batch(records):
                    files[path] = entry
            for kind, content, size, _, _ in filter(None, files.values()):
                self.check_content(repo, target, kind, content, size, seen)
                entries += 1
            for recipe, chunk_bytes, chunks, id_state, sha_state, tail in self.rows(
                    "SELECT recipe_id, chunk_bytes, chunks, id_state, sha_state, tail FROM upload"
                    f" WHERE stage_id = {stage}"):
                slices, end = self.slices(int(recipe)) if int(recipe) else ([], 0)
                need((end, len(slices)) == (int(chunk_bytes), int(chunks)), "upload: sizes")
                need(id_state[:108] == stream_state(recipe_list(slices)), "upload: id_state")
                first = slices[0][0] if slices else b"\0" * 32
                need(id_state[108:] == first, "upload: first chunk")
                data = b"".join(self.chunk(repo, c) for c, _, _ in slices) + tail
                need(sha_state is None or sha_state == stream_state(data), "upload: sha_state")
                need(cuts(data, target)[: len(slices)] == [s[2] for s in slices], "upload: cuts")
                uploads += 1
        return f"{entries} staged files, {uploads} half uploads"

    def check(self):
        print(self.check_packs())
        for repo, name, chunker, hash_alg, target in self.rows(
                "SELECT id, name, chunker, hash_alg, chunk_target FROM repo"
                " WHERE name IS NOT NULL ORDER BY id"):
            need((chunker, hash_alg) == ("1", "1"), "repository %s: algorithms", name)
            seen = set()
            print(f"{name}: {self.check_history(repo, int(target), seen)}, "
                  f"{self.check_stages(repo, int(target), seen)}, {len(seen)} contents")


# ---- chapter 11: the saved filter

MASK64 = (1 << 64) - 1


def filter_mix(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK64
    return x ^ x >> 31


def filter_bits(blocks, repo_id, digest):
    """Numbers of the bits that a key sets, counted over all blocks, the lowest of each byte first."""
    salt = repo_id & MASK32
    one, two = struct.unpack("<QQ", digest[:16])
    block = (filter_mix(one + salt & MASK64) >> 32) * blocks >> 32
    bits = filter_mix(two ^ salt << 32)
    return {block * 256 + 32 * lane + (bits >> 5 * lane & 31) for lane in range(8)}


def read_filter(data):
    """(id, blocks, expected, count, all bits that are set)"""
    need(data[:8] == b"DGSTFLTR", "filter: magic")
    version, = struct.unpack_from("<H", data, 8)
    need(version == 1, "filter: version %d", version)
    blocks, expected, count, checksum = struct.unpack_from("<QQQQ", data, 32)
    need(struct.unpack_from("<Q", data, 120)[0] == xxh3(data[:120]), "filter: header checksum")
    need(not any(data[10:16] + data[64:120]), "filter: zero fields")
    body = data[128:]
    need(blocks > 0 and len(body) == 32 * blocks, "filter: length")
    seed = 0
    for at in range(0, len(body), 1 << 20):
        seed = xxh3(body[at:at + (1 << 20)], seed)
    need(seed == checksum, "filter: checksum")
    bits = {8 * i + b for i, byte in enumerate(body) for b in range(8) if byte >> b & 1}
    return data[16:32], blocks, expected, count, bits


# ---- the examples of the document

def examples():
    """Name -> bytes of every hex block behind a line `Example NAME:`."""
    found = {}
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, block in re.findall(
            r"^Example `([a-z0-9-]+)`.*\n(?:.+\n)*\n((?:    .*\n)+)", text, re.M):
        found[name] = bytes.fromhex("".join(block.split()))
    return found


def stated(name):
    """The value of a line `NAME: `value`` in a table of check values."""
    text = DOCUMENT.read_text(encoding="utf-8")
    hit = re.search(r"^\| " + re.escape(name) + r" \| `([0-9a-f, ]+)` \|$", text, re.M)
    need(hit, "no check value %s", name)
    return hit[1]


def check_pack_example(all_examples):
    data = bytes(4096) + all_examples["frame"]
    frame = Frame(data, 4096, 5)
    need(frame.whole and frame.raw() == b"hello, world\n", "example frame: contents")
    need(frame.chunks == [(sha256(b"hello, "), 7), (sha256(b"world\n"), 6)], "example frame: table")
    need(4096 + frame.bytes == len(data), "example frame: length")


def check_chunker_example():
    stream = b"".join(sha256(struct.pack("<Q", i)) for i in range(8192))
    for target in (16384, 32768, 65536, 131072):
        lengths = cuts(stream, target)
        want = [int(n) for n in stated(f"{target}").split(",")]
        need(lengths == want, "chunker: cuts at %d are %s", target, lengths)


def check_recipe_example(all_examples):
    slices = recipe_part(all_examples["recipe-part"])
    need(slices == [(sha256(b"hello, "), 0, 7), (sha256(b"x" * 300), 0, 300)], "example recipe")
    need(recipe_id(slices).hex() == stated("recipe-id"), "example recipe-id")


def check_tree_examples(all_examples):
    level, items = read_node(all_examples["leaf"])
    need(write_node(level, items) == all_examples["leaf"], "example leaf: not as it is written")
    need(build_tree(items)[1].hex() == stated("leaf-root"), "example leaf: root")
    need([key for key, _ in items] == [b"src/main.c", b"src/main.h"], "example leaf: paths")
    need(items[0][1] == (1, sha256(b"hello, world\n"), 13, 0o644, 0), "example leaf: first file")
    need(items[1][1] == (2, bytes.fromhex(stated("recipe-id")), 307, 0o755,
                         1_700_000_000_123_456_789), "example leaf: second file")
    need(build_tree([])[1].hex() == stated("no files"), "empty tree")
    files = []
    for i in range(20000):
        path = b"d%d/f%d.txt" % (i * 7919 % 97, i)
        files.append((path, (1 if i % 3 else 2, sha256(path), 31 * i * i,
                             0o755 if i % 2 else 0o100644, (i - 5000) * 1_000_000_007)))
    nodes, root = build_tree(sorted(files))
    levels = [read_node(data)[0] for data in nodes.values()]
    need(root.hex() == stated("20,000 files"), "tree of 20,000 files: %s", root.hex())
    need((levels.count(0), max(levels)) == (134, 2), "tree of 20,000 files: shape")


def check_commit_example(all_examples):
    data = all_examples["commit"]
    need(sha256(data).hex() == stated("commit-id"), "example commit: id")
    commit = read_commit(data)
    need(commit["tree"].hex() == stated("leaf-root"), "example commit: tree")
    del commit["tree"]
    need(commit == {"parent": None, "created_us": 1_700_000_000_000_000, "files": 2, "bytes": 320,
                    "ref": "main", "author": "Ann", "message": "First", "metadata": "{}",
                    "receipt": "{}"}, "example commit: %s", commit)


def check_stage_examples(all_examples):
    data = all_examples["stage-batch"]
    need("%016x" % xxh3(data) == stated("stage-batch-checksum"), "example stage-batch: checksum")
    need(list(read_stage_batch(data)) == [
        (b"a.txt", (1, sha256(b"hello, world\n"), 13, 0o644, -1)), (b"old/b.txt", None)],
        "example stage-batch")
    need(all_examples["sha256-stream"] == stream_state(b"abc" * 30), "example sha256-stream")


def check_filter_example(all_examples):
    run, blocks, expected, count, bits = read_filter(all_examples["filter"])
    keys = [(1, b"hello, "), (2, b"hello, "), (1, b"world\n")]
    need((run, blocks, expected, count) == (bytes(range(1, 17)), 2, 42, 3), "example filter: fields")
    want = set().union(*(filter_bits(blocks, repo, sha256(text)) for repo, text in keys))
    need(bits == want, "example filter: bits")


def check_examples():
    found = examples()
    check_filter_example(found)
    check_pack_example(found)
    check_chunker_example()
    check_recipe_example(found)
    check_tree_examples(found)
    check_commit_example(found)
    check_stage_examples(found)


def main(arguments):
    try:
        if not arguments:
            check_examples()
        elif arguments[0] == "pack" and len(arguments) > 1:
            for name in arguments[1:]:
                pack = Pack(pathlib.Path(name))
                print(f"{name}: {len(pack.frames)} frames, {pack.check()} chunks, "
                      f"{'sealed' if pack.sealed else 'not sealed'}, {pack.damaged} damaged, "
                      f"{pack.size - pack.end} bytes behind the last right thing")
        elif arguments[0] == "store" and len(arguments) == 3:
            Store(*arguments[1:]).check()
        elif arguments[0] == "cat" and len(arguments) == 6:
            sys.stdout.buffer.write(Store(*arguments[1:3]).cat(*arguments[3:]))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
