"""Entries of a transcript: lines in, entries out, and how two copies of a transcript differ. No I/O here."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs
import orjson

from clonk_claudecode.engine.frames import NotAFrame, parse_frame
from clonk_claudecode.store.transcript_rows import Entry

LOCAL_TYPES: Final = ("api-request",)
"""How the types of entries begin that the binary keeps in its file and never mirrors: a record of its requests, which a
resumed session does without."""

METADATA: Final = "agent_metadata"
"""The type under which the description of a subagent is mirrored; among the files it has one of its own."""

Key: TypeAlias = str | bytes
"""What tells entries apart: their uuid, or all they say."""


def entry_of(entry: Mapping[str, Any], text: str | None = None) -> Entry:
    """Return an entry as it is stored.

    Args:
        entry: What it says.
        text: The line it was read from; None has it written anew.
    """
    uuid = entry.get("uuid")
    known = uuid if isinstance(uuid, str) and uuid else None
    return Entry(known, orjson.dumps(entry).decode() if text is None else text)


def key_of(uuid: str | None, text: str | None) -> Key:
    """Return what tells an entry apart from others."""
    if uuid is not None:
        return uuid
    return orjson.dumps(orjson.loads(text or "null"), option=orjson.OPT_SORT_KEYS)


def is_local(entry: Mapping[str, Any]) -> bool:
    """Whether the binary keeps an entry to itself."""
    return str(entry.get("type", "")).startswith(LOCAL_TYPES)


@attrs.frozen
class FilePart:
    """What a file holds from some byte on.

    Attributes:
        entries: The whole entries, without those that the binary keeps to itself.
        end: Where the last whole line ends, in bytes from the beginning of the file.
        is_damaged: Whether there is something that is no entry: half a line that a crash left.
    """

    entries: tuple[Entry, ...]
    end: int
    is_damaged: bool


def parse_lines(data: bytes, start: int) -> FilePart:
    """Read the lines of a transcript.

    Args:
        data: What the file holds from byte `start` on.
        start: Where that begins: the beginning of a line.
    """
    end = data.rfind(b"\n") + 1
    entries: list[Entry] = []
    damaged = bool(data[end:].strip())
    for line in data[:end].split(b"\n"):
        if not line.strip():
            continue
        try:
            entry = parse_frame(line)
        except NotAFrame:
            damaged = True
            continue
        if not is_local(entry):
            entries.append(entry_of(entry, _text(line)))
    return FilePart(tuple(entries), start + end, damaged)


def _text(line: bytes) -> str | None:
    """Return a line as text, None when it must be written anew: half characters cannot be stored."""
    if b"\\ud" in line.lower():
        return None
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


@attrs.frozen
class Difference:
    """How a file and the store's copy differ.

    Attributes:
        only_in_file: Entries that the store has not, in order.
        lacks: Whether the file lacks messages that the store has.
        file_is_longer: Whether the file has more messages than the store that the other has not.
    """

    only_in_file: tuple[Entry, ...]
    lacks: bool
    file_is_longer: bool

    @property
    def has_parted(self) -> bool:
        """Whether each has messages that the other has not."""
        return self.lacks and any(entry.uuid for entry in self.only_in_file)


def compare(file: Sequence[Entry], stored: Iterable[tuple[str | None, str | None]]) -> Difference:
    """Compare what a file holds with what is stored.

    Only entries with a uuid, the messages, tell who lacks what: the others may come more than once.
    """
    known = Counter(key_of(uuid, text) for uuid, text in stored)
    uuids_stored = {key for key in known if isinstance(key, str)}
    missing = []
    for entry in file:
        key = key_of(entry.uuid, entry.text)
        if known[key] > 0:
            known[key] -= 0 if isinstance(key, str) else 1
        else:
            missing.append(entry)
    lost = uuids_stored - {entry.uuid for entry in file}
    new = {entry.uuid for entry in missing if entry.uuid is not None}
    return Difference(tuple(missing), bool(lost), len(new) > len(lost))
