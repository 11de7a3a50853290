"""What the host tells of itself to the built-in activations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import attrs

from clonk_core.interfaces.keeping import AuditReader, KeyKeeper
from clonk_core.interfaces.runs import Run
from clonk_core.messages import Caller, JsonValue, Quota

if TYPE_CHECKING:
    # Not loaded with the plugin API.
    from clonk_core.methods import Method


@attrs.frozen(kw_only=True)
class PluginStatus:
    """One installed plugin.

    Attributes:
        name: The entry point's name, or the file's for a single-file plugin.
        package: Distribution that brought it; null for a single file.
        version: Version of the distribution; null for a single file.
        state: `loaded`, `failed`, or `disabled` by the configuration.
        namespaces: What its activations offer.
        error: Why it could not be loaded; null when it was.
        services: State of each background service by namespace: `starting`, `running`, `restarting: ` and why, `ended`.
    """

    name: str
    package: str | None = None
    version: str | None = None
    state: Literal["loaded", "failed", "disabled"] = "loaded"
    namespaces: tuple[str, ...] = ()
    error: str | None = None
    services: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class RunSummary:
    """One run, as `rpc.subscriptions` lists it.

    Attributes:
        subscription: Its id.
        method: The method called.
        state: `running` or `done`.
        outcome: How it ended: `complete`, `cancelled`, `refused`, `limited` or `failed`; null while it runs.
        durable: Whether it goes on without a reader.
        last_seq: Number of the last event, 0 before the first.
        started_at: Clock time of the start (RFC 3339, UTC).
        ended_at: Clock time of the end; null while it runs.
    """

    subscription: str
    method: str
    state: Literal["running", "done"]
    outcome: str | None
    durable: bool
    last_seq: int
    started_at: str
    ended_at: str | None


class Hub(Protocol):
    """What the host tells of itself to the built-in activations."""

    @property
    def version(self) -> str:
        """Version of clonk-core."""

    @property
    def started_at(self) -> str:
        """When the host started (RFC 3339, UTC)."""

    @property
    def plugins(self) -> Sequence[PluginStatus]:
        """Every installed plugin."""

    @property
    def audit(self) -> AuditReader:
        """The audit log.

        Raises:
            Unavailable: It is off.
        """

    def methods(self, caller: Caller) -> "Sequence[Method]":
        """Every method this caller may call, by name."""

    def hashes(self) -> Mapping[str, str]:
        """Hash of each namespace by name, and of the whole registry under the empty name."""

    def openrpc(self, caller: Caller) -> JsonValue:
        """The OpenRPC document of every method this caller may call."""

    async def find_run(self, caller: Caller, subscription: str) -> Run:
        """Return a run that this caller may see, running or kept.

        Raises:
            NotFound: There is none, or it is not this caller's.
        """

    async def list_runs(self, caller: Caller, *, limit: int, before: str | None) -> Sequence[RunSummary]:
        """The caller's runs, newest first, those before the subscription `before` in the order."""

    @property
    def keys(self) -> KeyKeeper:
        """Makes, changes and takes back API keys.

        Raises:
            Unavailable: The gateway is not open yet.
        """

    async def authenticate(self, credential: str) -> Caller:
        """Make the connection over which the call that is running came the credential's.

        Raises:
            Unauthenticated: It is not good.
            InvalidRequest: This connection cannot be made anyone's, or not now.
        """

    def quota(self, caller: Caller) -> Quota | None:
        """Return what is left of a caller's rate limit, None without one."""

    async def check(self) -> Mapping[str, str]:
        """State of each database and activation: `ok`, or what is wrong."""
