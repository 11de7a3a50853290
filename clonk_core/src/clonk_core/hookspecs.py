"""Every hook the host calls. All are plain functions: they declare, activations run.

A hook may take fewer arguments than are offered (pluggy passes what is named). `CLONK_TRACE_HOOKS=1` prints each call
with its results on standard error.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from clonk_core.interfaces import Handler, Host

if TYPE_CHECKING:
    from clonk_core.plugin import Activation, Check, Command

PROJECT = "clonk"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def clonk_activations(host: Host) -> "Sequence[Activation]":  # type: ignore[empty-body]
    """Return the package's activations. Called once per tenant's realm, before databases are opened.

    Args:
        host: What the host gives to this package in this realm.
    """


@hookspec
def clonk_settings() -> type[Any]:  # type: ignore[empty-body]
    """Return the frozen attrs class of the package's section in `clonk.yaml`.

    The section has the entry point's name. Every attribute needs a default; units belong into the names.
    """


@hookspec
def clonk_subscriptions(host: Host) -> Mapping[type[Any] | str, Handler]:  # type: ignore[empty-body]
    """Return async handlers for events of other packages.

    The key is the event's class, or its `name` (`"claudecode.turn_ended"`) so that nothing need be imported: such a
    handler gets the event as JSON values.
    """


@hookspec
def clonk_commands() -> "Sequence[Command]":  # type: ignore[empty-body]
    """Return commands for the command line."""


@hookspec
def clonk_checks(settings: Any) -> "Sequence[Check]":  # type: ignore[empty-body]
    """Return checks for `clonk doctor`.

    Args:
        settings: The package's own section of the configuration.
    """
