"""The key of the stored secrets: where it comes from, and how a new one takes the place of the old one."""

import base64
import binascii
import contextlib
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import attrs
import trio

from clonk_core.errors import ConfigError
from clonk_core.storage.errors_of_sqlite import translate_os
from clonk_core.storage.key_command import run_key_command

KEY_BYTES: Final = 32
"""AES-256."""

KEY_FILE: Final = "secret.key"
NEXT_KEY_FILE: Final = "secret.key.new"
"""The key that a rotation re-encrypts under; it takes the other's place once every secret is under it."""

_UNFINISHED_FILE: Final = "secret.key.tmp"
_MAX_FILE_BYTES: Final = 4096
_HOW_TO_MAKE: Final = "`openssl rand -base64 32` makes one"


@attrs.frozen(kw_only=True)
class SecretKey:
    """One key.

    Attributes:
        material: The 32 bytes; kept out of `repr`.
        id: First 16 hex digits of SHA-256 over them; says which key it is and nothing about it.
    """

    material: bytes = attrs.field(repr=False)
    id: str = attrs.field(init=False)

    @id.default
    def _name(self) -> str:
        return hashlib.sha256(self.material).hexdigest()[:16]


class KeySource(Protocol):
    """Where the key comes from.

    All but `load` are called within a write transaction on `clonk.db`, whose lock keeps other processes from changing
    the key's files at the same time, and on the database's thread.

    Attributes:
        place: Its name for messages.
    """

    @property
    def place(self) -> str: ...

    @property
    def is_rotating(self) -> bool:
        """Whether a rotation has begun whose new key is not in its place yet."""

    async def load(self) -> Sequence[SecretKey]:
        """Read the keys there are now; none when there is none yet.

        Raises:
            ConfigError: A key is there that cannot be used, or cannot be read.
        """

    def first(self) -> SecretKey:
        """Return the key for a store that is empty; made when there is none."""

    def next(self) -> SecretKey:
        """Return the key to re-encrypt under."""

    def abandon(self) -> None:
        """Forget the key that `next` has made: nothing is under it."""

    def settle(self, current_id: str | None) -> None:
        """Put the key that `next` has made into its place, if that is the one the secrets are under."""


def choose_key_source(*, key_file: Path | None, key_command: Sequence[str], data_dir: Path) -> KeySource:
    """Return the source of the key: what is configured, else a file in the data directory."""
    if key_file is not None:
        return GivenKey(f"secrets.key_file ({key_file})", file=key_file)
    if key_command:
        return GivenKey("secrets.key_command", command=tuple(key_command))
    return OwnKey(data_dir)


class GivenKey:
    """A key that the operator keeps, in a file or behind a command."""

    is_rotating: Final = False

    def __init__(self, place: str, *, file: Path | None = None, command: Sequence[str] = ()) -> None:
        self.place = place
        self._file = file
        self._command = command
        self._loaded: SecretKey | None = None

    async def load(self) -> Sequence[SecretKey]:
        if self._file is not None:
            self._loaded = await trio.to_thread.run_sync(read_key_file, self._file, self.place)
        else:
            self._loaded = decode_key(await run_key_command(self._command), self.place)
        return (self._loaded,)

    def first(self) -> SecretKey:
        if self._loaded is None:
            raise AssertionError("`load` comes first")
        return self._loaded

    def next(self) -> SecretKey:
        return self.first()

    def abandon(self) -> None:
        """Nothing was made."""

    def settle(self, current_id: str | None) -> None:
        """It is the operator who puts keys into their place."""


class OwnKey:
    """A key that Clonk makes itself, in the data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir
        self._path = data_dir / KEY_FILE
        self._next_path = data_dir / NEXT_KEY_FILE

    @property
    def place(self) -> str:
        return str(self._path)

    @property
    def is_rotating(self) -> bool:
        return self._next_path.exists()

    async def load(self) -> Sequence[SecretKey]:
        return await trio.to_thread.run_sync(self._read_both)

    def _read_both(self) -> Sequence[SecretKey]:
        # The new one first: when it takes the other's place in between, it is found there.
        coming = self._read(self._next_path)
        current = self._read(self._path)
        return [key for key in (current, coming) if key is not None]

    def first(self) -> SecretKey:
        return self._read(self._path) or self._make(self._path)

    def next(self) -> SecretKey:
        return self._read(self._next_path) or self._make(self._next_path)

    def abandon(self) -> None:
        self._next_path.unlink(missing_ok=True)

    def settle(self, current_id: str | None) -> None:
        coming = self._read(self._next_path)
        if coming is None or coming.id != current_id:
            return
        try:
            self._next_path.replace(self._path)
            _sync_folder(self._folder)
        except OSError as error:
            raise translate_os(error, self._path) from error

    def _read(self, path: Path) -> SecretKey | None:
        try:
            return decode_key(_owners_content(path, str(path)), str(path))
        except FileNotFoundError:  # perhaps since a moment, when another process has finished a rotation
            return None
        except OSError as error:
            raise _unreadable(str(path), error) from error

    def _make(self, path: Path) -> SecretKey:
        """Write a new key; whoever reads finds all of it or no file at all, whenever the machine stops."""
        key = SecretKey(material=os.urandom(KEY_BYTES))
        unfinished = self._folder / _UNFINISHED_FILE
        try:
            unfinished.unlink(missing_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(base64.b64encode(key.material) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
            _sync_folder(self._folder)
        except OSError as error:
            raise translate_os(error, path) from error
        return key


def read_key_file(path: Path, place: str) -> SecretKey:
    """Read a key from a file that nobody but its owner can read.

    Args:
        path: Which.
        place: Its name for messages.

    Raises:
        ConfigError: It is not there, others can read it, or it holds no key.
    """
    try:
        return decode_key(_owners_content(path, place), place)
    except OSError as error:
        raise _unreadable(place, error) from error


def _owners_content(path: Path, place: str) -> bytes:
    """Return what stands in a file, as far as a key would, after checking that it is its owner's alone.

    Raises:
        OSError: It cannot be read.
        ConfigError: Others can use it.
    """
    # Without waiting for the other side of a pipe, which is refused then.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{place}: is no regular file")
        if status.st_mode & 0o077:
            raise ConfigError(
                f"{place}: others than its owner can use it (mode {stat.S_IMODE(status.st_mode):04o}); "
                f"`chmod 600 {path}` mends that, in a container the mode that it is mounted with"
            )
        return os.read(descriptor, _MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)


def _unreadable(place: str, error: OSError) -> ConfigError:
    return ConfigError(f"{place}: cannot be read ({error.strerror})")


def decode_key(content: bytes, place: str) -> SecretKey:
    """Return the key that a text says.

    Raises:
        ConfigError: It is not 32 bytes in base64.
    """
    material = b""
    with contextlib.suppress(binascii.Error):
        material = base64.b64decode(content.strip(), validate=True)
    if len(content) > _MAX_FILE_BYTES or len(material) != KEY_BYTES:
        # Neither the text nor a cause that would hold it.
        raise ConfigError(f"{place}: holds no key, which is {KEY_BYTES} bytes in base64; {_HOW_TO_MAKE}")
    return SecretKey(material=material)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
