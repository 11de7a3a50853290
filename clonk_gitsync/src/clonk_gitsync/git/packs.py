"""Writes a pack of whole objects with its index: `gitformat-pack(5)`, version 2 of both. For SHA-1."""

import hashlib
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

KINDS: Final = {b"commit": 1, b"tree": 2, b"blob": 3}
FAST: Final = 1
"""Compression: what is sent to the remote is packed anew."""


def write_pack(folder: Path, objects: Mapping[str, tuple[bytes, bytes]]) -> None:
    """Add a pack to a folder of packs. Git sees it when it is whole. Touches the disk.

    Args:
        folder: `objects/pack` of a repository of ours.
        objects: Kind and content, by id.

    Raises:
        OSError: It cannot be written.
    """
    pack = bytearray(b"PACK" + struct.pack(">II", 2, len(objects)))
    entries: list[tuple[bytes, int, int]] = []
    for oid, (kind, content) in objects.items():
        entry = _head(KINDS[kind], len(content)) + zlib.compress(content, FAST)
        entries.append((bytes.fromhex(oid), zlib.crc32(entry), len(pack)))
        pack += entry
    checksum = _sha1(pack)
    _put(folder / f"pack-{checksum.hex()}.pack", bytes(pack) + checksum)
    _put(folder / f"pack-{checksum.hex()}.idx", _index(sorted(entries), checksum))


def _head(kind: int, size: int) -> bytes:
    head = bytearray([kind << 4 | size & 15])
    size >>= 4
    while size:
        head[-1] |= 0x80
        head.append(size & 0x7F)
        size >>= 7
    return bytes(head)


def _index(entries: list[tuple[bytes, int, int]], checksum: bytes) -> bytes:
    counts = [sum(oid[0] <= first for oid, _, _ in entries) for first in range(256)]
    index = b"\377tOc" + struct.pack(">I256I", 2, *counts) + b"".join(oid for oid, _, _ in entries)
    index += struct.pack(f">{len(entries)}I", *(crc for _, crc, _ in entries))
    index += struct.pack(f">{len(entries)}I", *(offset for _, _, offset in entries)) + checksum
    return index + _sha1(index)


def _sha1(content: bytes | bytearray) -> bytes:
    return hashlib.sha1(content, usedforsecurity=False).digest()


def _put(path: Path, content: bytes) -> None:
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix="tmp_pack_")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o444)
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
