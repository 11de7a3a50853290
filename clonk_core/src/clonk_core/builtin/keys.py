"""`keys`: API keys, made, changed and taken back by whoever has the scope `keys:admin`."""

from datetime import datetime
from typing import Annotated

import attrs

from clonk_core.gateway_messages import MAX_COUNT, MAX_DESCRIPTION, MAX_OVERLAP_S, ApiKeyInfo, KeyRequest
from clonk_core.interfaces.hub import Hub
from clonk_core.names import KEY_ID, SCOPE
from clonk_core.plugin import (
    Activation,
    Call,
    Conflict,
    Forbidden,
    Ge,
    InvalidParams,
    Le,
    MaxLen,
    MinLen,
    NotFound,
    Pattern,
    Secret,
    method,
)

KeyId = Annotated[str, Pattern(KEY_ID.pattern, "1 to 64 letters, digits, _ . and -; not local, stranger or service")]
Scope = Annotated[str, Pattern(SCOPE.pattern, "such as arbor:read or claudecode:chat@ci-*")]
RateLimit = Annotated[str, Pattern("[1-9][0-9]{0,8}/(s|min|h|day)", "such as 100/min; s, min, h or day")]
BytesLimit = Annotated[str, Pattern("[1-9][0-9]{0,8}(KiB|MiB|GiB)/(s|min|h|day)", "such as 50MiB/min")]
Count = Annotated[int, Ge(1), Le(MAX_COUNT)]


@attrs.frozen(kw_only=True)
class NewKey:
    """A key that was made or got a new secret.

    Attributes:
        key: The key to present, `clonk_<id>_<secret>`. It is shown this once and kept nowhere.
        info: What is known of it from now on.
    """

    key: Annotated[str, Secret()]
    info: ApiKeyInfo


class Keys(Activation):
    """API keys."""

    namespace = "keys"
    version = "1.0.0"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @method(scope="admin", errors=[Conflict, Forbidden, InvalidParams])
    async def create(
        self,
        call: Call,
        id: KeyId,
        scopes: Annotated[tuple[Scope, ...], MinLen(1), MaxLen(100)],
        description: Annotated[str, MaxLen(MAX_DESCRIPTION)] = "",
        tenant: Annotated[str, Pattern("[A-Za-z0-9_-]{1,64}", "letters, digits, _ and -")] | None = None,
        rate_limit: RateLimit | None = None,
        burst: Count | None = None,
        bytes_limit: BytesLimit | None = None,
        max_runs: Count | None = None,
        allowed_networks: Annotated[tuple[str, ...], MaxLen(100)] = (),
        expires_at: datetime | None = None,
    ) -> NewKey:
        """Make an API key and show it, this once.

        Made with a key, it has the bounds of that key where it names none itself, and cannot have wider ones: limits,
        networks and expiry.

        Args:
            id: Its name; audit rows and runs name their caller by it, so it is never used again.
            scopes: What it may do: no more than the caller may.
            description: What it is for.
            tenant: Whose data it reaches; the caller's when left out.
            rate_limit: Most calls in a span of time: `100/min`; the server's default when left out and the
                caller has none.
            burst: Most calls at once, when it was quiet before; as many as `rate_limit` says when left out.
            bytes_limit: Most bytes that are taken in a span of time: `50MiB/min`.
            max_runs: Most streams that run at the same time.
            allowed_networks: Networks it may be used from: `10.0.0.0/8`; when empty the caller's, or everywhere.
            expires_at: When it stops working; with the caller's key when left out.
        """
        wanted = KeyRequest(
            id=id,
            scopes=scopes,
            tenant=tenant,
            description=description,
            rate_limit=rate_limit,
            burst=burst,
            bytes_limit=bytes_limit,
            max_runs=max_runs,
            allowed_networks=allowed_networks,
            expires_at=expires_at,
        )
        info, key = await self._hub.keys.create(call.caller, wanted)
        return NewKey(key=key, info=info)

    @method(scope="admin", read_only=True, idempotent=True)
    async def list(self, call: Call) -> tuple[ApiKeyInfo, ...]:
        """List all keys, those of the configuration and those that are good no more included."""
        return tuple(self._hub.keys.list(call.caller))

    @method(scope="admin", read_only=True, idempotent=True, errors=[NotFound])
    async def show(self, call: Call, id: KeyId) -> ApiKeyInfo:
        """Return what is known of one key.

        Args:
            id: Its name.
        """
        return self._hub.keys.get(call.caller, id)

    @method(scope="admin", destructive=True, idempotent=True, errors=[NotFound, Conflict, Forbidden])
    async def revoke(self, call: Call, id: KeyId, made_too: bool = False) -> ApiKeyInfo:
        """Take a key back for good: its open connections and streams end within seconds, and so do its runs.

        Args:
            id: Its name.
            made_too: Take back the keys as well that were made with it, and those that were made with them.
        """
        return await self._hub.keys.revoke(call.caller, id, made_too=made_too)

    @method(scope="admin", errors=[NotFound, Conflict, Forbidden])
    async def rotate(
        self, call: Call, id: KeyId, keep_old_for_s: Annotated[float, Ge(0), Le(MAX_OVERLAP_S)] = 3600.0
    ) -> NewKey:
        """Give a key a new secret and show it, this once. It must have no wider bounds than the caller's own key.

        Args:
            id: Its name.
            keep_old_for_s: How long the old secret stays good, in seconds, so that its users can change over. An hour;
                at most 30 days. A secret before that is good no more at once.
        """
        info, key = await self._hub.keys.rotate(call.caller, id, keep_old_for_s)
        return NewKey(key=key, info=info)
