"""The composition root: from a configuration to a running host. The only module that knows every room."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_core.config.auth_settings import AuthSettings
from clonk_core.config.load import Loaded, load, load_plugins_section
from clonk_core.config.notices import is_loopback
from clonk_core.config.sections import check_section_class
from clonk_core.config.settings import Settings
from clonk_core.errors import ConfigError, PluginError
from clonk_core.gateway.audit import open_audit
from clonk_core.gateway.authenticate import Tokens
from clonk_core.gateway.dispatch import Gateway
from clonk_core.gateway.opening import Parts, open_gateway
from clonk_core.gateway_messages import KeyRequest
from clonk_core.host.audit import OpenAudit
from clonk_core.host.discovery import Plugins, load_plugins
from clonk_core.host.realm import Realm, open_realm
from clonk_core.interfaces.door import Dispatch
from clonk_core.interfaces.host import Log
from clonk_core.interfaces.hub import Hub
from clonk_core.messages import LOCAL_CALLER
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.observe.logs import Logs
from clonk_core.schema.masking import Masking
from clonk_core.storage.data_dir import hold_data_dir
from clonk_core.storage.open_secrets import finish_rotation
from clonk_core.storage.secret_key import KeySource, choose_key_source
from clonk_core.transports.listening import Address
from clonk_core.transports.strangers import Crowd
from clonk_core.transports.tls import TlsCertificate

DEFAULT_TENANT: Final = "default"

FIRST_KEY: Final = "admin"
"""Name of the key that is made when there is none."""

DEFAULT_ROOTS: Final = (Path("/workspace"),)
"""Where sessions may work beside the data directory's own workspaces, when `workspaces.roots` says nothing."""


@attrs.frozen(kw_only=True)
class Blueprint:
    """All that a host is made from.

    Attributes:
        loaded: The checked configuration.
        plugins: The plugins, imported; their activations are built when the host opens.
    """

    loaded: Loaded
    plugins: Plugins

    @property
    def settings(self) -> Settings:
        """The core's part of the configuration."""
        return self.loaded.settings


@attrs.frozen(kw_only=True)
class App:
    """An open host.

    Attributes:
        dispatch: The door for transports.
        gateway: The same, for closing it.
        realm: The one tenant's world.
        logs: Makes loggers.
        settings: The core's part of the configuration.
        metrics: What is counted; `NO_METRICS` when they are off.
    """

    gateway: Gateway
    realm: Realm
    logs: Logs
    settings: Settings
    metrics: Metrics = NO_METRICS

    @property
    def dispatch(self) -> Dispatch:
        """The one door behind the transports."""
        return self.gateway

    @property
    def hub(self) -> Hub:
        """What the host tells of itself."""
        return self.realm.hub


@attrs.frozen(kw_only=True)
class Addresses:
    """Where a served host listens.

    Attributes:
        http: HTTP and SSE.
        websocket: WebSocket.
        metrics: Metrics; None when they are off.
    """

    http: Address
    websocket: Address
    metrics: Address | None = None


def draw(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
    *,
    extra_plugins: Mapping[str, object] | None = None,
    entry_points: Iterable[metadata.EntryPoint] | None = None,
) -> Blueprint:
    """Read the configuration and import the plugins.

    Args:
        path: The configuration file; searched in the usual places when None.
        environ: Environment variables; none when None.
        flags: Settings from the command line by dotted path.
        extra_plugins: Further plugins by name, for embedding and tests.
        entry_points: What to load instead of the installed entry points.

    Raises:
        ConfigError: The configuration is wrong.
    """
    environ = environ or {}
    flags = flags or {}
    section = load_plugins_section(path, environ, flags)
    plugins = load_plugins(
        disabled=section.disabled, plugins_dir=section.dir, extra=extra_plugins, entry_points=entry_points
    )
    sections: dict[str, type[Any]] = {}
    for plugin in plugins.loaded:
        try:
            found = plugins.call(plugin, "clonk_settings")
            if found is not None:
                check_section_class(found)
                sections[plugin.name] = found
        except (PluginError, ConfigError) as error:
            plugin.fail(str(error))
    unchecked = tuple(plugin.name for plugin in plugins.all if plugin.status.state != "loaded")
    return Blueprint(loaded=load(path, environ, flags, sections, unchecked), plugins=plugins)


