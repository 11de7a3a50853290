"""A copy of a conversation up to one of its entries, as files that the binary resumes from. Blocking: for a thread."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from clonk_claudecode.engine.project_folder import folder_name
from clonk_claudecode.setup import CONFIG_FOLDER

_UUID: Final = re.compile(rb'"uuid":"([^"\\]{1,64})"')


def find_transcript(data_dir: Path, claude_session_id: str) -> Path | None:
    """Return the file of a conversation, None when nothing was ever said. Looks into every folder: for a thread.

    Args:
        data_dir: The package's own folder.
        claude_session_id: UUID of the conversation.
    """
    return next(_projects(data_dir).glob(f"*/{claude_session_id}.jsonl"), None)


def last_entry(data_dir: Path, claude_session_id: str, entries: Sequence[str]) -> str | None:
    """Return the first of some entries that a transcript has; None when it has none of them. For a thread.

    Args:
        data_dir: The package's own folder.
        claude_session_id: UUID of the conversation.
        entries: Uuids, the most wanted first.
    """
    path = find_transcript(data_dir, claude_session_id)
    found = None if path is None else _find_entry(path, entries)
    return None if found is None else found[0]


def copy_transcript(
    data_dir: Path, source_id: str, target_id: str, *, entries: Sequence[str], working_dir: Path | None = None
) -> str | None:
    """Write a new transcript that holds another one up to an entry, and return that entry. For a thread.

    The binary resumes from it as from any other. A tool that was at work there, and a prompt without an answer, it
    closes by itself (seen with 2.1.330). What tools have left beside the transcript is there for the copy too, so that
    the other conversation can be deleted.

    Args:
        data_dir: The package's own folder.
        source_id: UUID of the conversation to copy.
        target_id: UUID of the new one.
        entries: Uuids of its entries, the last one wanted first: the first that is there is the last one copied.
        working_dir: Where the new conversation works, when that is elsewhere.

    Returns:
        The last entry that was copied; None when there was none, and nothing was written: the binary begins anew.
    """
    source = find_transcript(data_dir, source_id)
    found = None if source is None else _find_entry(source, entries)
    if source is None or found is None:
        return None
    entry, end = found
    folder = source.parent if working_dir is None else source.parent.parent / folder_name(str(working_dir))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    renames = (
        (os.fsencode(source.parent / source_id), os.fsencode(folder / target_id)),
        (source_id.encode(), target_id.encode()),
    )
    _copy_companions(source.parent / source_id, folder / target_id, renames)
    _copy_lines(source, folder / f"{target_id}.jsonl", renames, end)
    _give_like(source, [folder, *folder.glob(f"{target_id}*"), *(folder / target_id).rglob("*")])
    return entry


def _projects(data_dir: Path) -> Path:
    return data_dir / CONFIG_FOLDER / "projects"


def _find_entry(path: Path, entries: Sequence[str]) -> tuple[str, int] | None:
    """Return the first of some entries that is there, and where its line ends."""
    ranks = {entry.encode(): rank for rank, entry in enumerate(entries)}
    best: tuple[int, int] | None = None
    end = 0
    with path.open("rb") as file:
        for line in file:
            end += len(line)
            if not line.endswith(b"\n"):  # being written
                break
            for match in _UUID.finditer(line):
                rank = ranks.get(match[1])
                if rank is not None and (best is None or rank < best[0]) and _uuid_of(line) == match[1]:
                    best = (rank, end)
    return None if best is None else (entries[best[0]], best[1])


def _uuid_of(line: bytes) -> bytes | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    uuid = entry.get("uuid") if isinstance(entry, dict) else None
    return uuid.encode() if isinstance(uuid, str) else None


def _copy_lines(source: Path, target: Path, renames: Sequence[tuple[bytes, bytes]], end: int | None = None) -> None:
    """Copy lines up to `end`, with other names in them; on the disk when it returns."""
    with source.open("rb") as reading, open(target, "wb", opener=_for_us_alone) as writing:
        done = 0
        for line in reading:
            done += len(line)
            changed = line
            for old, new in renames:
                changed = changed.replace(old, new)
            writing.write(changed)
            if end is not None and done >= end:
                break
        writing.flush()
        os.fsync(writing.fileno())


def _give_like(source: Path, paths: Sequence[Path]) -> None:
    """Give what was made to the user who has made the source, where the server is root and sessions are not."""
    status = source.stat()
    if os.geteuid() != 0 or status.st_uid == 0:
        return
    for path in paths:
        if path.exists():
            os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _copy_companions(source: Path, target: Path, renames: Sequence[tuple[bytes, bytes]]) -> None:
    """Copy what lies beside a transcript: outputs of tools, which never change, and what subagents said."""
    if not source.is_dir():
        return
    for path in source.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.suffix == ".jsonl":
            _copy_lines(path, copy, renames)
            continue
        try:
            copy.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, copy)
