"""One tenant's world: its activations, databases, runs and events."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
import orjson
import trio

from clonk_core.config.nodes import DEFAULT
from clonk_core.config.settings import Settings
from clonk_core.errors import (
    ActivationError,
    CallError,
    ConfigError,
    DeadlineExceeded,
    Internal,
    InvalidParams,
    PluginError,
)
from clonk_core.gateway_messages import AuditEntry
from clonk_core.host.audit import NoAudit, OpenAudit, own_entry
from clonk_core.host.discovery import Plugin, Plugins
from clonk_core.host.events import EventBus
from clonk_core.host.invoke import Invoker
from clonk_core.host.loading import CLOSE_WITHIN_S, Loader
from clonk_core.host.nursery import open_secret_nursery
from clonk_core.host.plugin_host import PluginHost
from clonk_core.host.services import supervise
from clonk_core.host.view import RealmHub
from clonk_core.ids import new_id
from clonk_core.interfaces.host import CredentialCheck, SettingOrigin, WorkspacesSection
from clonk_core.interfaces.keeping import AuditReader, AuditWriter
from clonk_core.interfaces.runs import Following
from clonk_core.interfaces.storage import CoreDatabase, Database
from clonk_core.messages import Call, Caller, ErrorObject, JsonValue, Reply, Request
from clonk_core.methods import Method, reach_of
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.observe.logs import Logs
from clonk_core.plugin import Activation
from clonk_core.runs.book import open_runs
from clonk_core.runs.limits import RunLimits
from clonk_core.schema.registry import Registry
from clonk_core.storage.core_tables import CORE_DATABASE, open_core_database
from clonk_core.storage.data_dir import make_folder
from clonk_core.storage.secret_key import KeySource
from clonk_core.storage.secrets import SecretStore
from clonk_core.wire.converter import Converter
from clonk_core.wire.error_codes import error_object

SERVICES_START_WITHIN_S: Final = 5.0


class Realm:
    """One tenant's activations and all they have. Made by `open_realm`."""

    def __init__(
        self,
        *,
        tenant: str,
        settings: Settings,
        sections: Mapping[str, Any],
        origins: Mapping[str, SettingOrigin],
        secret_keys: KeySource,
        plugins: Plugins,
        logs: Logs,
        data_dir: Path,
        roots: Sequence[Path],
        started_at: datetime,
        metrics: Metrics,
        open_audit: OpenAudit | None = None,
    ) -> None:
        self.tenant = tenant
        self.settings = settings
        self.data_dir = data_dir
        self.metrics = metrics
        self.workspaces_dir = data_dir / "workspaces"
        self.workspace_roots: Sequence[Path] = tuple(
            dict.fromkeys(path.resolve() for path in (self.workspaces_dir, *roots))
        )
        self.workspaces: WorkspacesSection = settings.workspaces
        self.plugins = plugins
        self.converter = Converter()
        self.registry = Registry()
        self.log = logs.get("realm")
        self.bus = EventBus(self.converter, logs.get("events"))
        self.current: ContextVar[Call | None] = ContextVar("current_call", default=None)
        self.hub = RealmHub(self, started_at=started_at)
        self.audit: AuditWriter = NoAudit()
        self.audit_reader: AuditReader | None = None
        self._open_audit = open_audit
        self.invoker: Invoker
        self._hosts: dict[str, PluginHost] = {}
        self._sections = sections
        self._origins = origins
        self._secret_keys = secret_keys
        self._logs = logs
        self._loader = Loader(plugins, self.registry, self.bus, self.log, data_dir, metrics)

    @property
    def databases(self) -> Mapping[str, Database]:
        """Every open database by name, the core's own first."""
        return {CORE_DATABASE: self.core_database, **self._loader.claims.databases}

    @property
    def credentials(self) -> Sequence[tuple[str, CredentialCheck]]:
        """What tells whose credential it is, each with its plugin's name."""
        return self._loader.credentials

    # What packages see of it (plugin_host.RealmView).

    def current_caller(self, plugin: str) -> Caller:
        """Return who called what runs now; the package's own service caller in background work."""
        call = self.current.get()
        if call is not None:
            return call.caller
        return Caller(id=f"service:{plugin}", kind="service", tenant=self.tenant, scopes=frozenset({"*"}))

    def setting_origin(self, path: str) -> SettingOrigin:
        """Tell where a setting came from, by its whole path."""
        return self._origins.get(path, DEFAULT)

    async def secret(self, name: str) -> str | None:
        """Return one of the tenant's secrets, None when there is none of that name."""
        return await self._secrets.get(self.tenant, name)

    def claim_database(self, plugin: str, name: str, migrations: str) -> Database:
        """Note that a package wants a database; it is opened before the first call."""
        return self._loader.claims.claim(plugin, name, migrations)

    def has(self, method: str) -> bool:
        """Tell whether a method of that name is there."""
        return method in self.registry

    def ask(self, hook: str, arguments: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
        """Ask every plugin a hook that another one has brought, and return the answers of those that implement it."""
        answers: list[tuple[str, Any]] = []
        for plugin in self.plugins.loaded if hook in self.plugins.specs else ():
            try:
                answer = self.plugins.call(plugin, hook, host=self._hosts[plugin.name], **arguments)
            except PluginError as error:
                self.log.warning("a plugin's hook failed", plugin=plugin.name, reason=str(error))
                continue
            if answer is not None:
                answers.append((plugin.name, answer))
        return answers

    async def start_inside(self, method: str, params: JsonValue, caller: Caller) -> Following:
        """Call a streaming method for an activation; see `call_inside`."""
        found = self.registry.get(method)
        if not found.streaming:
            raise PluginError(f"{method} is a plain method; call it with `host.call`")
        answer = await self.invoker.invoke(found, params, caller, new_id("req"), deadline_s=found.deadline_s)
        assert isinstance(answer, Following)  # noqa: S101 - for the type checker: it streams
        return answer

    async def call_inside(self, method: str, params: JsonValue, caller: Caller) -> Reply:
        """Call a plain method for an activation: no scope is checked, the door was passed when the caller came in."""
        found = self.registry.get(method)
        if found.streaming:
            raise PluginError(f"{method} is a streaming method; read it with `host.stream`")
        deadline_s = found.deadline_s or self.settings.server.call_deadline_s
        with trio.move_on_after(deadline_s):
            answer = await self.invoker.invoke(found, params, caller, new_id("req"), deadline_s=deadline_s)
            assert isinstance(answer, Reply)  # noqa: S101 - for the type checker: it is plain
            return answer
        raise DeadlineExceeded(f"{method} took longer than {deadline_s:g} s", deadline_s=deadline_s)

    def acting(self, caller: Caller) -> Caller:
        """Return a caller with what whom it acts for may do now."""
        return self.hub.acting(attrs.evolve(caller, tenant=self.tenant))

    async def act(
        self, method: str, params: JsonValue, caller: Caller, *, streaming: bool, peer: str, run_id: str | None
    ) -> Reply | Following:
        """Call a method in somebody's name, through the door; see `Host.call_as`."""
        if self.has(method) and self.registry.get(method).streaming != streaming:
            raise PluginError(f"{method} is {'a plain' if streaming else 'a streaming'} method")
        request = Request(method=method, params=params, id=method, size=len(orjson.dumps(params)))
        return await self.hub.act(request, attrs.evolve(caller, tenant=self.tenant), peer=peer, run_id=run_id)

    async def emit(self, event: object) -> None:
        """Tell an event to its handlers."""
        await self.bus.emit(event)

    async def write_down(self, entry: AuditEntry) -> None:
        """Write what an activation has done into the audit log."""
        await self.audit.write(own_entry(entry, self.current.get(), self.settings.audit.max_params_bytes))

    # What the gateway sees of it.

    def method(self, name: str) -> Method:
        """Return a method by name.

        Raises:
            MethodNotFound: There is none; the nearest names are told.
        """
        return self.registry.get(name)

    def count_runs(self, caller_id: str | None) -> int:
        """Return how many runs of a caller are going on, of all callers with None."""
        return sum(1 for run in self.runs.running if caller_id is None or run.caller.id == caller_id)

    async def stop_runs_of(self, caller_id: str) -> None:
        """Stop the runs of a caller that may do nothing any more."""
        async with trio.open_nursery() as nursery:
            for run in self.runs.running:
                if run.caller.id == caller_id:
                    nursery.start_soon(run.stop, "cancelled")

    async def find_repeat(self, method: Method, params: JsonValue, caller: Caller) -> Following | None:
        """Return the run that an earlier request with the same idempotency key has started; see `Invoker`."""
        try:
            return await self.invoker.find_repeat(method, params, caller)
        except InvalidParams as error:
            raise _named(error, method.name) from error

    async def invoke(
        self,
        method: Method,
        params: JsonValue,
        caller: Caller,
        call_id: str,
        *,
        target: str | None = None,
        deadline_s: float | None = None,
    ) -> Reply | Following:
        """Decode the arguments, call the method and encode its answer."""
        try:
            return await self.invoker.invoke(
                method,
                params,
                caller,
                call_id,
                target=target,
                deadline_s=deadline_s,
                reaches=reach_of(caller, method),
            )
        except InvalidParams as error:
            named = _named(error, method.name)
            if named is error:
                raise
            raise named from error

    def _error_of_run(self, error: CallError) -> ErrorObject:
        """Return the error object of a run's last event: what a plain call would have answered."""
        call = self.current.get()  # the run's task has the context of the call that started it
        return error_object(error if call is None else _named(error, call.method))

    # Opening.

    async def open(self, stack: AsyncExitStack) -> None:
        """Build the activations, open the databases and get everything ready for the first call."""
        make_folder(self.workspaces_dir, mode=0o777)
        self.core_database: CoreDatabase = await stack.enter_async_context(
            open_core_database(self.data_dir, metrics=self.metrics)
        )
        await self._open_secrets()
        if self._open_audit is not None:
            # Before everything that may write into it, and so closed after it.
            self.audit = self.audit_reader = await stack.enter_async_context(self._open_audit(self.core_database))
        streams = self.settings.streams
        limits = RunLimits(retention_s=streams.retention_s, stop_grace_s=streams.stop_grace_s)
        self.runs = await stack.enter_async_context(
            open_runs(
                self.core_database,
                encode=self.converter.encode,
                error_object=self._error_of_run,
                incident=self.incident,
                limits=limits,
                clock=lambda: datetime.now(UTC),
                metrics=self.metrics,
            )
        )
        self.invoker = Invoker(self.converter, self.runs, self.current)
        for plugin in self.plugins.loaded:
            section, log = self._sections.get(plugin.name), self._logs.get(plugin.name)
            self._hosts[plugin.name] = PluginHost(plugin.name, realm=self, settings=section, log=log)
            await self._loader.load(plugin, self._hosts[plugin.name], stack)
        self.metrics.know_methods(method.name for method in self.registry)

    async def _open_secrets(self) -> None:
        """Read their key now, so that secrets are found while it is exchanged; without it everything else works."""
        self._secrets = SecretStore(self.core_database, self._secret_keys)
        try:
            await self._secrets.learn_keys()
        except ConfigError as error:
            self.log.warning("stored secrets cannot be read", reason=str(error))

    # Services.

    async def start_services(self, nursery: trio.Nursery) -> None:
        """Start every background service and wait, within bounds, until each works or has failed once."""
        waiting: list[trio.Event] = []
        for plugin, activation in self._loader.activations:
            if type(activation).serve is Activation.serve:
                continue
            settled = trio.Event()
            waiting.append(settled)
            _note_service(plugin, activation, "starting")
            nursery.start_soon(supervise, activation, self.log, _service_state(plugin, activation, settled))
        with trio.move_on_after(SERVICES_START_WITHIN_S):
            for event in waiting:
                await event.wait()

    # Closing.

    async def stop_runs(self) -> None:
        """Stop every run in order: each may yield its last events within `streams.stop_grace_s`."""
        await self.runs.stop_all("shutdown", within_s=self.settings.streams.stop_grace_s)

    # Faults.

    def incident(self, error: BaseException, where: str | None = None) -> Internal:
        """Record a bug under a new incident id and return what the caller may know.

        Args:
            error: What was raised.
            where: Method in which; None for the one that runs now.
        """
        incident = new_id("inc")
        kind = "activation" if isinstance(error, ActivationError) else "bug"
        call = self.current.get()
        subscription = {"subscription": call.run_id} if call and call.run_id else {}
        where = where or (call.method if call else "runs")
        self.log.error("incident", incident=incident, where=where, fault=kind, **subscription, exc_info=error)
        return Internal(incident)


@asynccontextmanager
async def open_realm(
    *,
    tenant: str,
    settings: Settings,
    sections: Mapping[str, Any],
    origins: Mapping[str, SettingOrigin],
    secret_keys: KeySource,
    plugins: Plugins,
    logs: Logs,
    data_dir: Path,
    roots: Iterable[Path],
    started_at: datetime,
    metrics: Metrics = NO_METRICS,
    open_audit: OpenAudit | None = None,
) -> AsyncIterator[Realm]:
    """Open one tenant's world and close it in order: runs, services, activations, databases.

    Nothing is written down without `open_audit`.
    """
    realm = Realm(
        tenant=tenant,
        settings=settings,
        sections=sections,
        origins=origins,
        secret_keys=secret_keys,
        plugins=plugins,
        logs=logs,
        data_dir=data_dir,
        roots=tuple(roots),
        started_at=started_at,
        metrics=metrics,
        open_audit=open_audit,
    )
    async with AsyncExitStack() as stack:
        await realm.open(stack)
        async with open_secret_nursery() as services:
            await realm.start_services(services)
            try:
                yield realm
            finally:
                # Runs first, while the services they stand on still work. Shielded and bounded: a caller in a
                # hurry (a cancelled host) gets an orderly end too.
                with trio.move_on_after(settings.streams.stop_grace_s + CLOSE_WITHIN_S, shield=True):
                    await realm.stop_runs()
                services.cancel_scope.cancel()


def _named(error: CallError, method: str) -> CallError:
    """Return an activation's own `InvalidParams` with the method's name, which it need not know; others as they are."""
    if type(error) is InvalidParams and error.method is None:
        return error.named(method)
    return error


def _service_state(plugin: Plugin, activation: Activation, settled: trio.Event) -> Callable[[str], None]:
    def tell(state: str) -> None:
        _note_service(plugin, activation, state)
        settled.set()

    return tell


def _note_service(plugin: Plugin, activation: Activation, state: str) -> None:
    plugin.note(services={**plugin.status.services, activation.namespace: state})
