"""What this package gives to Clonk. Nothing heavy is imported before it is needed."""

from collections.abc import Sequence
from typing import Any

from clonk_core.plugin import Activation, Check, Command, Host, hookimpl


@hookimpl
def clonk_activations(host: Host) -> Sequence[Activation]:
    """Return the activation `claudecode`."""
    from clonk_claudecode.activation import ClaudeCode

    return [ClaudeCode(host)]


@hookimpl
def clonk_settings() -> type[Any]:
    """Return the class of the section `claudecode`."""
    from clonk_claudecode.settings import ClaudeCodeSettings

    return ClaudeCodeSettings


@hookimpl
def clonk_commands() -> Sequence[Command]:
    """Return the commands `chat`, `demo`, `export` and `import`."""
    from clonk_claudecode.commands import commands

    return commands()


@hookimpl
def clonk_checks(settings: Any, secret: Any, setting_origin: Any) -> Sequence[Check]:
    """Return what `clonk doctor` looks at: the binary and the credential."""
    from clonk_claudecode.checks import checks

    return checks(settings, secret=secret, origin=setting_origin)
