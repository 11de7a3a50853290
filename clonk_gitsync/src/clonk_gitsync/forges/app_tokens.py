"""Tokens of GitHub Apps: made for one repository, kept in memory until shortly before they expire.

https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app,
https://docs.github.com/en/rest/apps/apps.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

import attrs
import trio

from clonk_core.plugin import Log, Unavailable
from clonk_gitsync.forges import fields
from clonk_gitsync.forges.api import ApiAddress, Connections, HttpApi
from clonk_gitsync.forges.github import KIND
from clonk_gitsync.forges.paths import owner_and_name, part
from clonk_gitsync.settings import GitHubAppSettings

RENEWED_S: Final = 600.0
"""Seconds before its end that a token is used no more: a push that begins with it has that long."""

PROOF_S: Final = 540
"""Seconds that the App's own token lives; GitHub takes 600 at most."""

CLOCKS_S: Final = 60
"""Seconds that the token is dated back, as GitHub advises, for clocks that differ."""

KEPT: Final = 1000


@attrs.frozen(kw_only=True)
class _Kept:
    token: str = attrs.field(repr=False)
    expires_at: float


class AppTokens:
    """Makes and remembers tokens of GitHub Apps.

    Args:
        connections: Opens the API.
        log: For what is not told to callers.
        clock: Gives the POSIX time in seconds.
    """

    def __init__(self, connections: Connections, log: Log, clock: Callable[[], float] = time.time) -> None:
        self._connections = connections
        self._log = log
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str, str], _Kept] = OrderedDict()
        self._locks: WeakValueDictionary[tuple[str, str, str], trio.Lock] = WeakValueDictionary()

    async def token(self, app: GitHubAppSettings, private_key: str, api_url: str, repository: str) -> str:
        """Return a token for a repository that will last a while.

        Args:
            app: The App.
            private_key: Its key, PEM.
            api_url: The API's address.
            repository: `owner/name`.

        Raises:
            Unavailable: The secret is no private RSA key.
            ForgeRefused, ForgeLimited, ForgeFailed: As the API answers.
            ValueError: The path is not `owner/name`.
        """
        owner_and_name(repository)
        key = (api_url, str(app.app_id), repository.lower())
        lock = self._locks.setdefault(key, trio.Lock())
        async with lock:
            known = self._kept.get(key)
            if known is None or known.expires_at - RENEWED_S < self._clock():
                known = await self._made(app, private_key, api_url, repository)
                self._kept[key] = known
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return known.token

    def forget(self, app: GitHubAppSettings, api_url: str, repository: str) -> None:
        """Use a token no more: GitHub does not take it."""
        self._kept.pop((api_url, str(app.app_id), repository.lower()), None)

    async def _made(self, app: GitHubAppSettings, private_key: str, api_url: str, repository: str) -> _Kept:
        proof = await trio.to_thread.run_sync(self._proof, app, private_key)
        address = ApiAddress(url=api_url, authorization=f"Bearer {proof}", secret=proof, headers=KIND.headers)
        async with self._connections.open(address, self._log, self._clock) as api:
            installation = app.installation_id or await _installation(api, repository)
            name = owner_and_name(repository)[1]
            path = f"/app/installations/{installation}/access_tokens"
            # For the one repository alone: a token that goes astray opens no other.
            answer = await api.send("POST", path, body={"repositories": [name]})
        made = fields.entry(answer.value)
        return _Kept(token=fields.text(made, "token"), expires_at=fields.moment(made, "expires_at").timestamp())

    def _proof(self, app: GitHubAppSettings, private_key: str) -> str:
        """Return what proves that we are the App: a JSON Web Token, signed with its key."""
        # Here, because they take 250 ms and a server without an App need not pay.
        import jwt
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(private_key.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None  # what they say may hold parts of the secret
        if not isinstance(key, RSAPrivateKey):
            name = app.private_key
            raise Unavailable(f"the secret {name!r} is no private RSA key in PEM without a passphrase", name=name)
        now = int(self._clock())
        claims: dict[str, Any] = {"iat": now - CLOCKS_S, "exp": now + PROOF_S, "iss": str(app.app_id)}
        return jwt.encode(claims, key, algorithm="RS256")


async def _installation(api: HttpApi, repository: str) -> int:
    owner, name = owner_and_name(repository)
    answer = await api.send("GET", f"/repos/{part(owner)}/{part(name)}/installation")
    return fields.number(fields.entry(answer.value), "id")
