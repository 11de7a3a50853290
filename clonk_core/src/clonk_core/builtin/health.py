"""`health`: whether the host and its activations work."""

from typing import Literal

import attrs

from clonk_core.interfaces.hub import Hub
from clonk_core.plugin import Activation, Call, method


@attrs.frozen(kw_only=True)
class HealthReport:
    """State of the host.

    Attributes:
        status: `ok` when every part works, `degraded` when one does not.
        version: Version of clonk-core; null for a caller that has not said who it is.
        started_at: When the host started (RFC 3339, UTC); null likewise.
        parts: Each database, activation and background service by name: `ok`, or what is wrong with it; and each
            plugin that could not be loaded. Without the scope `hub:read` it says `failed` and not why. Empty likewise.
    """

    status: Literal["ok", "degraded"]
    version: str | None
    started_at: str | None
    parts: dict[str, str]


class Health(Activation):
    """State of the host and of each activation."""

    namespace = "health"
    version = "1.0.0"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @method(anonymous=True, read_only=True, idempotent=True)
    async def check(self, call: Call) -> HealthReport:
        """Tell whether the host, its databases and each activation work."""
        parts = dict(await self._hub.check())
        healthy = all(state == "ok" for state in parts.values())
        if call.caller.kind == "stranger":
            return HealthReport(status="ok" if healthy else "degraded", version=None, started_at=None, parts={})
        if not call.caller.may("hub:read"):  # as `hub.plugins`, which says it too
            parts = {name: state if state == "ok" else "failed" for name, state in parts.items()}
        return HealthReport(
            status="ok" if healthy else "degraded",
            version=self._hub.version,
            started_at=self._hub.started_at,
            parts=parts,
        )
