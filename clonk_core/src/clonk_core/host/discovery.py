"""Finds plugins and loads them one by one, so that a broken one is reported and harms nobody."""

import importlib.util
import inspect
import itertools
import os
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs
import pluggy
from packaging.requirements import InvalidRequirement, Requirement

from clonk_core import hookspecs
from clonk_core.errors import PluginError
from clonk_core.interfaces import PluginStatus
from clonk_core.plugin import Activation

ENTRY_POINTS: Final = "clonk"
CORE: Final = "clonk-core"

_file_numbers = itertools.count()
"""Makes module names of single-file plugins unique, so that two hosts in one process do not share one."""


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
    """The plugins of one host, around one pluggy manager of its own."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.all: list[Plugin] = []
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
        """Take a plugin in; a wrong hook signature marks it as failed."""
        self.all.append(plugin)
        if plugin.target is None:
            return
        try:
            self.manager.register(plugin.target, name=plugin.name)
        except (ValueError, pluggy.PluginValidationError) as error:
            plugin.fail(f"its hooks cannot be registered: {error}")
            # A half-registered plugin would take part in later calls.
            if self.manager.has_plugin(plugin.name):
                self.manager.unregister(name=plugin.name)

    def call(self, plugin: Plugin, hook: str, **arguments: Any) -> Any:
        """Call one hook of one plugin and return its result, None when it has no such hook.

        Raises:
            PluginError: The hook raised, or is async.
        """
        others = [other.target for other in self.all if other is not plugin and other.target is not None]
        caller = self.manager.subset_hook_caller(hook, remove_plugins=others)
        try:
            results = caller(**arguments)
        except Exception as error:
            raise PluginError(f"its hook {hook} raised {describe(error)}") from error
        result = results[0] if results else None
        if inspect.iscoroutine(result):
            result.close()
            raise PluginError(f"its hook {hook} is async; hooks only declare and are plain functions")
        return result


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
    for point in sorted(points, key=lambda point: (point.name != "core", point.name)):
        plugins.add(_from_entry_point(point, point.name in left_out))
    for path in _plugin_files(plugins_dir):
        plugins.add(_from_file(path, path.stem in left_out))
    for name, target in (extra or {}).items():
        plugins.add(Plugin(status=PluginStatus(name=name), target=target))
    return plugins


def describe(error: BaseException) -> str:
    """Name an exception in one line, without a traceback."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:500]}" if text else type(error).__name__


def _from_entry_point(point: metadata.EntryPoint, disabled: bool) -> Plugin:
    distribution = point.dist
    status = PluginStatus(
        name=point.name,
        package=distribution.name if distribution else None,
        version=distribution.version if distribution else None,
    )
    if disabled:
        return Plugin(status=attrs.evolve(status, state="disabled"))
    plugin = Plugin(status=status)
    try:
        _check_core_version(distribution)
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
        name = requirement.name.lower().replace("_", "-")
        if name == CORE and not requirement.specifier.contains(installed, prereleases=True):
            raise PluginError(f"it needs {CORE}{requirement.specifier}, but {installed} is installed")


def _plugin_files(folder: Path | None) -> list[Path]:
    if folder is None or not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _from_file(path: Path, disabled: bool) -> Plugin:
    status = PluginStatus(name=path.stem)
    if disabled:
        return Plugin(status=attrs.evolve(status, state="disabled"))
    plugin = Plugin(status=status)
    name = f"clonk_plugin_{path.stem}_{next(_file_numbers)}"
    try:
        plugin.target = _import_file(name, path)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything when it is imported
        sys.modules.pop(name, None)
        plugin.fail(f"it cannot be imported: {describe(error)}")
    return plugin


def _import_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # type hints of its classes are looked up there
    spec.loader.exec_module(module)
    if not _has_hooks(module):
        _offer_activations(module)
    return module


def _has_hooks(module: ModuleType) -> bool:
    marker = f"{hookspecs.PROJECT}_impl"
    return any(hasattr(member, marker) for member in vars(module).values())


def _offer_activations(module: ModuleType) -> None:
    """Give a quick file without hooks one that offers every activation it defines."""
    classes = [
        member
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, Activation) and member.__module__ == module.__name__
    ]
    if not classes:
        raise PluginError("it has neither hooks nor an Activation")

    def clonk_activations() -> list[Activation]:
        return [one() for one in classes]

    module.clonk_activations = hookspecs.hookimpl(clonk_activations)  # type: ignore[attr-defined]


def _trace_before(hook: str, implementations: Any, arguments: Mapping[str, Any]) -> None:
    shown = ", ".join(f"{name}={value!r:.80}" for name, value in arguments.items())
    names = ", ".join(implementation.plugin_name for implementation in implementations)
    sys.stderr.write(f"hook {hook}({shown}) -> {names}\n")


def _trace_after(outcome: Any, hook: str, _implementations: Any, _arguments: Mapping[str, Any]) -> None:
    shown = repr(outcome.exception or outcome.get_result())
    sys.stderr.write(f"hook {hook} = {shown:.200}\n")
