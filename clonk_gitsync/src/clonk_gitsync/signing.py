"""Signs commits with an SSH key of the secret store (`gitsync.signing_key`).

Git itself is not asked to sign: it may run as a workspace's owner, who must not read the key, and what it would start
is a setting. So `ssh-keygen` is given the commit's text, and the key as a file that only we can read, for that long.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from clonk_core.plugin import Log
from clonk_gitsync.credentials import MAX_TOKEN, ReadSecret, key_folder
from clonk_gitsync.errors import SigningFailed

LIMIT_S: Final = 30.0
"""Seconds for one signature; an RSA key of 16 384 bits takes one."""

SAID_CHARS: Final = 500


class Signer:
    """Makes signatures as git makes and verifies them with `gpg.format=ssh`.

    Args:
        name: The stored secret that holds the private key.
        secret: Reads the secret store.
        folder: Ours alone; the key is written there.
        log: For the words of `ssh-keygen`, when there is one.
    """

    def __init__(self, name: str, secret: ReadSecret, folder: Path, log: Log | None = None) -> None:
        self._name = name
        self._secret = secret
        self._folder = folder
        self._log = log

    async def sign(self, text: bytes) -> bytes:
        """Return the armoured signature of a commit's text.

        Raises:
            SigningFailed: There is no key, it is none, or no `ssh-keygen`.
        """
        return await self._keygen("-Y", "sign", "-n", "git", stdin=text)

    async def public_key(self) -> str:
        """Return what a forge and an `allowed_signers` file are told of the key: its type and itself.

        Raises:
            SigningFailed: As for `sign`.
        """
        said = await self._keygen("-y", "-P", "")
        return " ".join(said.decode(errors="replace").split()[:2])

    async def _keygen(self, *words: str, stdin: bytes = b"") -> bytes:
        program = shutil.which("ssh-keygen")
        if program is None:
            raise SigningFailed("there is no ssh-keygen on the server's PATH")
        async with self._key() as key:
            try:
                with trio.fail_after(LIMIT_S):
                    done = await trio.run_process(
                        [program, *words, "-f", str(key)],
                        stdin=stdin,
                        capture_stdout=True,
                        capture_stderr=True,
                        check=False,
                        cwd=key.parent,
                        env={
                            "PATH": os.defpath,
                            "HOME": str(key.parent),
                            "LC_ALL": "C",
                            "SSH_ASKPASS_REQUIRE": "never",
                        },
                        start_new_session=True,
                    )
            except (OSError, trio.TooSlowError) as error:
                raise SigningFailed("ssh-keygen cannot be run, or takes too long") from error
        if done.returncode != 0 or not done.stdout:
            said = done.stderr.decode(errors="replace").strip()[-SAID_CHARS:]
            if self._log is not None:
                self._log.warning("ssh-keygen made no signature", said=said)
            raise SigningFailed(f"the secret {self._name!r} is no private SSH key without a passphrase")
        return done.stdout

    @asynccontextmanager
    async def _key(self) -> AsyncIterator[Path]:
        value = await self._secret(self._name)
        if not value:
            raise SigningFailed(f"there is no secret {self._name!r}; `clonk secrets set {self._name}` keeps one")
        if len(value.encode()) > MAX_TOKEN:
            raise SigningFailed(f"the secret {self._name!r} is no SSH key: it is too long")
        folder = await trio.to_thread.run_sync(key_folder, self._folder, value)
        try:
            yield folder / "key"
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
