"""Who calls: from a connection and its credential to a caller and what that caller may use."""

from collections.abc import Callable
from typing import Final, Protocol

import attrs

from clonk_core.config.auth_settings import AuthSettings
from clonk_core.errors import CallError, Forbidden, Unauthenticated
from clonk_core.gateway.failures import Failures
from clonk_core.gateway.keys import NO_LIMITS, Allowance, ApiKey, KeyRing, allowance
from clonk_core.interfaces.door import Connection
from clonk_core.messages import LOCAL_CALLER, STRANGER, Caller
from clonk_core.names import PLUGIN_PREFIX, SERVICE_PREFIX, USER_PREFIX

MAX_CREDENTIAL: Final = 16 * 1024
"""Characters of a credential; longer ones are none."""


class Token(Protocol):
    """A token of an identity provider that was verified."""

    @property
    def subject(self) -> str: ...

    @property
    def tenant(self) -> str: ...

    @property
    def scopes(self) -> frozenset[str]: ...

    @property
    def expires_at(self) -> float: ...


class Tokens(Protocol):
    """What verifies tokens."""

    def looks_like_token(self, credential: str) -> bool: ...

    async def verify(self, token: str) -> Token: ...


class Known(Protocol):
    """One whom a plugin has recognised."""

    @property
    def caller(self) -> Caller: ...

    @property
    def expires_at(self) -> float: ...


class Plugins(Protocol):
    """What asks the plugins."""

    async def find(self, credential: str) -> Known | None: ...


@attrs.frozen(kw_only=True)
class Grant:
    """What a connection was found to be allowed.

    Attributes:
        caller: Who it is.
        allowance: How much they may do.
        key: The key that was presented, None for other credentials.
        secret_hash: SHA-256 of that key as it was presented.
        expires_at: When a token is over (POSIX time), None for other credentials.
    """

    caller: Caller
    allowance: Allowance = NO_LIMITS
    key: ApiKey | None = None
    secret_hash: str = ""
    expires_at: float | None = None


LOCAL: Final = Grant(caller=LOCAL_CALLER)
UNKNOWN: Final = Grant(caller=STRANGER)


