"""Which forge a remote belongs to, and what opens it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import attrs

from clonk_core.plugin import Host, Unavailable
from clonk_gitsync.credentials import read_secret
from clonk_gitsync.errors import RemoteFailed
from clonk_gitsync.forges import gitea, github, gitlab
from clonk_gitsync.forges.api import ApiAddress, Connections
from clonk_gitsync.forges.app_tokens import AppTokens
from clonk_gitsync.forges.errors import ForgeFailed, ForgeLimited, ForgeRefused, NoForge
from clonk_gitsync.forges.interface import Forge, ForgeKind
from clonk_gitsync.forges.paths import fits, repository_of
from clonk_gitsync.policy import Remote
from clonk_gitsync.settings import ForgeSettings, GitSyncSettings, problem_with_api_url

OWN: Final = {kind.name: kind for kind in (github.KIND, gitlab.KIND, gitea.KIND)}


@attrs.frozen(kw_only=True)
class OpenForge:
    """A repository at its forge, for some requests.

    Attributes:
        forge: It.
        kind: What kind of forge.
    """

    forge: Forge
    kind: ForgeKind


@attrs.frozen(kw_only=True)
class _Place:
    """Where a remote's repository is at its forge."""

    settings: ForgeSettings
    kind: ForgeKind
    api_url: str
    repository: str


class Forges:
    """The forges of one realm's configuration.

    Args:
        settings: Which forge has which host.
        host: Reads secrets, and asks other packages for kinds of forges.
    """

    def __init__(self, settings: GitSyncSettings, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._connections = Connections()
        self._app_tokens = AppTokens(self._connections, host.log)
        self._kinds: Mapping[str, ForgeKind] | None = None

    @asynccontextmanager
    async def open(self, remote: Remote) -> AsyncIterator[OpenForge]:
        """Open the repository of a remote.

        Raises:
            NoForge: None is configured for its host, or it has no use for it.
            Unavailable: A secret that the configuration names is not there.
            ForgeRefused, ForgeLimited, ForgeFailed: No token of the GitHub App can be had.
        """
        place = self._place(remote)
        token = await self._token(place)
        address = ApiAddress(
            url=place.api_url,
            authorization=place.kind.authorization(token),
            secret=token,
            headers=place.kind.headers,
        )
        async with self._connections.open(address, self._host.log) as api:
            try:
                forge = place.kind.make(api, place.repository)
            except ValueError as error:
                raise NoForge(remote.host, str(error)) from error
            try:
                yield OpenForge(forge=forge, kind=place.kind)
            except ForgeRefused as error:
                if error.data["reason"] == "authentication" and place.settings.app is not None:
                    self._app_tokens.forget(place.settings.app, place.api_url, place.repository)
                raise

    async def token(self, remote: Remote) -> str:
        """Return what opens the forge of a remote, for git.

        Raises:
            Unavailable: A secret that the configuration names is not there.
            RemoteFailed: There is no token; the log says why.
        """
        try:
            return await self._token(self._place(remote))
        except (NoForge, ForgeRefused, ForgeLimited, ForgeFailed) as error:
            self._host.log.warning("no token for a remote", host=remote.host, reason=error.message)
            is_late = isinstance(error, ForgeLimited | ForgeFailed)
            raise RemoteFailed("unreachable" if is_late else "authentication") from error

    def _place(self, remote: Remote) -> _Place:
        found = next((one for one in self._settings.forges if fits(one, remote)), None)
        if found is None:
            raise NoForge(remote.host, "gitsync.forges names no forge for this host")
        kind = self._known_kinds().get(found.kind)
        if kind is None:
            raise NoForge(remote.host, f"no package here knows the kind {found.kind!r} of gitsync.forges")
        api_url = (found.api_url or kind.api_url(found.host.lower())).rstrip("/")
        problem = problem_with_api_url(api_url)
        if problem is not None:
            raise NoForge(remote.host, f"the API's address {problem}")
        try:
            repository = repository_of(remote, api_url)
        except ValueError as error:
            raise NoForge(remote.host, str(error)) from error
        return _Place(settings=found, kind=kind, api_url=api_url, repository=repository)

    def _known_kinds(self) -> Mapping[str, ForgeKind]:
        """Return the kinds of forges by name: our own, and those of other packages, which are asked once."""
        if self._kinds is None:
            kinds = dict(OWN)
            for package, given in self._host.ask("gitsync_forges"):
                for kind in given if isinstance(given, list | tuple) else (given,):
                    if isinstance(kind, ForgeKind) and kind.name not in kinds:
                        kinds[kind.name] = kind
                    else:
                        name = kind.name if isinstance(kind, ForgeKind) else type(kind).__name__
                        self._host.log.warning("a kind of forge is left out", package=package, kind=name)
            self._kinds = kinds
        return self._kinds

    async def _token(self, place: _Place) -> str:
        app = place.settings.app
        if app is None:
            assert place.settings.token is not None  # noqa: S101 - for the type checker: it is one or the other
            token = (await read_secret(self._host.secret, place.settings.token)).strip()
            # It goes into a header, and whoever complains of a wrong one repeats it.
            if not token.isascii() or not token.isprintable():
                name = place.settings.token
                raise Unavailable(f"the secret {name!r} is no token: it is not one line of plain letters", name=name)
            return token
        key = await read_secret(self._host.secret, app.private_key)
        try:
            return await self._app_tokens.token(app, key, place.api_url, place.repository)
        except ValueError as error:
            raise NoForge(place.settings.host, str(error)) from error
