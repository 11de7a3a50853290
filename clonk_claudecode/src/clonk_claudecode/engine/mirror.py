"""A session's transcript on its way to whoever keeps it, entry by entry as the binary writes them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import trio

from clonk_claudecode.engine.frames import Frame
from clonk_claudecode.engine.launch import has_transcript
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_core.plugin import Log

MIRROR_FROM: Final = (2, 1, 105)
"""From this version on the binary tells what it writes (`--session-mirror`); 2.1.90 does not know the option."""

MAX_PENDING_BYTES: Final = 8 * 1024 * 1024
"""Of frames that wait to be kept. Beyond it the binary has to wait, which it does when its output is not read."""

LAST_KEPT_S: Final = 3.0
"""To keep what a process has written last. What is not kept by then, the next start takes from the binary's file."""


NOT_KEPT: Final = "a transcript could not be kept; the next start takes it from the file"


class TranscriptKeeper(Protocol):
    """Keeps the transcripts of sessions, apart from the binary's own files."""

    async def prepare(self, spec: SessionSpec, *, in_use: bool = False) -> bool:
        """Bring what is kept and the binary's files in step before a process starts.

        Args:
            spec: The session.
            in_use: Whether another process of the conversation may be running, such as when a fork of it is made.

        Returns:
            Whether there is a conversation to resume.
        """

    async def keep(self, spec: SessionSpec, file_path: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Keep entries that the binary has just written.

        Args:
            spec: The session.
            file_path: Where the binary has written them.
            entries: Those.
        """

    async def catch_up(self, spec: SessionSpec) -> None:
        """Keep what is in the binary's files and is not kept yet."""


class FilesAlone:
    """Keeps nothing: the binary's own files are all there is."""

    def __init__(self, settings: EngineSettings) -> None:
        self._config_dir = settings.config_dir

    async def prepare(self, spec: SessionSpec, *, in_use: bool = False) -> bool:
        """Whether the binary has a file of that conversation."""
        return await trio.to_thread.run_sync(has_transcript, self._config_dir, spec.claude_session_id)

    async def keep(self, spec: SessionSpec, file_path: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Do nothing."""

    async def catch_up(self, spec: SessionSpec) -> None:
        """Do nothing."""


class Mirror:
    """Hands the entries that one process writes to the keeper, in order. A keeper that fails ends no turn.

    Args:
        spec: The session.
        keeper: Keeps the entries.
        tells: Whether the binary tells what it writes; of one that does not the files are read.
        log: Where failures are told.
    """

    def __init__(self, spec: SessionSpec, keeper: TranscriptKeeper, *, tells: bool, log: Log) -> None:
        self.tells = tells
        self._spec = spec
        self._keeper = keeper
        self._log = log
        self._pending: dict[str, list[Mapping[str, Any]]] = {}
        self._pending_bytes = 0
        self._arrived = trio.Event()
        self._lock = trio.Lock()

    @property
    def is_full(self) -> bool:
        """Whether the reader should wait for `flush`."""
        return self._pending_bytes > MAX_PENDING_BYTES

    def take(self, frame: Frame, size: int) -> None:
        """Take a `transcript_mirror` frame of `size` bytes."""
        path, entries = frame.get("filePath"), frame.get("entries")
        if isinstance(path, str) and isinstance(entries, list):
            self._pending.setdefault(path, []).extend(entry for entry in entries if isinstance(entry, dict))
            self._pending_bytes += size
            self._arrived.set()

    async def run(self) -> None:
        """Keep what arrives, as a task of the session."""
        while True:
            await self._arrived.wait()
            await self.flush()

    async def flush(self) -> None:
        """Return when all that was taken so far is kept."""
        async with self._lock:
            pending, self._pending = self._pending, {}
            self._pending_bytes = 0
            self._arrived = trio.Event()
            for path, entries in pending.items():
                try:
                    # Shielded: it was taken from the binary, and nobody else has it.
                    with trio.CancelScope(shield=True):
                        await self._keeper.keep(self._spec, path, entries)
                except Exception:  # noqa: BLE001 - a turn does not end for it: the file still has what was written
                    self._log.exception(NOT_KEPT, session=self._spec.session_id)

    async def end_turn(self) -> None:
        """Return when the entries of a turn are kept, before its end is told."""
        if self.tells:
            await self.flush()
        else:
            await self._catch_up()

    async def end(self) -> None:
        """Keep what a process has written up to its end. Bounded, and never cancelled."""
        with trio.move_on_after(LAST_KEPT_S, shield=True):
            await self.flush()
            await self._catch_up()

    async def _catch_up(self) -> None:
        try:
            await self._keeper.catch_up(self._spec)
        except Exception:  # noqa: BLE001 - as above
            self._log.exception(NOT_KEPT, session=self._spec.session_id)
