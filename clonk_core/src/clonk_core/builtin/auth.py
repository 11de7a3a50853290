"""`auth`: who the caller is."""

from typing import Annotated

import attrs

from clonk_core.interfaces.hub import Hub
from clonk_core.messages import Quota
from clonk_core.plugin import Activation, Call, Caller, InvalidParams, MaxLen, Secret, method

Credential = Annotated[str, MaxLen(16_384), Secret()]


@attrs.frozen(kw_only=True)
class WhoAmI:
    """The caller.

    Attributes:
        caller: Stable name of the caller: a key's id, `user:` and the subject of a token, `local` for whoever sits at
            the machine.
        kind: How it is known: `key`, `token`, or `local`.
        tenant: Whose realm it lives in.
        scopes: What it may do; `*` is everything.
        rate_limit: What is left of its rate limit; null when it has none.
    """

    caller: str
    kind: str
    tenant: str
    scopes: tuple[str, ...]
    rate_limit: Quota | None = None


class Auth(Activation):
    """Who calls."""

    namespace = "auth"
    version = "1.1.0"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @method(anonymous=True, idempotent=True, errors=[InvalidParams])
    async def authenticate(self, api_key: Credential | None = None, token: Credential | None = None) -> WhoAmI:
        """Say who calls over this WebSocket connection, as its first message.

        Over HTTP every request says so for itself: `Authorization: Bearer <API key or token>`.

        Args:
            api_key: An API key.
            token: A token of the identity provider (JWT), instead.
        """
        if (api_key is None) == (token is None):
            raise InvalidParams("give one of `api_key` and `token`", path="$.api_key")
        return self._told(await self._hub.authenticate(api_key or token or ""))

    @method(public=True, read_only=True, idempotent=True)
    async def whoami(self, call: Call) -> WhoAmI:
        """Return the caller, its tenant, its scopes and what is left of its rate limit."""
        return self._told(call.caller)

    def _told(self, caller: Caller) -> WhoAmI:
        return WhoAmI(
            caller=caller.id,
            kind=caller.kind,
            tenant=caller.tenant,
            scopes=tuple(sorted(caller.scopes)),
            rate_limit=self._hub.quota(caller),
        )
