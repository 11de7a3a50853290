"""What one package gets of the host in one realm: its settings, databases, folders, and a way to call the others."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
import trio

from clonk_core.errors import CallError, ConfigError, PluginError, StorageError, Unavailable
from clonk_core.gateway_messages import AuditEntry
from clonk_core.host.plugin_metrics import PackageMetrics
from clonk_core.interfaces.host import Log, SettingOrigin, WorkspacesSection
from clonk_core.interfaces.hub import Hub
from clonk_core.interfaces.runs import Following
from clonk_core.interfaces.storage import Database
from clonk_core.messages import AuditKind, Caller, ErrorObject, JsonValue, Reply
from clonk_core.metrics import Metrics
from clonk_core.wire.error_codes import error_object

STOP_WITHIN_S: Final = 10.0
"""Longest time for a run to end that nobody reads any more; what it is given to end by itself is less."""


class RealmView(Protocol):
    """What a package's host needs of its realm."""

    tenant: str
    data_dir: Path
    workspaces_dir: Path
    workspace_roots: Sequence[Path]
    workspaces: WorkspacesSection
    metrics: Metrics

    @property
    def hub(self) -> Hub: ...

    def current_caller(self, plugin: str) -> Caller: ...

    def setting_origin(self, path: str) -> SettingOrigin: ...

    async def secret(self, name: str) -> str | None: ...

    def claim_database(self, plugin: str, name: str, migrations: str) -> Database: ...

    def has(self, method: str) -> bool: ...

    def ask(self, hook: str, arguments: Mapping[str, Any]) -> Sequence[tuple[str, Any]]: ...

    async def call_inside(self, method: str, params: JsonValue, caller: Caller) -> Reply: ...

    async def start_inside(self, method: str, params: JsonValue, caller: Caller) -> Following: ...

    def acting(self, caller: Caller) -> Caller: ...

    async def act(
        self, method: str, params: JsonValue, caller: Caller, *, streaming: bool, peer: str, run_id: str | None
    ) -> Reply | Following: ...

    async def emit(self, event: object) -> None: ...

    async def write_down(self, entry: AuditEntry) -> None: ...


