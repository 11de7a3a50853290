"""Where the credential for Claude is looked for, and the secrets that `claudecode.env` names. Asked at each start."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import trio

from clonk_claudecode.engine.environment import MAX_SECRET_BYTES
from clonk_claudecode.engine.spec import Credential, EngineSettings
from clonk_claudecode.errors import SecretUnavailable
from clonk_claudecode.settings import STORED_API_KEY, STORED_OAUTH_TOKEN, ClaudeCodeSettings
from clonk_core.plugin import Log, SettingOrigin

ReadSecret: TypeAlias = Callable[[str], Awaitable[str | None]]
"""`Host.secret`."""

Kind: TypeAlias = Literal["oauth_token", "api_key"]

_REFERENCE: Final = re.compile(r"\$\{secret:([^}]*)\}")


@attrs.frozen(kw_only=True)
class Found:
    """A credential and where it was found.

    Attributes:
        credential: What the API is shown.
        place: Where, for people: names the setting and the file, never the value.
    """

    credential: Credential
    place: str


class Credentials:
    """The places where a credential may be.

    What the configuration says goes first, then what `clonk secrets` keeps, then the environment: a variable that is
    always there must not stand in the way of a secret that was set on purpose. In each, a subscription's token goes
    before an API key.

    Args:
        settings: The section `claudecode`.
        secret: Reads a stored secret.
        origin: Tells where a setting came from.
        log: For what the caller may not know.
    """

    def __init__(
        self,
        settings: ClaudeCodeSettings,
        *,
        secret: ReadSecret,
        origin: Callable[[str], SettingOrigin],
        log: Log | None = None,
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._origin = origin
        self._log = log

    async def complete(self, settings: EngineSettings) -> EngineSettings:
        """Return the engine's settings with the credential and the variables of this moment.

        Raises:
            SecretUnavailable: What the configuration names is not there.
            Unavailable: A stored secret cannot be decrypted.
        """
        found = await self.find()
        env = await self.resolved_env()
        return attrs.evolve(settings, credential=found.credential if found else None, env=env)

    async def resolved_env(self) -> dict[str, str]:
        """Return the variables of `claudecode.env` with the secrets that they name.

        Raises:
            SecretUnavailable: There is no such secret.
            Unavailable: It cannot be decrypted.
        """
        return {name: await self._resolved(name, value) for name, value in self._settings.env.items()}

    async def _resolved(self, variable: str, value: str) -> str:
        pieces = _REFERENCE.split(value)  # text and names in turn
        for index in range(1, len(pieces), 2):
            pieces[index] = await self._needed(pieces[index], variable)
        return "".join(pieces)

    async def _needed(self, name: str, variable: str) -> str:
        found = await self._secret(name)
        if found is None:
            raise SecretUnavailable(
                f"claudecode.env.{variable} needs the secret {name!r}, which is not there; "
                f"`clonk secrets set {name}` keeps one",
                name=name,
            )
        return found

    async def find(self) -> Found | None:
        """Return the credential that is used now; None when there is none.

        Raises:
            SecretUnavailable: The token's file is configured and there is no token in it, or one is too long.
            Unavailable: A stored secret cannot be decrypted.
        """
        if self._settings.oauth_token_file is not None:
            return await self._in_file(self._settings.oauth_token_file)
        return self._in_settings(environment=False) or await self._stored() or self._in_settings(environment=True)

    async def _in_file(self, path: Path) -> Found:
        place = f"claudecode.oauth_token_file ({path})"
        try:
            token = await trio.to_thread.run_sync(read_token_file, path)
        except ValueError as error:
            # The path is the server's own business; its callers see that there is something for its operator to do.
            if self._log is not None:
                self._log.warning("no credential in its file", setting=place, reason=str(error))
            raise SecretUnavailable(f"the file of claudecode.oauth_token_file {error}") from error
        return _found("oauth_token", token, place)

    def _in_settings(self, *, environment: bool) -> Found | None:
        """Look at what was set in the environment, or at what was set elsewhere."""
        given: tuple[tuple[Kind, str | None], ...] = (
            ("oauth_token", self._settings.oauth_token),
            ("api_key", self._settings.api_key),
        )
        for kind, secret in given:
            origin = self._origin(kind)
            if secret and (origin.kind == "environment") == environment:
                place = f"{origin} in the environment" if environment else f"claudecode.{kind} ({origin})"
                return _found(kind, secret, place)
        return None

    async def _stored(self) -> Found | None:
        stored: tuple[tuple[Kind, str], ...] = (("oauth_token", STORED_OAUTH_TOKEN), ("api_key", STORED_API_KEY))
        for kind, name in stored:
            secret = await self._secret(name)
            if secret is not None:
                return _found(kind, secret, f"the stored secret {name}")
        return None


def read_token_file(path: Path) -> str:
    """Return the token in a file, without the line end at its end.

    Raises:
        ValueError: There is none; the text continues a sentence about the file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 3)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    try:
        token = content.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        # Without a cause, which would hold the token.
        raise ValueError("holds no text (UTF-8)") from None
    if not token:
        raise ValueError("is empty")
    return token


def _found(kind: Kind, secret: str, place: str) -> Found:
    if len(secret.encode()) > MAX_SECRET_BYTES:
        raise SecretUnavailable(f"the credential for Claude is longer than {MAX_SECRET_BYTES} bytes, which none is")
    return Found(credential=Credential(kind=kind, secret=secret), place=place)
