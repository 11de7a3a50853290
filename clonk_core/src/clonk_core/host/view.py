"""What the host tells of itself: `interfaces.Hub` over one realm."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Final, Protocol

import trio

from clonk_core.clock_text import clock_text
from clonk_core.errors import Unavailable
from clonk_core.interfaces.hub import PluginStatus, RunSummary
from clonk_core.interfaces.keeping import AuditReader, KeyKeeper
from clonk_core.interfaces.runs import Following, Run
from clonk_core.interfaces.storage import Database, Transaction
from clonk_core.messages import Caller, JsonValue, Quota, Reply, Request
from clonk_core.methods import Method
from clonk_core.schema.openrpc import document
from clonk_core.wire.error_codes import code_and_status

if TYPE_CHECKING:
    from clonk_core.host.realm import Realm

CHECK_WITHIN_S: Final = 5.0

UNTOLD_VERSION: Final = "0"
"""What stands in the OpenRPC document of one who has not said who it is."""


def _may_read_run(caller: Caller, method: Method, target: str | None) -> bool:
    """Tell whether a caller's scopes allow the method whose run it is, for what the run is about."""
    return any(caller.may(scope, target) for scope in method.scopes)


class GatewayDoor(Protocol):
    """What the host tells of the gateway."""

    @property
    def keys(self) -> KeyKeeper: ...

    async def present(self, credential: str) -> Caller: ...

    def quota(self, caller: Caller) -> Quota | None: ...

    def acting(self, caller: Caller) -> Caller: ...

    async def act(self, request: Request, caller: Caller, *, peer: str, run_id: str | None) -> Reply | Following: ...


class RealmHub:
    """Implements `interfaces.Hub`."""

    def __init__(self, realm: "Realm", *, started_at: datetime) -> None:
        self._realm = realm
        self.version = metadata.version("clonk-core")
        self.started_at = clock_text(started_at)

        self._door: GatewayDoor | None = None

    def bind(self, door: "GatewayDoor") -> None:
        """Give it the gateway, which is opened after the realm."""
        self._door = door

    @property
    def keys(self) -> KeyKeeper:
        return self._gateway.keys

    async def authenticate(self, credential: str) -> Caller:
        return await self._gateway.present(credential)

    def quota(self, caller: Caller) -> Quota | None:
        return self._gateway.quota(caller)

    def acting(self, caller: Caller) -> Caller:
        """Return a caller with what whom it acts for may do now."""
        return self._gateway.acting(caller)

    async def act(self, request: Request, caller: Caller, *, peer: str, run_id: str | None) -> Reply | Following:
        """Answer a request in somebody's name, through the door."""
        return await self._gateway.act(request, caller, peer=peer, run_id=run_id)

    @property
    def _gateway(self) -> "GatewayDoor":
        if self._door is None:
            raise Unavailable("the gateway is not open yet")
        return self._door

    @property
    def plugins(self) -> Sequence[PluginStatus]:
        return self._realm.plugins.statuses

    @property
    def audit(self) -> AuditReader:
        if self._realm.audit_reader is None:
            raise Unavailable("the audit log is off; `audit.enabled` in the configuration turns it on")
        return self._realm.audit_reader

    def methods(self, caller: Caller) -> Sequence[Method]:
        return [method for method in self._realm.registry.methods if method.may_be_called_by(caller)]

    def hashes(self) -> Mapping[str, str]:
        return self._realm.registry.hashes()

    def openrpc(self, caller: Caller) -> JsonValue:
        # OpenRPC wants a version; which faults a server has is not told to strangers.
        version = UNTOLD_VERSION if caller.kind == "stranger" else self.version
        return document(self.methods(caller), version=version, error_code=code_and_status)

    async def find_run(self, caller: Caller, subscription: str) -> Run:
        return await self._realm.runs.find(caller, subscription, allows=partial(self._allows, caller))

    async def list_runs(self, caller: Caller, *, limit: int, before: str | None) -> Sequence[RunSummary]:
        return await self._realm.runs.list(caller, limit=limit, before=before)

    async def check(self) -> Mapping[str, str]:
        parts: dict[str, str] = {}
        for name, database in self._realm.databases.items():
            parts[f"database {name}"] = await _check_database(database)
        for plugin in self.plugins:
            parts |= _plugin_parts(plugin)
        return parts

    def _allows(self, caller: Caller, method: str, target: str | None) -> bool:
        """Whether the caller's scopes allow the method whose run it is."""
        return method in self._realm.registry and _may_read_run(caller, self._realm.registry.get(method), target)


def _plugin_parts(plugin: PluginStatus) -> dict[str, str]:
    if plugin.state == "failed":
        return {f"plugin {plugin.name}": plugin.error or "failed"}
    parts = {f"activation {namespace}": "ok" for namespace in plugin.namespaces}
    for namespace, state in plugin.services.items():
        parts[f"service {namespace}"] = "ok" if state in ("running", "ended") else state
    return parts


async def _check_database(database: Database) -> str:
    def probe(transaction: Transaction) -> None:
        transaction.one("select 1")

    try:
        with trio.fail_after(CHECK_WITHIN_S):
            await database.read(probe)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "ok"
