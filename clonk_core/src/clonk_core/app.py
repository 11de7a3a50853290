"""The composition root: from a configuration to a running host. The only module that knows every room."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_core.config.load import Loaded, load, load_plugins_section
from clonk_core.config.sections import check_section_class
from clonk_core.config.settings import Settings
from clonk_core.errors import ConfigError, PluginError
from clonk_core.gateway.audit import open_audit
from clonk_core.gateway.dispatch import Gateway
from clonk_core.host.audit import OpenAudit
from clonk_core.host.discovery import Plugins, load_plugins
from clonk_core.host.realm import Realm, open_realm
from clonk_core.interfaces import Dispatch, Hub
from clonk_core.observe.logs import Logs
from clonk_core.storage.data_dir import hold_data_dir
from clonk_core.transports.listening import Address

DEFAULT_TENANT: Final = "default"

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
    """

    gateway: Gateway
    realm: Realm
    logs: Logs
    settings: Settings

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
    """

    http: Address
    websocket: Address


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
    log = logs.get("clonk")
    for status in blueprint.plugins.statuses:
        if status.state == "failed":
            log.error("plugin failed", plugin=status.name, reason=status.error)
    with hold_data_dir(settings.storage.data_dir) as data_dir:
        async with open_realm(
            tenant=DEFAULT_TENANT,
            settings=settings,
            sections=blueprint.loaded.sections,
            plugins=blueprint.plugins,
            logs=logs,
            data_dir=data_dir,
            roots=settings.workspaces.roots or DEFAULT_ROOTS,
            started_at=datetime.now(UTC),
            open_audit=_audit_opener(settings, logs),
        ) as realm:
            gateway = Gateway(
                {DEFAULT_TENANT: realm}, log=logs.get("gateway"), call_deadline_s=settings.server.call_deadline_s
            )
            try:
                yield App(gateway=gateway, realm=realm, logs=logs, settings=settings)
            finally:
                gateway.close()


def _audit_opener(settings: Settings, logs: Logs) -> OpenAudit | None:
    """Return what opens the audit log in a realm's database; None when it is off."""
    if not settings.audit.enabled:
        return None
    return partial(open_audit, settings=settings.audit, log=logs.get("audit"))


async def serve_app(
    app: App, *, shutdown: trio.Event, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED
) -> None:
    """Open both ports and serve until `shutdown` is set.

    Then nobody is let in any more, the runs are stopped, so that those who follow them see the end, and the
    connections close when their last answer is out, within `server.shutdown_grace_s`.

    Raises:
        ConfigError: A port cannot be opened.
    """
    # Here, because `clonk stdio` and a host inside another program need neither.
    from clonk_core.transports.serve import serve_http, serve_websocket
    from clonk_core.web.pages import make_pages

    server = app.settings.server
    pages = make_pages(app.dispatch, app.hub.check, version=app.hub.version)
    log = app.logs.get("transports")
    async with trio.open_nursery() as nursery:
        http = await nursery.start(partial(serve_http, app.dispatch, server, pages=pages, log=log, shutdown=shutdown))
        websocket = await nursery.start(partial(serve_websocket, app.dispatch, server, log=log, shutdown=shutdown))
        log.info("listening", http=http.url("http", "/mcp"), websocket=websocket.url("ws", "/ws"))
        task_status.started(Addresses(http=http, websocket=websocket))
        await shutdown.wait()
        app.gateway.close()
        await app.realm.stop_runs()
