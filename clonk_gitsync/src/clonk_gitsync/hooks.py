"""What clonk-gitsync gives to Clonk: the target of its entry point, hook implementations only."""

from collections.abc import Sequence

from clonk_core.plugin import Activation, Host, hookimpl


@hookimpl
def clonk_activations(host: Host) -> Sequence[Activation]:
    """Return the `gitsync` activation."""
    from clonk_gitsync.activation import GitSync

    return [GitSync(host)]
