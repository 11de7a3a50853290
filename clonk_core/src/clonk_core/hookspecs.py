"""Every hook the host calls. All are plain functions: they declare, activations run.

A hook may take fewer arguments than are offered (pluggy passes what is named). `CLONK_TRACE_HOOKS=1` prints each call
with its results on standard error.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from clonk_core.interfaces.host import CredentialCheck, Handler, Host, SettingOrigin

if TYPE_CHECKING:
    from clonk_core.plugin import Activation, Check, Command

PROJECT = "clonk"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def clonk_activations(host: Host) -> "Sequence[Activation]":  # type: ignore[empty-body]
    """Return a list of new activations. Called once per tenant's realm, before databases are opened.

    What is wrong with one of them (a name that is taken, a signature without a schema) leaves the whole package out.

    Args:
        host: What the host gives to this package in this realm. Databases are asked for now, and used later.
    """


@hookspec
def clonk_settings() -> type[Any]:  # type: ignore[empty-body]
    """Return the frozen attrs class of the package's section in `clonk.yaml`.

    The section has the entry point's name. Every attribute needs a default; units belong into the names. Allowed are
    bool, int, float, str, Path, datetime, Literal, enums, tuples, lists and mappings of these, unions, further attrs
    classes for sections inside, and `Annotated` with bounds. An instance is `host.settings`.
    """


@hookspec
def clonk_subscriptions(host: Host) -> Mapping[type[Any] | str, Handler]:  # type: ignore[empty-body]
    """Return async handlers for events of other packages, by event.

    The key is the event's class, or its `name` (`"claudecode.turn_ended"`) so that nothing need be imported: such a
    handler gets the event as JSON values. Whoever emits waits for the handlers; one that fails, or takes longer than
    30 s, is recorded and harms nobody.

    Args:
        host: As for `clonk_activations`, and asked after it.
    """


@hookspec
def clonk_credentials(host: Host) -> "Sequence[CredentialCheck]":  # type: ignore[empty-body]
    """Return a list of functions that tell whose credential it is: `async def check(credential) -> Identity | None`.

    Each is asked about a bearer credential (1 to 16384 characters) that is no API key of Clonk's and no good token of
    `auth.jwt`, for each HTTP request and once for each WebSocket connection, and answers None for one that it does not
    know. It has 10 s, 50 are asked at the same time, and what strangers show is asked about too: remember answers where
    asking costs much. When one raises, and no other knows the credential, the caller is answered with `unavailable`.

    Whoever is recognised belongs to the realm's tenant, may do what its scopes say, and has `auth.rate_limit`. Not
    asked while `auth.enabled` is false.

    Args:
        host: As for `clonk_activations`, and asked after it.
    """


@hookspec
def clonk_commands() -> "Sequence[Command]":  # type: ignore[empty-body]
    """Return a list of `Command` for the command line. No host is open: a command calls a server, or needs none."""


@hookspec
def clonk_checks(  # type: ignore[empty-body]
    settings: Any,
    secret: Callable[[str], Awaitable[str | None]],
    setting_origin: Callable[[str], SettingOrigin],
) -> "Sequence[Check]":
    """Return a list of `Check` for `clonk doctor`, each with 30 s to find out. No host is open.

    Args:
        settings: The package's own section of the configuration.
        secret: As `Host.secret`: reads a stored secret, for a check to use and not to show.
        setting_origin: As `Host.setting_origin`: tells where a setting came from.
    """


@hookspec
def clonk_hookspecs() -> object:
    """Return a module with hooks of the package's own, which other packages implement for it.

    They are functions marked with `clonk_core.plugin.hookspec`, documented like these, with names that begin with the
    entry point's name: `gitsync_forges`. Who implements one marks it with `hookimpl` and need import nothing of the
    package that asks; where that is not installed, nobody asks. The package asks with `host.ask`.
    """
