"""Credentials that plugins know: asked about what is neither an API key nor a good token of the identity provider."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import attrs
import trio

from clonk_core.boundary import plugin_boundary
from clonk_core.errors import Unavailable
from clonk_core.interfaces.host import CredentialCheck, Log
from clonk_core.messages import Caller, Identity
from clonk_core.names import PLUGIN_PREFIX, SCOPE

CHECK_WITHIN_S: Final = 10.0
"""Longest time that one plugin may take over a credential."""

MAX_AT_ONCE: Final = 50
"""Credentials that are looked at together: strangers show them, and each may cost a plugin a request of its own. Others
wait their turn, within the same time."""

_MAX_SUBJECT: Final = 200


@attrs.frozen(kw_only=True)
class Asked:
    """One plugin's function, and in which tenant it lives."""

    plugin: str
    tenant: str
    check: CredentialCheck


@attrs.frozen(kw_only=True)
class KnownCaller:
    """Whom a plugin has recognised.

    Attributes:
        caller: As the gateway knows it from now on.
        expires_at: When that is over (POSIX time).
    """

    caller: Caller
    expires_at: float


class PluginCredentials:
    """Asks the plugins, one after the other.

    Args:
        asked: Their functions.
        log: Where faults are told; never the credential.
    """

    def __init__(self, asked: Sequence[Asked], log: Log) -> None:
        self._asked = tuple(asked)
        self._log = log
        self._turns = trio.CapacityLimiter(MAX_AT_ONCE)

    async def find(self, credential: str) -> KnownCaller | None:
        """Return whose credential it is, None when no plugin knows it.

        Raises:
            Unavailable: No plugin knows it, and one of them could not tell.
        """
        broken = False
        for one in self._asked:
            try:
                found = await self._ask(one, credential)
            except _NotTold:
                broken = True
            else:
                if found is not None:
                    return found
        if broken:
            raise Unavailable("credentials cannot be checked now; try again in a moment")
        return None

    async def _ask(self, one: Asked, credential: str) -> KnownCaller | None:
        try:
            with trio.fail_after(CHECK_WITHIN_S), plugin_boundary():
                async with self._turns:
                    identity = await one.check(credential)
            return None if identity is None else _known(identity, one)
        except Exception as error:
            # Another package's code. No traceback, and its words only without the credential.
            reason = f"{type(error).__name__}: {error}".replace(credential, "***")
            self._log.error("a credential could not be checked", plugin=one.plugin, reason=reason[:500])
            raise _NotTold from error


class _NotTold(Exception):
    """A plugin could not tell whose credential it is."""


def _known(identity: object, one: Asked) -> KnownCaller:
    """Return what a plugin answered as a caller.

    Raises:
        TypeError, ValueError: It is against the rules.
    """
    if not isinstance(identity, Identity):
        raise TypeError(f"it gave a {type(identity).__name__} and no Identity")
    told: Any = identity  # its members may be anything
    subject = told.subject
    if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT or not subject.isprintable():
        raise ValueError(f"`subject` is no text of 1 to {_MAX_SUBJECT} printable characters")
    if not isinstance(told.expires_at, datetime) or told.expires_at.tzinfo is None:
        raise ValueError("`expires_at` is no time with a zone")
    if isinstance(told.scopes, str):
        raise TypeError("`scopes` is one text and no list of scopes")
    scopes = frozenset(scope for scope in told.scopes if isinstance(scope, str) and SCOPE.fullmatch(scope))
    # Ids of keys have no colon, and users of the identity provider begin with `user:`: nobody is taken for another.
    caller = Caller(id=f"{PLUGIN_PREFIX}{one.plugin}:{subject}", kind="token", tenant=one.tenant, scopes=scopes)
    return KnownCaller(caller=caller, expires_at=told.expires_at.timestamp())