def secret_keys(settings: Settings, data_dir: Path) -> KeySource:
    """Return where the key of the stored secrets comes from."""
    given = settings.secrets
    return choose_key_source(key_file=given.key_file, key_command=given.key_command, data_dir=data_dir)


@asynccontextmanager
async def open_app(blueprint: Blueprint, *, logs: Logs | None = None, listening: bool = False) -> AsyncIterator[App]:
    """Open a host: data directory, databases, activations, services. Closes in order.

    Args:
        blueprint: From `draw`.
        logs: Where to log; by the configuration on standard error when None.
        listening: Whether ports will be opened, so that what must not be ignored then stops the start.

    Raises:
        ConfigError: The configuration asks for something that would be dangerous to ignore.
        StorageError: The data directory is in use by another host, or a database cannot be opened.
    """
    settings = blueprint.settings
    blueprint.loaded.require_startable(listening=listening)
    if logs is None:
        logs = Logs(level=settings.logging.level, format=settings.logging.format)
    metrics = _make_metrics(settings)
    log = logs.get("clonk")
    for status in blueprint.plugins.statuses:
        if status.state == "failed":
            log.error("plugin failed", plugin=status.name, reason=status.error)
    with hold_data_dir(settings.storage.data_dir) as data_dir:
        keys = secret_keys(settings, data_dir)
        await finish_rotation(data_dir, keys, log)
        async with open_realm(
            tenant=DEFAULT_TENANT,
            settings=settings,
            sections=blueprint.loaded.sections,
            origins=blueprint.loaded.origins,
            secret_keys=keys,
            plugins=blueprint.plugins,
            logs=logs,
            data_dir=data_dir,
            roots=settings.workspaces.roots or DEFAULT_ROOTS,
            started_at=datetime.now(UTC),
            metrics=metrics,
            open_audit=_audit_opener(settings, logs),
        ) as realm:
            parts = Parts(
                database=realm.core_database,
                audit=realm.audit if settings.audit.enabled else None,
                counters=metrics,
                tokens=None,
                show_params=Masking(max_bytes=settings.audit.max_params_bytes).params,
                clock=time.time,
                log=logs.get("gateway"),
                requests=settings.logging.requests,
                audit_required=settings.audit.required,
            )
            async with (
                _open_tokens(settings.auth, logs.get("gateway")) as tokens,
                open_gateway(
                    {DEFAULT_TENANT: realm},
                    settings.auth,
                    attrs.evolve(parts, tokens=tokens),
                    call_deadline_s=settings.server.call_deadline_s,
                ) as gateway,
            ):
                realm.hub.bind(gateway)
                yield App(gateway=gateway, realm=realm, logs=logs, settings=settings, metrics=metrics)


@asynccontextmanager
async def _open_tokens(auth: AuthSettings, log: Log) -> AsyncIterator[Tokens | None]:
    """Give what verifies tokens of the identity provider; None without one."""
    if auth.jwt is None or not auth.enabled:
        yield None
        return
    # Here, because most servers have no provider and need not pay for the library.
    from clonk_core.gateway.jwt import open_token_verifier

    async with open_token_verifier(auth.jwt, log=log) as verifier:
        yield verifier


def require_a_key(app: App) -> None:
    """Refuse to open ports to others where nobody could be let in.

    Raises:
        ConfigError: It is so.
    """
    auth, host = app.settings.auth, app.settings.server.host
    if app.realm.credentials:  # a plugin may let somebody in
        return
    if auth.enabled and auth.jwt is None and not app.gateway.keys.lets_anyone_in and not is_loopback(host):
        raise ConfigError(
            f"server.host: nobody could be let in on {host}, since there is no key that is good; make one with "
            "`clonk keys create admin --scope '*'`"
        )