class Refused(Exception):
    """A credential is not taken. `reason` is for metrics and the audit log: `unknown_key`, `revoked`, `network`."""

    def __init__(self, reason: str, error: CallError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


class Authenticator:
    """Finds out who calls.

    Args:
        settings: What the configuration says.
        ring: The API keys.
        tokens: Verifies tokens of the identity provider, None without one.
        plugins: Asks the plugins that know credentials, None without one.
        failures: Counts what is refused.
        clock: Gives the time of day (POSIX, in seconds).
    """

    def __init__(
        self,
        settings: AuthSettings,
        ring: KeyRing,
        *,
        tokens: Tokens | None,
        plugins: Plugins | None = None,
        failures: Failures,
        clock: Callable[[], float],
    ) -> None:
        self.enabled = settings.enabled
        self._ring = ring
        self._tokens = tokens
        self._plugins = plugins
        self._failures = failures
        self._clock = clock
        self._default = allowance(settings.rate_limit)
        self._of_tokens = allowance(settings.jwt.rate_limit) if settings.jwt else NO_LIMITS

    def settled(self, connection: Connection) -> Grant | None:
        """Return what a connection is allowed when that never changes, as for the local caller; else None."""
        known = connection.grant
        if isinstance(known, Grant) and known.key is None and known.expires_at is None:
            return known
        return None

    async def grant(self, connection: Connection) -> Grant:
        """Return what the connection is allowed; found once and kept for its life, and looked at anew at each call.

        Raises:
            Refused: Its credential is not, or no longer, good.
        """
        settled = self.settled(connection)
        if settled is not None:
            return settled
        known = connection.grant
        if isinstance(known, Grant):
            fresh = self._refreshed(known, connection)
        elif connection.transport in ("stdio", "inside") or not self.enabled:
            # A program that embeds the host says for itself who its callers are.
            fresh = LOCAL if connection.caller is None else Grant(caller=connection.caller)
        elif connection.bearer is None:
            return UNKNOWN
        else:
            fresh = await self.examine(connection.bearer, connection)
        connection.grant, connection.caller = fresh, fresh.caller
        return fresh

    async def examine(self, credential: str, connection: Connection) -> Grant:
        """Return what a credential allows on this connection.

        Raises:
            Refused: It is not good.
        """
        if len(credential) > MAX_CREDENTIAL:
            raise Refused("too_long", Unauthenticated(f"a credential has at most {MAX_CREDENTIAL} characters"))
        found = self._ring.find(credential)
        if found is not None:
            grant = self._of_key(found.key, found.secret_hash, connection)
        else:
            grant = await self._of_others(credential)
        self._failures.forget(connection.address)
        return grant

    async def refuse(self, refused: Refused, connection: Connection) -> CallError:
        """Count a refusal, hold it back when there were many, and return what to answer."""
        await self._failures.hold_back(self._failures.count(connection.address))
        return refused.error

    def acting(self, caller: Caller) -> Grant:
        """Return what one is allowed who acts in somebody's name: no more than was given, and than that one may now.

        Args:
            caller: The id is of whom it acts for; the scopes are what was given to it.

        Raises:
            Forbidden: Whom it acts for is let in no more.
        """
        caller = attrs.evolve(caller, kind="session")
        key = self._ring.named(caller.id, caller.tenant)
        if key is not None and self._ring.is_good(key):
            return Grant(caller=caller.limited_to(key.scopes), allowance=self._limits_of(key))
        limits = self._limits_without_key(caller.id)
        if key is not None or limits is None:
            raise Forbidden(f"{caller.id!r} is let in no more, so nothing is done in that name", owner=caller.id)
        # What a user may do stands in a token, which is not here: what was given is all there is to go by.
        return Grant(caller=caller, allowance=limits)

    def _limits_without_key(self, caller_id: str) -> Allowance | None:
        """Return the limits of one who needs no key, None for one who is not let in."""
        if caller_id.startswith(USER_PREFIX) and self._tokens is not None:
            return self._of_tokens
        if caller_id.startswith(PLUGIN_PREFIX) and self._plugins is not None:
            return self._default
        if caller_id == LOCAL_CALLER.id or caller_id.startswith(SERVICE_PREFIX) or not self.enabled:
            return NO_LIMITS
        return None

    def ended(self, connection: Connection) -> str | None:
        """Return why a connection that was let in may not go on, None when it may."""
        grant = connection.grant
        if not isinstance(grant, Grant) or (grant.key is None and grant.expires_at is None):
            return None
        try:
            self._refreshed(grant, connection)
        except Refused as refused:
            return str(refused.error)
        return None

    def _refreshed(self, grant: Grant, connection: Connection) -> Grant:
        """Look again whether a grant is good, and take over what was changed.

        Raises:
            Refused: It is good no more.
        """
        if grant.key is None:
            if grant.expires_at is not None and grant.expires_at <= self._clock():
                raise Refused("expired", Unauthenticated("the token has expired; get a new one"))
            return grant
        found = self._ring.look_up(grant.secret_hash)
        if found is None:
            raise Refused("ended", Unauthenticated("the API key was revoked, replaced, or has expired"))
        return grant if found.key is grant.key else self._of_key(found.key, found.secret_hash, connection)

    def _of_key(self, key: ApiKey, secret_hash: str, connection: Connection) -> Grant:
        if not key.reaches_from(connection.address):
            text = "this API key may not be used from your network"
            raise Refused("network", Forbidden(text, address=connection.address))
        caller = Caller(id=key.id, kind="key", tenant=key.tenant, scopes=key.scopes)
        return Grant(caller=caller, allowance=self._limits_of(key), key=key, secret_hash=secret_hash)

    def _limits_of(self, key: ApiKey) -> Allowance:
        limits = key.allowance
        if limits.calls is None and self._default.calls is not None:
            limits = attrs.evolve(limits, calls=self._default.calls)
        return limits

    async def _of_others(self, credential: str) -> Grant:
        refused = Refused("unknown_key", Unauthenticated("this API key is not known, or is good no more"))
        is_ours = self._ring.is_ours(credential)  # ids of keys may have dots
        if self._tokens is not None and not is_ours and self._tokens.looks_like_token(credential):
            try:
                return await self._of_token(self._tokens, credential)
            except Refused as error:
                refused = error
        if self._plugins is not None and not is_ours:
            known = await self._plugins.find(credential)
            if known is not None and known.expires_at > self._clock():
                return Grant(caller=known.caller, allowance=self._default, expires_at=known.expires_at)
        raise refused

    async def _of_token(self, tokens: Tokens, credential: str) -> Grant:
        try:
            token = await tokens.verify(credential)
        except Unauthenticated as error:
            raise Refused("token", error) from error
        # Users and keys of one name are two callers: ids of keys have no colon.
        caller = Caller(id=f"{USER_PREFIX}{token.subject}", kind="token", tenant=token.tenant, scopes=token.scopes)
        return Grant(caller=caller, allowance=self._of_tokens, expires_at=token.expires_at)
