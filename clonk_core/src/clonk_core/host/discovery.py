"""Finds plugins and loads them one by one, so that a broken one is reported and harms nobody."""

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import pluggy
from packaging.requirements import InvalidRequirement, Requirement

from clonk_core import hookspecs
from clonk_core.boundary import plugin_boundary
from clonk_core.config.settings import Settings
from clonk_core.errors import ActivationError, PluginError
from clonk_core.host.plugin_files import import_plugin_file, plugin_files
from clonk_core.interfaces.hub import PluginStatus
from clonk_core.names import is_plugin

T = TypeVar("T")

ENTRY_POINTS: Final = "clonk"
CORE: Final = "clonk-core"

_RESERVED: Final = frozenset(field.name for field in attrs.fields(Settings))
"""What a plugin's own section of the configuration cannot be called."""


@attrs.define(kw_only=True)
class Plugin:
    """One installed plugin and how it fares.

    Attributes:
        status: What `hub.plugins` shows.
        target: The object with the hooks; None when it could not be loaded.
    """

    status: PluginStatus
    target: object | None = None

    @property
    def name(self) -> str:
        """The entry point's name, or the file's."""
        return self.status.name

    def fail(self, reason: str) -> None:
        """Mark it as failed; the first reason stays."""
        if self.status.state != "failed":
            self.status = attrs.evolve(self.status, state="failed", error=reason)

    def note(self, **changes: Any) -> None:
        """Change members of the status."""
        self.status = attrs.evolve(self.status, **changes)


class Plugins:
    """The plugins of one host, around one pluggy manager of its own.

    Attributes:
        all: They, in the order they were found.
        specs: Hooks that plugins ask each other, beside the host's own.
    """

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.all: list[Plugin] = []
        self.specs: dict[str, Callable[..., Any]] = {}
        if os.environ.get("CLONK_TRACE_HOOKS") == "1":
            self.manager.add_hookcall_monitoring(_trace_before, _trace_after)

    @property
    def loaded(self) -> list[Plugin]:
        """Those that work so far, in the order they were found."""
        return [plugin for plugin in self.all if plugin.target is not None and plugin.status.state == "loaded"]

    @property
    def statuses(self) -> list[PluginStatus]:
        """The state of each, loaded or not."""
        return [plugin.status for plugin in self.all]

    def add(self, plugin: Plugin) -> None:
        """Take a plugin in; a name that it cannot have or a wrong hook signature marks it as failed."""
        reason = self._objection(plugin)
        self.all.append(plugin)
        if reason is not None and plugin.status.state == "loaded":
            plugin.fail(reason)
        if plugin.target is None or reason is not None:
            plugin.target = None
            return
        try:
            hash(plugin.target)  # pluggy keeps plugins in sets
            self.manager.register(plugin.target, name=plugin.name)
        except Exception as error:  # noqa: BLE001 - every member of a foreign object is looked at
            plugin.fail(f"its hooks cannot be registered: {' '.join(str(error).split())[:500]}")
            self._take_out(plugin)
            return
        try:
            self._take_specs(plugin)
        except Exception as error:  # noqa: BLE001 - members of a foreign object are looked at
            plugin.fail(
                str(error) if isinstance(error, PluginError) else f"its hook clonk_hookspecs: {describe(error)}"
            )
            self._take_out(plugin)

    def _take_out(self, plugin: Plugin) -> None:
        """Forget a plugin's hooks; a half-registered one would take part in later calls."""
        if self.manager.has_plugin(plugin.name):
            self.manager.unregister(name=plugin.name)
        plugin.target = None

    def _take_specs(self, plugin: Plugin) -> None:
        """Take in the hooks of a plugin's own. Whoever implements one with other arguments is marked as failed.

        Raises:
            PluginError: There is something wrong with them; none is taken in.
        """
        specs = specs_of(self.call(plugin, "clonk_hookspecs"))
        beginning = plugin.name.replace("-", "_") + "_"
        for name in specs:
            if not name.startswith(beginning) or name.startswith(f"{hookspecs.PROJECT}_"):
                raise PluginError(f"its hook {name} must have a name that begins with {beginning!r}")
            if name in self.specs:
                raise PluginError(f"there is a hook {name} already")
        for name, spec in specs.items():
            self._take_out_misfits(name, frozenset(inspect.signature(spec).parameters))
            self.manager.add_hookspecs(type("Hook", (), {name: staticmethod(spec)}))
            self.specs[name] = spec

    def _take_out_misfits(self, hook: str, offered: frozenset[str]) -> None:
        """Take out the plugins that implement a hook with arguments that it does not offer."""
        caller = getattr(self.manager.hook, hook, None)
        for implementation in () if caller is None else caller.get_hookimpls():
            unknown = sorted(set(implementation.argnames) - offered)
            if unknown:
                other = next(one for one in self.all if one.name == implementation.plugin_name)
                other.fail(f"its hooks cannot be registered: {hook} has no argument {', '.join(unknown)}")
                self._take_out(other)

    def _objection(self, plugin: Plugin) -> str | None:
        """Return why a plugin cannot be taken in, None when it can."""
        if not is_plugin(plugin.name):
            return "its name is against the rule: letters, digits, `_` and `-`, a letter first"
        if plugin.name in _RESERVED:
            return f"{plugin.name!r} is a section of the core's configuration; give the plugin another name"
        for other in self.all:
            if other.name == plugin.name:
                return f"a plugin of that name is there already, from {other.status.package or 'a file'}"
            if plugin.target is not None and other.target is plugin.target:
                return f"it is the same as the plugin {other.name!r}"
        return None

    def call(self, plugin: Plugin, hook: str, **arguments: Any) -> Any:
        """Call one hook of one plugin and return its result, None when it has no such hook.

        Raises:
            PluginError: The hook raised, or is async.
        """
        others = [other.target for other in self.all if other is not plugin and other.target is not None]
        caller = self.manager.subset_hook_caller(hook, remove_plugins=others)
        try:
            with plugin_boundary():
                results = caller(**arguments)
        except Exception as error:
            raise PluginError(f"its hook {hook} raised {describe(error)}") from error
        result = results[0] if results else None
        if inspect.iscoroutine(result):
            result.close()
            raise PluginError(f"its hook {hook} is async; hooks only declare and are plain functions")
        return result

    def items(self, plugin: Plugin, hook: str, kind: type[T], **arguments: Any) -> list[T]:
        """Call one hook of one plugin that returns several things, and return them; none when it has no such hook.

        Raises:
            PluginError: The hook raised, is async, or gave something else.
        """
        given = self.call(plugin, hook, **arguments)
        if given is None:
            return []
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise PluginError(f"its hook {hook} gave {_named(given)}, which is no list")
        for one in given:
            if not isinstance(one, kind):
                raise PluginError(f"its hook {hook} gave {_named(one)}, which is no {kind.__name__}")
        return list(given)


