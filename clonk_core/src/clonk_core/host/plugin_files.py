"""Single-file plugins: found in a folder, imported under names of their own, and given hooks when they have none."""

import importlib.util
import inspect
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from clonk_core import hookspecs
from clonk_core.errors import PluginError
from clonk_core.interfaces.host import Host
from clonk_core.plugin import Activation

_numbers = itertools.count()
"""Makes names of modules unique, so that two hosts in one process do not share one."""


def plugin_files(folder: Path | None) -> list[Path]:
    """Return the single-file plugins of a folder: `*.py`, those that begin with `_` apart."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def import_plugin_file(path: Path) -> ModuleType:
    """Import a single-file plugin and return it, with hooks.

    Raises:
        PluginError: It offers nothing.
        Exception: Whatever it raises itself.
    """
    name = f"clonk_plugin_{path.stem}_{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # type hints of its classes are looked up there
    try:
        spec.loader.exec_module(module)
        if not _has_hooks(module):
            _offer_activations(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def make_activation(make: Callable[..., Activation], host: Host) -> Activation:
    """Return a new activation; its class, or a function that makes it, gets the `Host` when it takes an argument."""
    return make(host) if inspect.signature(make).parameters else make()


def _has_hooks(module: ModuleType) -> bool:
    marker = f"{hookspecs.PROJECT}_impl"
    return any(hasattr(member, marker) for member in vars(module).values())


def _offer_activations(module: ModuleType) -> None:
    """Give a quick file without hooks one that offers every activation it defines, bases and children apart."""
    defined = [
        member
        for member in dict.fromkeys(filter(inspect.isclass, vars(module).values()))
        if issubclass(member, Activation) and member.__module__ == module.__name__ and hasattr(member, "namespace")
    ]
    names = {one.namespace for one in defined}
    # A child is offered by its parent.
    classes = [one for one in defined if one.namespace.rpartition(".")[0] not in names]
    if not classes:
        raise PluginError("it has neither hooks nor an Activation")

    def clonk_activations(host: Host) -> list[Activation]:
        return [make_activation(one, host) for one in classes]

    module.clonk_activations = hookspecs.hookimpl(clonk_activations)  # type: ignore[attr-defined]
