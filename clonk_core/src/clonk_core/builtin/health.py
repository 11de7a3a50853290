"""`health`: whether the host and its activations work."""

from typing import Literal

import attrs

from clonk_core.interfaces import Hub
from clonk_core.plugin import Activation, method


@attrs.frozen(kw_only=True)
class HealthReport:
    """State of the host.

    Attributes:
        status: `ok` when every part works, `degraded` when one does not.
        version: Version of clonk-core.
        started_at: When the host started (RFC 3339, UTC).
        parts: Each database, activation and background service by name: `ok`, or what is wrong with it; and each
            plugin that could not be loaded.
    """

    status: Literal["ok", "degraded"]
    version: str
    started_at: str
    parts: dict[str, str]


class Health(Activation):
    """State of the host and of each activation."""

    namespace = "health"
    version = "1.0.0"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @method(public=True, read_only=True, idempotent=True)
    async def check(self) -> HealthReport:
        """Tell whether the host, its databases and each activation work."""
        parts = dict(await self._hub.check())
        healthy = all(state == "ok" for state in parts.values())
        return HealthReport(
            status="ok" if healthy else "degraded",
            version=self._hub.version,
            started_at=self._hub.started_at,
            parts=parts,
        )
