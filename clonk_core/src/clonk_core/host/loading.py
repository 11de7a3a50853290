"""Brings one package into a realm: asks its hooks, opens its databases, gets its activations ready; all or nothing."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, cast

import attrs
import trio

from clonk_core.boundary import plugin_boundary
from clonk_core.errors import ClonkError, PluginError
from clonk_core.host.discovery import Plugin, Plugins, describe
from clonk_core.host.events import EventBus
from clonk_core.host.plugin_host import LateDatabase, PluginHost
from clonk_core.interfaces.host import CredentialCheck, Handler, Log
from clonk_core.interfaces.storage import Database
from clonk_core.metrics import Metrics
from clonk_core.names import is_database
from clonk_core.plugin import Activation
from clonk_core.schema.registry import Registry
from clonk_core.storage.core_tables import CORE_DATABASE
from clonk_core.storage.sqlite import open_sqlite

OPEN_WITHIN_S: Final = 60.0
"""Longest time for one activation to get ready; one that hangs must not keep the others from starting."""

CLOSE_WITHIN_S: Final = 5.0


@attrs.frozen(kw_only=True)
class _Offer:
    """What the hooks of one package gave."""

    activations: list[Activation]
    handlers: Mapping[type[Any] | str, Handler]
    credentials: list[CredentialCheck]


class Claims:
    """The databases that packages have asked for.

    A package asks in its hooks, so that each database is there, opened and migrated, before the first call.
    """

    def __init__(self) -> None:
        self.databases: dict[str, LateDatabase] = {}
        self._asking: str | None = None

    def claim(self, plugin: str, name: str, migrations: str) -> Database:
        """Note that a package wants a database and return it, not yet opened.

        Raises:
            PluginError: The name is against the rules or taken, or it is too late.
        """
        if not is_database(name):
            raise PluginError(f"database {name!r}: a name has lower-case letters, digits and `_`, a letter first")
        found = self.databases.get(name)
        if found is not None and (found.plugin, found.migrations) == (plugin, migrations):
            return found
        if name == CORE_DATABASE or found is not None:
            raise PluginError(f"database {name!r} belongs to {found.plugin if found else 'the core'}")
        if self._asking != plugin:
            raise PluginError(f"database {name!r}: ask for it in a hook, when the activation is made; now is too late")
        self.databases[name] = LateDatabase(plugin, name, migrations)
        return self.databases[name]

    def begin(self, plugin: str) -> None:
        """Let a package ask from now on."""
        self._asking = plugin

    def end(self) -> list[LateDatabase]:
        """Let nobody ask any more and return what the package has asked for."""
        asked = [late for late in self.databases.values() if late.plugin == self._asking]
        self._asking = None
        return asked

    def drop(self, plugin: str) -> None:
        """Forget what a package has asked for: another may have it."""
        self.databases = {name: late for name, late in self.databases.items() if late.plugin != plugin}


class Loader:
    """Brings packages into one realm.

    Attributes:
        claims: The databases they have asked for.
        activations: Those that were brought in, each with its plugin, children behind their parents.
        credentials: What tells whose credential it is, each with its plugin's name.
    """

    def __init__(
        self, plugins: Plugins, registry: Registry, bus: EventBus, log: Log, data_dir: Path, metrics: Metrics
    ) -> None:
        self.claims = Claims()
        self.activations: list[tuple[Plugin, Activation]] = []
        self.credentials: list[tuple[str, CredentialCheck]] = []
        self._plugins = plugins
        self._registry = registry
        self._bus = bus
        self._log = log
        self._data_dir = data_dir
        self._metrics = metrics

    async def load(self, plugin: Plugin, host: PluginHost, stack: AsyncExitStack) -> None:
        """Bring one package in; whatever goes wrong is its own and recorded, and the rest works.

        Args:
            plugin: The package.
            host: What it is given.
            stack: Closes its activations and databases.
        """
        added: list[Activation] = []
        try:
            async with AsyncExitStack() as own:
                offer = await self._bring_in(plugin, host, added, own)
                stack.push_async_exit(own.pop_all())
        except ClonkError as error:
            self._log.warning("plugin failed", plugin=plugin.name, reason=str(error))
            plugin.fail(str(error))
        except Exception as error:  # noqa: BLE001 - another package's code and data
            self._log.exception("plugin failed", plugin=plugin.name, reason=describe(error))
            plugin.fail(describe(error))
        else:
            plugin.note(namespaces=tuple(one.namespace for one in added))
            self.activations += [(plugin, activation) for activation in _with_children(added)]
            self.credentials += [(plugin.name, check) for check in offer.credentials]
            return
        for activation in added:
            self._registry.remove(activation.namespace)
        self._bus.forget(plugin.name)
        self.claims.drop(plugin.name)

    async def _bring_in(
        self, plugin: Plugin, host: PluginHost, added: list[Activation], stack: AsyncExitStack
    ) -> _Offer:
        self.claims.begin(plugin.name)
        try:
            offer = self._ask(plugin, host)
        finally:
            claimed = self.claims.end()
        for late in claimed:
            path = self._data_dir / f"{late.name}.db"
            database = open_sqlite(path, late.name, migrations=[late.migrations], metrics=self._metrics)
            late.bind(await stack.enter_async_context(database))
        for activation in offer.activations:
            self._registry.add(activation, package=plugin.status.package)
            added.append(activation)
        for activation in _with_children(offer.activations):
            await _open(activation)
            stack.push_async_callback(self._close, activation)
        for event, handler in offer.handlers.items():
            self._bus.subscribe(plugin.name, event, handler)
        return offer

    def _ask(self, plugin: Plugin, host: PluginHost) -> _Offer:
        activations = self._plugins.items(plugin, "clonk_activations", Activation, host=host)
        handlers = self._plugins.call(plugin, "clonk_subscriptions", host=host)
        if handlers is not None and not isinstance(handlers, Mapping):
            raise PluginError(f"its hook clonk_subscriptions gave a {type(handlers).__name__}, which is no mapping")
        credentials = self._plugins.items(plugin, "clonk_credentials", object, host=host)
        for one in credentials:
            if not callable(one):
                raise PluginError(f"its hook clonk_credentials gave a {type(one).__name__}, which is no function")
        return _Offer(activations=activations, handlers=handlers or {}, credentials=cast("Any", credentials))

    async def _close(self, activation: Activation) -> None:
        with trio.move_on_after(CLOSE_WITHIN_S, shield=True) as limit:
            try:
                with plugin_boundary():
                    await activation.close()
            except Exception:  # noqa: BLE001 - another package's code: recorded, the others are closed all the same
                self._log.exception("activation failed to close", namespace=activation.namespace)
        if limit.cancelled_caught:
            self._log.warning(
                "activation did not close in time", namespace=activation.namespace, limit_s=CLOSE_WITHIN_S
            )


async def _open(activation: Activation) -> None:
    with trio.move_on_after(OPEN_WITHIN_S) as limit, plugin_boundary():
        await activation.open()
    if limit.cancelled_caught:
        raise PluginError(f"{activation.namespace}: it did not get ready within {OPEN_WITHIN_S:g} s")


def _with_children(activations: Iterable[Activation]) -> Iterator[Activation]:
    for activation in activations:
        yield activation
        yield from _with_children(activation.children)
