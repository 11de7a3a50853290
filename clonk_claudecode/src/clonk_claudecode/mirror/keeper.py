"""Keeps transcripts in the store, and brings the binary's files in step with it before a session's process starts.

Where the two differ: entries are only ever added, so whichever lacks messages gets those of the other. Should each have
messages that the other has not (one of them came back from a backup, and the session was used after that), the one with
more of them wins. When that is the file, its messages are added to the store's; when it is the store, the file is
written anew and the old one stays beside it as `.replaced`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_claudecode.engine.spec import SessionSpec
from clonk_claudecode.errors import BinaryBroken
from clonk_claudecode.mirror.entries import compare, entry_of, is_local, key_of
from clonk_claudecode.mirror.files import ConversationFiles, FileState
from clonk_claudecode.store import transcript_rows
from clonk_claudecode.store.transcript_rows import MAIN, Entry
from clonk_core.plugin import Database, Log

PAGE: Final = 200
"""Entries read from the store at once; a large one has some hundred KiB."""

MAX_MARKS: Final = 10_000
"""Sessions of which is remembered how far store and file agree; of others both are read at the next start."""


@attrs.frozen
class Mark:
    """Up to where a file and the store's copy agree.

    Attributes:
        state: The file as it was then.
        end: That far it was read, in bytes.
        seq: The store's last entry.
    """

    state: FileState
    end: int
    seq: int


@attrs.frozen
class Taken:
    """What was seen of a file when its entries were taken.

    Attributes:
        must_write: Whether the file lacks messages, or is damaged.
        has_parted: Whether file and store each had messages of their own.
    """

    must_write: bool
    has_parted: bool


class Keeper:
    """The engine's `TranscriptKeeper`, on the store.

    Args:
        database: `claudecode.db`.
        config_dir: The binary's own folder.
        log: For what nobody waits for.
    """

    def __init__(self, database: Database, config_dir: Path, log: Log) -> None:
        self._database = database
        self._config_dir = config_dir
        self._log = log
        self._marks: dict[str, dict[str, Mark]] = {}

    # ── What the engine calls ─────────────────────────────────────────────────

    async def prepare(self, spec: SessionSpec, *, in_use: bool = False) -> bool:
        """Bring store and files in step.

        Args:
            spec: The session.
            in_use: Whether a process may be writing the files: those that are there stay as they are.
        """
        files = self._files(spec)
        try:
            if not in_use:
                await trio.to_thread.run_sync(files.settle)
            states = await trio.to_thread.run_sync(files.states)
            stored = await self._stored(spec)
            for path in sorted({*states, *stored}):
                if not (in_use and path in states):
                    await self._agree(spec, files, path, states.get(path), stored.get(path, 0))
        except OSError as error:
            raise BinaryBroken(f"the transcript cannot be read or written ({error.strerror})") from error
        return MAIN in await self._stored(spec) or (in_use and MAIN in states)

    async def keep(self, spec: SessionSpec, file_path: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add entries to the store. Those of another conversation, a fork that is thrown away, are left out."""
        path = self._files(spec).path_of(file_path)
        if path is not None:
            await self._append(spec, path, [entry_of(entry) for entry in entries if not is_local(entry)])

    async def catch_up(self, spec: SessionSpec) -> None:
        """Add to the store what the files have and it has not. The files stay as they are."""
        files = self._files(spec)
        states = await trio.to_thread.run_sync(files.states)
        stored = await self._stored(spec)
        for path, state in states.items():
            await self._take(spec, files, path, state, stored.get(path, 0))

    async def add(self, spec: SessionSpec, entries: Sequence[Entry]) -> None:
        """Add entries to the store that the binary has not written. Its file gets them before its next start."""
        await self._append(spec, MAIN, entries)

    # ── One transcript ────────────────────────────────────────────────────────

    async def _agree(
        self, spec: SessionSpec, files: ConversationFiles, path: str, state: FileState | None, seq: int
    ) -> None:
        """Bring one transcript's file and the store's copy in step."""
        mark = self._mark(spec, path, state, seq)
        if mark is not None and state is not None and (mark.state, mark.seq) == (state, seq):
            return
        if state is None:
            await self._write(spec, files, path)
            return
        taken = await self._take(spec, files, path, state, seq)
        if taken.must_write:
            if taken.has_parted:
                self._log.warning("a transcript had parted from its file", session=spec.session_id, path=path)
            if path in await self._stored(spec):
                await self._write(spec, files, path, keep_old=taken.has_parted)
            else:  # nothing in it can be read, and the binary would take it for a conversation
                await trio.to_thread.run_sync(files.set_aside, path)

    async def _take(self, spec: SessionSpec, files: ConversationFiles, path: str, state: FileState, seq: int) -> Taken:
        """Add to the store what a file has more."""
        mark = self._mark(spec, path, state, seq)
        start, after = (0, 0) if mark is None else (mark.end, mark.seq)
        part = await trio.to_thread.run_sync(files.read, path, start)
        keys = await self._database.read(transcript_rows.entry_keys, spec.claude_session_id, path, after)
        difference = await trio.to_thread.run_sync(compare, part.entries, keys)
        if difference.file_is_longer or not difference.has_parted:
            seq += await self._append(spec, path, difference.only_in_file)
            seq += await self._take_metadata(spec, files, path)
        taken = Taken(must_write=part.is_damaged or difference.lacks, has_parted=difference.has_parted)
        if not taken.must_write:
            self._remember(spec, path, Mark(state, part.end, seq))
        return taken

    async def _take_metadata(self, spec: SessionSpec, files: ConversationFiles, path: str) -> int:
        found = await trio.to_thread.run_sync(files.metadata, path)
        if found is None:
            return 0
        known = await self._database.read(transcript_rows.last_metadata, spec.claude_session_id, path)
        if known is not None and key_of(None, known) == key_of(None, found.text):
            return 0
        return await self._append(spec, path, [found])

    async def _write(self, spec: SessionSpec, files: ConversationFiles, path: str, *, keep_old: bool = False) -> None:
        """Write a file anew from the store."""

        def pages() -> Iterator[list[Entry]]:
            """Read from the store while the file is written, so that only a page is in memory."""
            after: int | None = 0
            while after is not None:
                read = partial(
                    transcript_rows.read_page, conversation=spec.claude_session_id, path=path, after=after, limit=PAGE
                )
                page, after = trio.from_thread.run(self._database.read, read)
                yield page

        await trio.to_thread.run_sync(lambda: files.write(path, pages(), keep_old=keep_old))
        state = await trio.to_thread.run_sync(files.state, path)
        seq = (await self._stored(spec)).get(path, 0)
        if state is not None:
            self._remember(spec, path, Mark(state, state.size, seq))

    async def _append(self, spec: SessionSpec, path: str, entries: Sequence[Entry]) -> int:
        if not entries:
            return 0
        now = datetime.now(UTC)
        return await self._database.write_grouped(
            transcript_rows.append_entries, spec.session_id, spec.claude_session_id, path, entries, now
        )

    # ── What is known ─────────────────────────────────────────────────────────

    def _files(self, spec: SessionSpec) -> ConversationFiles:
        return ConversationFiles(self._config_dir, spec.claude_session_id, spec.working_dir)

    async def _stored(self, spec: SessionSpec) -> dict[str, int]:
        found = await self._database.read(transcript_rows.stored_paths, spec.claude_session_id)
        return {one.path: one.last_seq for one in found}

    def _mark(self, spec: SessionSpec, path: str, state: FileState | None, seq: int) -> Mark | None:
        """Return up to where both agree, None when nothing is known of it that still holds."""
        mark = self._marks.get(spec.claude_session_id, {}).get(path)
        if mark is None or state is None or mark.seq > seq:
            return None
        return mark if mark.state.inode == state.inode and mark.end <= state.size else None

    def _remember(self, spec: SessionSpec, path: str, mark: Mark) -> None:
        marks = self._marks.pop(spec.claude_session_id, {})
        marks[path] = mark
        self._marks[spec.claude_session_id] = marks
        if len(self._marks) > MAX_MARKS:
            del self._marks[next(iter(self._marks))]
