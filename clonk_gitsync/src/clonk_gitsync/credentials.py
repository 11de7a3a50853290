"""What opens a remote: read from the secret store for one exchange, handed over once, kept nowhere.

A token goes through a pipe that git's askpass program reads to its end: it is in no argument, variable, URL or file. An
SSH key is a file that only we can read, for as long as the exchange takes; what a killed server left of it goes at the
next start.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from shlex import quote
from typing import Final

import attrs
import trio

from clonk_core.plugin import Unavailable
from clonk_gitsync.policy import Remote
from clonk_gitsync.settings import CredentialSettings, GitSyncSettings

ASKPASS: Final = """#!/bin/sh
# Answers git once, when it asks for the password of the one host that this exchange is with; git-lfs asks by git.
case "$1" in
"Password for '"*"@$CLONK_ASKPASS_HOST': ") exec cat "/dev/fd/$CLONK_ASKPASS_FD" ;;
esac
exit 1
"""

KEY_FOLDER: Final = "ssh-"
"""What the names of folders begin with that hold a private key."""

MAX_TOKEN: Final = 16_384
"""Bytes of a token: a pipe takes them at once."""

ReadSecret = Callable[[str], Awaitable[str | None]]


@attrs.frozen(kw_only=True)
class Handed:
    """What git is given for one exchange.

    Attributes:
        env: Variables.
        options: Settings.
        pass_fds: Descriptors.
        secret: The value that must not be shown; empty for none.
    """

    env: dict[str, str] = attrs.field(factory=dict)
    options: tuple[str, ...] = ()
    pass_fds: tuple[int, ...] = ()
    secret: str = attrs.field(default="", repr=False)


class Credentials:
    """Finds and hands over credentials.

    Args:
        settings: Which secret opens which host.
        secret: Reads the secret store.
        folder: Ours alone; the askpass program and `known_hosts` are written there.
        forge_token: Gives what opens the forge of a remote.
    """

    def __init__(
        self,
        settings: GitSyncSettings,
        secret: ReadSecret,
        folder: Path,
        forge_token: Callable[[Remote], Awaitable[str]],
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._folder = folder
        for left in folder.glob(f"{KEY_FOLDER}*"):  # by a server that was killed
            shutil.rmtree(left, ignore_errors=True)
        self._forge_token = forge_token

    @asynccontextmanager
    async def hand_over(self, remote: Remote) -> AsyncIterator[Handed]:
        """Give what git needs for one command with a remote.

        Raises:
            Unavailable: A secret that the configuration names is not there, or is not what it should be; or the server
                has no `ssh`.
            RemoteFailed: A forge shall give the token, and does not.
        """
        found = self._found(remote)
        if remote.protocol == "ssh":
            key = None if found is None or found.ssh_key is None else await self._read(found.ssh_key)
            async with self._ssh(key) as handed:
                yield handed
        elif found is not None and remote.protocol in {"https", "http"}:
            token = await self._forge_token(remote) if found.token is None else await self._read(found.token)
            async with self._askpass(remote, found.username, token) as handed:
                yield handed
        else:
            yield Handed()

    def _found(self, remote: Remote) -> CredentialSettings | None:
        wants_key = remote.protocol == "ssh"
        return next(
            (
                one
                for one in self._settings.credentials
                if (one.ssh_key is not None) == wants_key and fnmatchcase(remote.host, one.host.lower())
            ),
            None,
        )

    async def _read(self, name: str) -> str:
        return await read_secret(self._secret, name)

    @asynccontextmanager
    async def _askpass(self, remote: Remote, username: str, token: str) -> AsyncIterator[Handed]:
        program = await trio.to_thread.run_sync(self._write, "askpass", ASKPASS, 0o700)
        reading, writing = os.pipe()
        try:
            try:
                os.write(writing, token.strip().encode() + b"\n")
            finally:
                os.close(writing)
            yield Handed(
                env={
                    "GIT_ASKPASS": str(program),
                    "CLONK_ASKPASS_FD": str(reading),
                    "CLONK_ASKPASS_HOST": remote.host,
                },
                options=(f"credential.username={username}",),
                pass_fds=(reading,),
                secret=token.strip(),
            )
        finally:
            os.close(reading)

    @asynccontextmanager
    async def _ssh(self, key: str | None) -> AsyncIterator[Handed]:
        program = shutil.which("ssh")
        if program is None:
            raise Unavailable("there is no ssh on the server's PATH, which remotes over SSH need")
        known = await trio.to_thread.run_sync(
            self._write, "known_hosts", "".join(f"{line}\n" for line in self._settings.known_hosts), 0o600
        )
        folder = await trio.to_thread.run_sync(key_folder, self._folder, key)
        try:
            words = _ssh_words(program, known, None if key is None else folder / "key")
            yield Handed(
                env={"GIT_SSH_COMMAND": " ".join(quote(word) for word in words), "GIT_SSH_VARIANT": "ssh"},
                secret=key or "",
            )
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))

    def _write(self, name: str, text: str, mode: int) -> Path:
        """Write one of our own files when it is not as it should be."""
        path = self._folder / name
        if not path.exists() or path.read_text() != text:
            descriptor, fresh = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                os.fchmod(file.fileno(), mode)
            Path(fresh).replace(path)
        return path


async def read_secret(secret: ReadSecret, name: str) -> str:
    """Return a token or a key of the secret store.

    Raises:
        Unavailable: There is none, or it is too long to be one.
    """
    value = await secret(name)
    if not value:
        raise Unavailable(f"there is no secret {name!r}; `clonk secrets set {name}` keeps one", name=name)
    if len(value.encode()) > MAX_TOKEN:
        raise Unavailable(f"the secret {name!r} is no token or key: it is too long", name=name)
    return value


def key_folder(tools: Path, key: str | None) -> Path:
    """Make a folder that only we can look into, with a private key in it when there is one. Its user removes it."""
    folder = Path(tempfile.mkdtemp(prefix=KEY_FOLDER, dir=tools))
    if key is not None:
        with os.fdopen(os.open(folder / "key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(key.strip() + "\n")
    return folder


def _ssh_words(program: str, known_hosts: Path, key: Path | None) -> Sequence[str]:
    """Return an ssh that reads no settings but these, asks nothing and believes only the hosts that we know."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "ForwardAgent": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "ProxyCommand": "none",
        "ControlPath": "none",
        "ConnectTimeout": "30",
        "IdentityFile": "none" if key is None else str(key),
    }
    return [
        program,
        "-F",
        "/dev/null",
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
    ]
