"""Finding the Claude Code binary, and learning its version once."""

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import DEVNULL
from typing import Final

import attrs
import trio

from clonk_claudecode.errors import BinaryBroken, BinaryMissing, BinaryTooOld

MINIMUM_VERSION: Final = (2, 1, 0)
"""The oldest whose stream-json protocol has what the driver uses."""

VERSION_TIMEOUT_S: Final = 20.0
"""`--version` takes 0.1 s; a cold disk and a busy machine take longer."""


@attrs.frozen(kw_only=True)
class Binary:
    """A Claude Code binary that can be used.

    Attributes:
        path: Where it is.
        version: Major, minor and patch.
    """

    path: Path
    version: tuple[int, int, int]

    @property
    def version_text(self) -> str:
        """The version as it is written."""
        return ".".join(map(str, self.version))


class BinaryFinder:
    """Finds the binary and remembers its version as long as the file does not change.

    Args:
        configured: `claudecode.binary_path`; None searches the usual places.
        environ: The hub's own environment, for PATH and HOME.
    """

    def __init__(self, configured: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._configured = configured
        self._environ = os.environ if environ is None else environ
        self._known: dict[tuple[str, int, int], Binary] = {}

    async def find(self) -> Binary:
        """Return the binary.

        Raises:
            BinaryMissing: There is none.
            BinaryBroken: It is not executable, or does not tell a version.
            BinaryTooOld: Older than `MINIMUM_VERSION`.
        """
        path = self._locate()
        try:
            status = path.stat()
        except OSError as error:
            raise BinaryBroken(f"its file cannot be read ({error.strerror})") from error
        key = (str(path), status.st_mtime_ns, status.st_size)
        if key not in self._known:
            self._known[key] = Binary(path=path, version=await read_version(path))
        return self._known[key]

    def _locate(self) -> Path:
        if self._configured is not None:
            path = self._configured.expanduser()
            if not path.is_file():
                raise BinaryMissing(str(self._configured))
            return path
        for path in self._usual_places():
            if path.is_file():
                return path
        raise BinaryMissing

    def _usual_places(self) -> Iterator[Path]:
        """The places to search, best first. The wheel's copy comes last: whoever installed one means that one."""
        on_path = shutil.which("claude", path=self._environ.get("PATH", os.defpath))
        if on_path:
            yield Path(on_path)
        home = Path(self._environ.get("HOME", "/nonexistent"))
        yield home / ".claude" / "local" / "claude"
        yield home / ".local" / "bin" / "claude"
        for prefix in (self._environ.get("npm_config_prefix"), home / ".npm-global", "/usr/local", "/opt/homebrew"):
            if prefix:
                yield Path(prefix) / "bin" / "claude"
        bundled = _bundled()
        if bundled is not None:
            yield bundled


def _bundled() -> Path | None:
    """Return where the Agent SDK's wheel has its copy, without importing the SDK (that takes over a second)."""
    found = importlib.util.find_spec("claude_agent_sdk")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "_bundled" / "claude"


async def read_version(path: Path) -> tuple[int, int, int]:
    """Ask a binary for its version.

    Raises:
        BinaryBroken: It cannot be started, fails, hangs, or says something else.
        BinaryTooOld: Older than `MINIMUM_VERSION`.
    """
    environment = {"PATH": os.defpath, "HOME": "/nonexistent", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1"}
    environment["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
    # A binary from npm is a script that needs node, which is where the hub finds it.
    environment["PATH"] = os.environ.get("PATH", os.defpath)
    try:
        with trio.fail_after(VERSION_TIMEOUT_S):
            done = await trio.run_process(
                [path, "--version"],
                stdin=DEVNULL,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment,
            )
    except PermissionError as error:
        raise BinaryBroken("its file is not executable for this user; `chmod +x` it") from error
    except OSError as error:
        raise BinaryBroken(f"it cannot be started ({error.strerror})") from error
    except trio.TooSlowError as error:
        raise BinaryBroken(f"it did not tell its version within {VERSION_TIMEOUT_S:g} s") from error
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip()[-300:]
        raise BinaryBroken(f"`--version` ended with exit code {done.returncode} {complaint}".rstrip())
    return _parse_version(said)


def _parse_version(said: str) -> tuple[int, int, int]:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", said)
    if match is None:
        raise BinaryBroken(f"`--version` said {said[:100]!r}, which is no version")
    version = (int(match[1]), int(match[2]), int(match[3]))
    if version < MINIMUM_VERSION:
        raise BinaryTooOld(match[0], ".".join(map(str, MINIMUM_VERSION)))
    return version
