"""`auth`: who the caller is."""

import attrs

from clonk_core.plugin import Activation, Call, method


@attrs.frozen(kw_only=True)
class WhoAmI:
    """The caller.

    Attributes:
        caller: Stable name of the caller: `local` for whoever sits at the machine.
        kind: What kind of caller it is.
        tenant: Whose realm it lives in.
        scopes: What it may do; `*` is everything.
        rate_limit: What is left of its rate limit; null when it has none.
    """

    caller: str
    kind: str
    tenant: str
    scopes: tuple[str, ...]
    rate_limit: str | None = None


class Auth(Activation):
    """Who calls."""

    namespace = "auth"
    version = "1.0.0"

    @method(public=True, read_only=True, idempotent=True)
    async def whoami(self, call: Call) -> WhoAmI:
        """Return the caller, its tenant, its scopes and what is left of its rate limit."""
        caller = call.caller
        return WhoAmI(caller=caller.id, kind=caller.kind, tenant=caller.tenant, scopes=tuple(sorted(caller.scopes)))
