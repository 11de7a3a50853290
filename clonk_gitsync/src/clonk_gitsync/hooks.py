"""What clonk-gitsync gives to Clonk: the target of its entry point, hook implementations only."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from clonk_core.plugin import Activation, Check, Host, hookimpl


@hookimpl
def clonk_activations(host: Host) -> Sequence[Activation]:
    """Return the `gitsync` activation."""
    from clonk_gitsync.activation import GitSync

    return [GitSync(host)]


@hookimpl
def clonk_settings() -> type[Any]:
    """Return the class of the section `gitsync`."""
    from clonk_gitsync.settings import GitSyncSettings

    return GitSyncSettings


@hookimpl
def clonk_subscriptions(host: Host) -> Mapping[str, Callable[[Any], Awaitable[None]]]:
    """Return what commits a chat's work when it has ended."""
    from clonk_gitsync.automatic import TURN_ENDED, AfterTurns

    return {TURN_ENDED: AfterTurns(host).turn_ended}


@hookimpl
def clonk_hookspecs() -> object:
    """Return the hooks by which other packages add to this one."""
    from clonk_gitsync.forges import hooks

    return hooks


@hookimpl
def clonk_checks(settings: Any, secret: Any) -> Sequence[Check]:
    """Return what `clonk doctor` looks at: git, the programs beside it, and the secrets."""
    from clonk_gitsync.checks import checks

    return checks(settings, secret=secret)