def load_plugins(
    *,
    disabled: Iterable[str] = (),
    plugins_dir: Path | None = None,
    extra: Mapping[str, object] | None = None,
    entry_points: Iterable[metadata.EntryPoint] | None = None,
) -> Plugins:
    """Find and import every plugin.

    Args:
        disabled: Names that the configuration leaves out; they are not even imported.
        plugins_dir: Folder of single-file plugins (`*.py`, those that begin with `_` apart).
        extra: Further plugins by name: objects with hooks, for embedding and tests.
        entry_points: What to load instead of the installed entry points of group `clonk`.
    """
    plugins = Plugins()
    left_out = frozenset(disabled)
    points = metadata.entry_points(group=ENTRY_POINTS) if entry_points is None else entry_points
    # The core first: what others need (`rpc`, `hub`) is there whatever they do.
    for point in sorted(points, key=lambda point: (not _is_core(point), point.name)):
        plugins.add(_from_entry_point(point, point.name in left_out))
    for path in plugin_files(plugins_dir):
        plugins.add(_from_file(path, path.stem in left_out))
    for name, target in (extra or {}).items():
        plugins.add(Plugin(status=PluginStatus(name=name), target=target))
    return plugins


def _is_core(point: metadata.EntryPoint) -> bool:
    return point.name == "core" and point.module.partition(".")[0] == "clonk_core"


def describe(error: BaseException) -> str:
    """Name an exception in one line, without a traceback."""
    if isinstance(error, ActivationError):
        return str(error)
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:500]}" if text else type(error).__name__


def _from_entry_point(point: metadata.EntryPoint, disabled: bool) -> Plugin:
    plugin = Plugin(status=PluginStatus(name=point.name, state="disabled" if disabled else "loaded"))
    try:
        if point.dist is not None:
            plugin.note(package=point.dist.name, version=point.dist.version)
    except Exception:  # noqa: BLE001 - an installation that was cut off has no name and version
        plugin.fail("its installation is damaged; install it again")
    if plugin.status.state != "loaded":
        return plugin
    try:
        _check_core_version(point.dist)
        with plugin_boundary():
            plugin.target = point.load()
    except PluginError as error:
        plugin.fail(str(error))
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything when it is imported
        plugin.fail(f"it cannot be imported: {describe(error)}")
    return plugin


def _check_core_version(distribution: metadata.Distribution | None) -> None:
    """Refuse a package that asks for another core.

    Raises:
        PluginError: Its requirement on clonk-core excludes the installed version.
    """
    installed = metadata.version(CORE)
    for text in (distribution.requires or []) if distribution else []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name == CORE and not requirement.specifier.contains(installed, prereleases=True):
            raise PluginError(f"it needs {CORE}{requirement.specifier}, but {installed} is installed")


def _from_file(path: Path, disabled: bool) -> Plugin:
    plugin = Plugin(status=PluginStatus(name=path.stem, state="disabled" if disabled else "loaded"))
    if disabled:
        return plugin
    try:
        with plugin_boundary():
            plugin.target = import_plugin_file(path)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything when it is imported
        plugin.fail(f"it cannot be imported: {describe(error)}")
    return plugin


def specs_of(given: object) -> dict[str, Callable[..., Any]]:
    """Return the functions of a module or an object that are marked as hooks, by name."""
    found = ((name, getattr(given, name)) for name in dir(given) if not name.startswith("_"))
    return {name: one for name, one in found if callable(one) and hasattr(one, f"{hookspecs.PROJECT}_spec")}


def _named(value: object) -> str:
    return f"a {type(value).__name__}"


def _trace_before(hook: str, implementations: Any, arguments: Mapping[str, Any]) -> None:
    shown = ", ".join(f"{name}={value!r:.80}" for name, value in arguments.items())
    names = ", ".join(implementation.plugin_name for implementation in implementations)
    sys.stderr.write(f"hook {hook}({shown}) -> {names}\n")


def _trace_after(outcome: Any, hook: str, _implementations: Any, _arguments: Mapping[str, Any]) -> None:
    shown = repr(outcome.exception or outcome.get_result())
    sys.stderr.write(f"hook {hook} = {shown:.200}\n")