async def make_first_key(app: App) -> str | None:
    """Make a key for everything when there is none at all, and return it; None when there is one, or none is needed."""
    auth, keys = app.settings.auth, app.gateway.keys
    if not auth.enabled or auth.jwt is not None or keys.lets_anyone_in:
        return None
    if any(key.state != "placeholder" for key in keys.list(LOCAL_CALLER)):
        app.logs.get("gateway").warning("no key lets anyone in; `clonk keys create` makes one")
        return None
    wanted = KeyRequest(id=FIRST_KEY, scopes=("*",), description="made at first start")
    _, secret = await keys.create(LOCAL_CALLER, wanted)
    return secret


def _make_metrics(settings: Settings) -> Metrics:
    """Return what counts, or what does nothing; only the first costs the import of Prometheus's library."""
    if not settings.metrics.enabled:
        return NO_METRICS
    from clonk_core.observe.metrics import PrometheusMetrics

    return PrometheusMetrics(version=metadata.version("clonk-core"))


def _audit_opener(settings: Settings, logs: Logs) -> OpenAudit | None:
    """Return what opens the audit log in a realm's database; None when it is off."""
    if not settings.audit.enabled:
        return None
    return partial(open_audit, settings=settings.audit, log=logs.get("audit"))


async def serve_app(
    app: App,
    *,
    shutdown: trio.Event,
    certificate: TlsCertificate | None = None,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Open the ports and serve until `shutdown` is set.

    Then nobody is let in any more, the runs are stopped, so that those who follow them see the end, and the
    connections close when their last answer is out, within `server.shutdown_grace_s`.

    Args:
        app: The host.
        shutdown: Ends it.
        certificate: That of `server.tls`, for who wants to reload it; None reads it here, where TLS is enabled.

    Raises:
        ConfigError: A port cannot be opened, or the certificate cannot be used.
    """
    # Here, because `clonk stdio` and a host inside another program need neither.
    from clonk_core.transports.serve import serve_http, serve_websocket
    from clonk_core.web.pages import make_pages

    require_a_key(app)
    server = app.settings.server
    pages = make_pages(app.dispatch, app.hub.check, version=app.hub.version, for_strangers=app.settings.auth.enabled)
    log = app.logs.get("transports")
    certificate = certificate or TlsCertificate.of(server, log=log)
    crowd = Crowd()
    common: dict[str, Any] = {"log": log, "shutdown": shutdown, "certificate": certificate, "metrics": app.metrics}
    common |= {"for_all": app.settings.auth.enabled, "crowd": crowd}
    async with trio.open_nursery() as nursery:
        http = await nursery.start(partial(serve_http, app.dispatch, server, pages=pages, **common))
        websocket = await nursery.start(partial(serve_websocket, app.dispatch, server, **common))
        metrics = await _start_metrics_port(app, nursery.start, log, shutdown, crowd)
        log.info("listening", http=http.url("http", "/mcp"), websocket=websocket.url("ws", "/ws"))
        task_status.started(Addresses(http=http, websocket=websocket, metrics=metrics))
        await shutdown.wait()
        app.gateway.close()
        await app.realm.stop_runs()


async def _start_metrics_port(
    app: App, start: Callable[..., Awaitable[Any]], log: Log, shutdown: trio.Event, crowd: Crowd
) -> Address | None:
    """Start the port of the metrics with a nursery's `start`, and return its address; None when they are off."""
    if app.metrics is NO_METRICS:
        return None
    from clonk_core.observe.metrics import PrometheusMetrics
    from clonk_core.transports.metrics_port import PATH, serve_metrics

    assert isinstance(app.metrics, PrometheusMetrics)  # noqa: S101 - for the type checker: there is no third kind
    settings = app.settings
    common: dict[str, Any] = {"log": log, "shutdown": shutdown, "crowd": crowd}
    serve = partial(serve_metrics, app.metrics, settings.metrics, settings.server, **common)
    address: Address = await start(serve)
    log.info("metrics", url=address.url("http", PATH))
    return address
