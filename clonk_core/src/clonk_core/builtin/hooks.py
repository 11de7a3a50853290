"""What the core itself gives to Clonk."""

from collections.abc import Sequence

from clonk_core.plugin import Activation, Host, hookimpl


@hookimpl
def clonk_activations(host: Host) -> Sequence[Activation]:
    """Return the activations that every host has."""
    from clonk_core.builtin.audit import Audit
    from clonk_core.builtin.auth import Auth
    from clonk_core.builtin.health import Health
    from clonk_core.builtin.hub import HubActivation
    from clonk_core.builtin.keys import Keys
    from clonk_core.builtin.rpc import Rpc

    return [
        Rpc(host.hub),
        Auth(host.hub),
        Keys(host.hub),
        HubActivation(host.hub),
        Health(host.hub),
        Audit(host.hub),
    ]
