"""The binary's own files of a conversation: where they are, reading and writing them. Blocking: for a thread."""

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import attrs
import orjson

from clonk_claudecode.engine.project_folder import MAX_FOLDER_NAME, folder_name
from clonk_claudecode.mirror.entries import METADATA, FilePart, parse_lines
from clonk_claudecode.store.transcript_rows import MAIN, Entry

SUBAGENT_PATH: Final = re.compile(r"subagents(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){1,4}")
"""What the path of a subagent's transcript looks like; it becomes part of a file's name."""


@attrs.frozen
class FileState:
    """A file as it was at some moment.

    Attributes:
        inode: Which file.
        size: In bytes.
        mtime_ns: When it was last written.
    """

    inode: int
    size: int
    mtime_ns: int


class ConversationFiles:
    """The files of one conversation.

    Args:
        config_dir: The binary's own folder.
        claude_session_id: UUID of the conversation.
        working_dir: Where the session works: an older binary looks for a conversation only in that one's folder.
    """

    def __init__(self, config_dir: Path, claude_session_id: str, working_dir: Path) -> None:
        self._projects = config_dir / "projects"
        self._id = claude_session_id
        self._folder_name = folder_name(str(working_dir))

    def settle(self) -> None:
        """Move the files to the working directory's folder, if they are in another one's."""
        found = self._find()
        if found is None or self._is_own(found.name) or not self._is_inside(found / self._id):
            return
        own = self._own_folder()
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in (f"{self._id}.jsonl", self._id):
            if (found / name).exists():
                (found / name).rename(own / name)

    def states(self) -> dict[str, FileState]:
        """Return the transcripts that are there, by path."""
        folder = self._find()
        if folder is None:
            return {}
        states = {}
        for path in (MAIN, *self._subagents(folder / self._id)):
            state = self.state(path)
            if state is not None:
                states[path] = state
        return states

    def state(self, path: str) -> FileState | None:
        """Return what a file is like now, None when it is not there."""
        file = self.file(path)
        try:
            status = file.lstat()
        except OSError:
            return None
        if not (stat.S_ISREG(status.st_mode) and self._is_inside(file)):
            return None
        return FileState(status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self, path: str, start: int) -> FilePart:
        """Return what a file holds from byte `start` on; nothing of one that is not there."""
        try:
            with self._open(self.file(path)) as file:
                file.seek(start)
                return parse_lines(file.read(), start)
        except FileNotFoundError:
            return FilePart((), start, is_damaged=False)

    def metadata(self, path: str) -> Entry | None:
        """Return the description of a subagent, as it is mirrored; None when there is none."""
        if path == MAIN:
            return None
        try:
            with self._open(self._metadata_file(path)) as file:
                found = orjson.loads(file.read())
        except (OSError, orjson.JSONDecodeError):
            return None
        if not isinstance(found, dict):
            return None
        return Entry(None, orjson.dumps({**found, "type": METADATA}).decode())

    def file(self, path: str) -> Path:
        """Return the file of a transcript, whether it is there or not.

        Raises:
            ValueError: The path is none that the binary would use.
        """
        folder = self._find() or self._own_folder()
        if path == MAIN:
            return folder / f"{self._id}.jsonl"
        if not is_path(path):
            raise ValueError(f"{path!r} is no path of a transcript")
        return folder / self._id / f"{path}.jsonl"

    def write(self, path: str, pages: Iterable[Iterable[Entry]], *, keep_old: bool = False) -> None:
        """Write a file anew, whole or not at all.

        Args:
            path: Which transcript.
            pages: All its entries.
            keep_old: Whether what was there stays, beside it, as `.replaced`.
        """
        target = self.file(path)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._is_inside(target):
            raise OSError(errno.EXDEV, "its folder is a link to elsewhere")
        part = target.with_name(f"{target.name}.part")
        metadata: dict[str, object] | None = None
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for page in pages:
                for entry in page:
                    if entry.uuid is None and path != MAIN and METADATA in entry.text:
                        found = orjson.loads(entry.text)
                        if found.get("type") == METADATA:
                            metadata = {name: value for name, value in found.items() if name != "type"}
                            continue
                    file.write(entry.text.encode() + b"\n")
        if keep_old and target.exists():
            self.set_aside(path)
        part.replace(target)
        if metadata is not None:
            description = self._metadata_file(path)
            description.unlink(missing_ok=True)
            description.write_bytes(orjson.dumps(metadata))

    def set_aside(self, path: str) -> None:
        """Rename a file to what the binary does not read; one that was set aside before gives way to it."""
        target = self.file(path)
        target.replace(target.with_name(f"{target.name}.replaced"))

    def path_of(self, file_path: str) -> str | None:
        """Return which of the conversation's transcripts a file of the binary's is; None for another one's."""
        try:
            parts = Path(file_path).relative_to(self._projects).parts
        except ValueError:
            return None
        if len(parts) == 2 and parts[1] == f"{self._id}.jsonl":
            return MAIN
        path = "/".join(parts[2:]).removesuffix(".jsonl")
        return path if len(parts) > 2 and parts[1] == self._id and is_path(path) else None

    def _is_inside(self, file: Path) -> bool:
        """Whether a file is really where its name says: sessions can write here, and may have put links."""
        return file.parent.resolve().is_relative_to(self._projects.parent.resolve() / self._projects.name)

    def _open(self, file: Path) -> BinaryIO:
        """Open a file that is one, and no link.

        Raises:
            OSError: It is not there, or is something else.
        """
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and self._is_inside(file):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "it is no file", str(file))

    def _metadata_file(self, path: str) -> Path:
        file = self.file(path)
        return file.with_name(f"{file.name.removesuffix('.jsonl')}.meta.json")

    def _find(self) -> Path | None:
        """Return the folder that holds the conversation; the working directory's own before any other."""
        name = f"{self._id}.jsonl"
        if (self._projects / self._folder_name / name).exists():
            return self._projects / self._folder_name
        try:
            with os.scandir(self._projects) as folders:
                for folder in folders:
                    if os.path.exists(f"{folder.path}/{name}"):  # noqa: PTH110 - three times as fast as with a Path
                        return Path(folder.path)
        except FileNotFoundError:
            pass
        return None

    def _own_folder(self) -> Path:
        """Return the working directory's folder; one that is there under another hash before a new one."""
        own = self._projects / self._folder_name
        if len(self._folder_name) > MAX_FOLDER_NAME and not own.exists() and self._projects.exists():
            return next((one for one in self._projects.iterdir() if self._is_own(one.name)), own)
        return own

    def _is_own(self, name: str) -> bool:
        if name == self._folder_name:
            return True
        start = f"{self._folder_name[:MAX_FOLDER_NAME]}-"
        return len(self._folder_name) > MAX_FOLDER_NAME and name.startswith(start)

    def _subagents(self, folder: Path) -> Iterator[str]:
        for file in sorted((folder / "subagents").glob("**/*.jsonl")):
            path = file.relative_to(folder).as_posix().removesuffix(".jsonl")
            if is_path(path):
                yield path


def is_path(path: str) -> bool:
    """Whether this may be the path of a subagent's transcript: below the conversation's folder, and nowhere else."""
    return SUBAGENT_PATH.fullmatch(path) is not None
