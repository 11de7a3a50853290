"""What clonk-arbor gives to Clonk: the target of its entry point, hook implementations only."""

from collections.abc import Sequence
from typing import Any

from clonk_core.plugin import Activation, Host, hookimpl


@hookimpl
def clonk_activations(host: Host) -> Sequence[Activation]:
    """Return the `arbor` activation."""
    from clonk_arbor.activation import Arbor

    return [Arbor(host)]


@hookimpl
def clonk_settings() -> type[Any]:
    """Return the class of the section `arbor`."""
    from clonk_arbor.settings import ArborSettings

    return ArborSettings