class PluginHost:
    """Implements `interfaces.Host` for one package in one realm."""

    def __init__(self, name: str, *, realm: RealmView, settings: Any, log: Log) -> None:
        self._name = name
        self._realm = realm
        self.settings = settings
        self.log = log
        self.metrics = PackageMetrics(name, realm.metrics)

    @property
    def data_dir(self) -> Path:
        folder = self._realm.data_dir / self._name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    @property
    def workspaces_dir(self) -> Path:
        return self._realm.workspaces_dir

    @property
    def workspace_roots(self) -> Sequence[Path]:
        return self._realm.workspace_roots

    @property
    def workspaces(self) -> WorkspacesSection:
        return self._realm.workspaces

    @property
    def tenant(self) -> str:
        return self._realm.tenant

    @property
    def caller(self) -> Caller:
        return self._realm.current_caller(self._name)

    @property
    def hub(self) -> Hub:
        return self._realm.hub

    def setting_origin(self, path: str) -> SettingOrigin:
        return self._realm.setting_origin(f"{self._name}.{path}")

    async def secret(self, name: str) -> str | None:
        try:
            return await self._realm.secret(name)
        except (ConfigError, StorageError) as error:
            self.log.warning("a stored value cannot be read", name=name, reason=str(error))
            raise Unavailable(f"the secret {name!r} cannot be read; the server's log says why", name=name) from error

    def database(self, name: str, *, migrations: str) -> Database:
        return self._realm.claim_database(self._name, name, migrations)

    def has(self, method: str) -> bool:
        return self._realm.has(method)

    def ask(self, hook: str, /, **arguments: Any) -> Sequence[tuple[str, Any]]:
        return self._realm.ask(hook, arguments)

    async def call(self, method: str, /, **params: JsonValue) -> JsonValue:
        answer = await self._realm.call_inside(method, params, self.caller)
        return orjson.loads(answer.result)

    def stream(self, method: str, /, **params: JsonValue) -> AbstractAsyncContextManager[AsyncIterator[JsonValue]]:
        return self._stream(method, params)

    @asynccontextmanager
    async def _stream(self, method: str, params: JsonValue) -> AsyncIterator[AsyncIterator[JsonValue]]:
        answer = await self._realm.start_inside(method, params, self.caller)
        async with _events(answer) as events:
            yield events

    def acting(self, caller: Caller) -> Caller:
        return self._realm.acting(caller)

    async def call_as(
        self, caller: Caller, method: str, params: JsonValue, *, peer: str, run_id: str | None = None
    ) -> JsonValue:
        answer = await self._realm.act(method, params, caller, streaming=False, peer=peer, run_id=run_id)
        assert isinstance(answer, Reply)  # noqa: S101 - for the type checker: it is plain
        return orjson.loads(answer.result)

    def stream_as(
        self, caller: Caller, method: str, params: JsonValue, *, peer: str, run_id: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[JsonValue]]:
        return self._stream_as(caller, method, params, peer, run_id)

    @asynccontextmanager
    async def _stream_as(
        self, caller: Caller, method: str, params: JsonValue, peer: str, run_id: str | None
    ) -> AsyncIterator[AsyncIterator[JsonValue]]:
        answer = await self._realm.act(method, params, caller, streaming=True, peer=peer, run_id=run_id)
        assert isinstance(answer, Following)  # noqa: S101 - for the type checker: it streams
        try:
            async with _events(answer) as events:
                yield events
        finally:
            if not answer.repeated:  # a run that was there before is somebody else's to stop
                with trio.move_on_after(STOP_WITHIN_S, shield=True):
                    await answer.run.stop("cancelled")

    def error_object(self, error: CallError) -> ErrorObject:
        return error_object(error)

    async def emit(self, event: object) -> None:
        await self._realm.emit(event)

    async def audit(
        self,
        action: str,
        *,
        kind: AuditKind = "tool",
        target: str | None = None,
        outcome: str = "ok",
        duration_ms: float | None = None,
        run_id: str | None = None,
        detail: Mapping[str, JsonValue] | None = None,
    ) -> None:
        await self._realm.write_down(
            AuditEntry(
                kind=kind,
                caller=self.caller,
                action=action,
                target=target,
                outcome=outcome,
                duration_ms=duration_ms,
                run_id=run_id,
                detail=detail or {},
            )
        )


@asynccontextmanager
async def _events(answer: Following) -> AsyncIterator[AsyncIterator[JsonValue]]:
    """Give the events of a run as JSON values."""
    async with answer.run.follow(answer.after) as batches:

        async def events() -> AsyncGenerator[JsonValue, None]:
            async for batch in batches:
                for event in batch:
                    yield orjson.loads(event.payload)

        async with aclosing(events()) as one_by_one:
            yield one_by_one


class LateDatabase:
    """A database that a hook has asked for: known by name at once, opened when the realm opens.

    Hooks are plain functions and cannot wait, so they get this.
    """

    def __init__(self, plugin: str, name: str, migrations: str) -> None:
        self.plugin = plugin
        self.name = name
        self.migrations = migrations
        self._opened: Database | None = None

    def bind(self, database: Database) -> None:
        """Give it the opened database."""
        self._opened = database

    @property
    def opened(self) -> Database:
        """The opened database.

        Raises:
            PluginError: The realm is not open yet.
        """
        if self._opened is None:
            raise PluginError(f"database {self.name} is not open yet; use it from `open`, `serve` and methods on")
        return self._opened

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.opened.run(function, *args, **kwargs)

    async def read(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.opened.read(function, *args, **kwargs)

    async def write_grouped(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.opened.write_grouped(function, *args, **kwargs)

    async def write_small(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.opened.write_small(function, *args, **kwargs)
