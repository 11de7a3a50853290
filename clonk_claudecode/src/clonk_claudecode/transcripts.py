"""Transcripts of sessions: the store's copy, which counts, and the binary's own files, which are written from it."""

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
import trio

from clonk_claudecode.messages import StoredSession
from clonk_claudecode.setup import CONFIG_FOLDER
from clonk_claudecode.store import transcript_rows
from clonk_claudecode.store.transcript_rows import MAIN, Entry
from clonk_core.plugin import Database, Transaction

PAGE: Final = 200
"""Entries read at once; a large one has some hundred KiB."""


async def read_entries(database: Database, claude_session_id: str, path: str = MAIN) -> AsyncIterator[Entry]:
    """Yield the entries of a conversation's transcript, in the order they were written.

    Args:
        database: `claudecode.db`.
        claude_session_id: UUID of the conversation.
        path: Which one: its own, or that of a subagent.
    """
    after: int | None = 0
    while after is not None:
        page, after = await database.read(transcript_rows.read_page, claude_session_id, path, after, PAGE)
        for entry in page:
            yield entry


def store_transcript(
    transaction: Transaction,
    session_id: str,
    claude_session_id: str,
    transcript: Mapping[str, Sequence[Entry]],
    now: datetime,
) -> None:
    """Put a transcript in the place of what a conversation has, as a part of a transaction.

    Args:
        transaction: Of `claudecode.db`.
        session_id: Clonk's own id of the session, which is stored already.
        claude_session_id: UUID of the conversation.
        transcript: Entries by path.
        now: The clock time.
    """
    transcript_rows.delete_entries(transaction, claude_session_id)
    for path, entries in transcript.items():
        transcript_rows.append_entries(transaction, session_id, claude_session_id, path, entries, now)


async def write_transcript(
    database: Database, data_dir: Path, session: StoredSession, transcript: Mapping[str, Sequence[Entry]]
) -> None:
    """Put a transcript in the place of what a parked session has. The next prompt goes on from it.

    Args:
        database: `claudecode.db`.
        data_dir: The package's own folder.
        session: The session. Entries should bear its `claude_session_id`; see `with_session_id`.
        transcript: Entries by path; `MAIN` is its own.
    """
    await database.run(store_transcript, session.id, session.claude_session_id, transcript, datetime.now(UTC))
    # The binary's files would seem to be ahead; without them they are written anew at the next start.
    await trio.to_thread.run_sync(delete_transcript, data_dir, session.claude_session_id)


def with_session_id(entry: Entry, claude_session_id: str) -> Entry:
    """Return an entry as one of another conversation."""
    members = orjson.loads(entry.text)
    if "sessionId" not in members:
        return entry
    return Entry(entry.uuid, orjson.dumps({**members, "sessionId": claude_session_id}).decode())


def delete_transcript(data_dir: Path, claude_session_id: str) -> None:
    """Delete what the binary keeps of a conversation: its transcript, and the output of its commands.

    Looks into every folder there.

    Args:
        data_dir: The package's own folder.
        claude_session_id: UUID of the conversation.
    """
    for path in _places(data_dir / CONFIG_FOLDER, claude_session_id):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if path.parent.parent.name == "projects" or path.parent.parent.parent in _tmp_dirs():
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # when it was the only conversation in its working directory


def _places(config_dir: Path, claude_session_id: str) -> Iterator[Path]:
    yield from config_dir.glob(f"projects/*/{claude_session_id}*")
    yield from config_dir.glob(f"*/{claude_session_id}*")
    # Where commands in the background write, in all versions so far; sessions may run as another user.
    for folder in _tmp_dirs():
        yield from folder.glob(f"claude-[0-9]*/*/{claude_session_id}")


def _tmp_dirs() -> tuple[Path, ...]:
    """Return where the binary keeps passing files: it does not know of a TMPDIR of ours."""
    return tuple({Path("/tmp"), Path(tempfile.gettempdir())})  # noqa: S108 - the binary's
