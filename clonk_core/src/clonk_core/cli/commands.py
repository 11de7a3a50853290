"""The list of commands, and the overview that `clonk --help` prints.

It is written out here instead of by cyclopts because that, with rich, costs a quarter of a second.
"""

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from clonk_core.cli.main import complain

if TYPE_CHECKING:
    from clonk_core.plugin import Command

INTRODUCTION: Final = "Claude Code sessions, and whatever else is installed as a plugin, as a service."


@attrs.frozen
class CoreCommand:
    """One command of the core's.

    Attributes:
        path: Where its function is, imported when it is used.
        text: What it does, for lists.
        group_text: What its group does, for `config check` and the like.
        hidden: Left out of lists.
    """

    path: str
    text: str
    group_text: str = ""
    hidden: bool = False


_KEYS: Final = "Make, list and take back API keys."

_CONFIG: Final = "Check the configuration, or show what is in effect."
_SECRETS: Final = "Keep credentials encrypted in the data directory."
_AUDIT: Final = "Read the audit log, or check that nobody has changed it."

CORE_COMMANDS: Final = {
    "serve": CoreCommand("clonk_core.cli.serve:serve", "Run the server until it is told to stop."),
    "stdio": CoreCommand("clonk_core.cli.stdio:stdio", "Serve the program that started this one, over its pipes."),
    "call": CoreCommand("clonk_core.cli.call:call", "Call a method of the running server."),
    "methods": CoreCommand("clonk_core.cli.methods:methods", "List the methods that can be called."),
    "schema": CoreCommand("clonk_core.cli.schema:schema", "Print the schema of a method, a namespace, or everything."),
    "plugins": CoreCommand("clonk_core.cli.plugins:plugins", "List the installed plugins and how they fare."),
    "keys create": CoreCommand("clonk_core.cli.keys:create", "Make an API key and print it, this once.", _KEYS),
    "keys list": CoreCommand("clonk_core.cli.keys:list_", "List the keys.", _KEYS),
    "keys show": CoreCommand("clonk_core.cli.keys:show", "Print what is known of one key.", _KEYS),
    "keys revoke": CoreCommand("clonk_core.cli.keys:revoke", "Take a key back for good.", _KEYS),
    "keys rotate": CoreCommand("clonk_core.cli.keys:rotate", "Give a key a new secret and print it, this once.", _KEYS),
    "keys hash": CoreCommand("clonk_core.cli.keys:hash_", "Print the hash of a key for clonk.yaml.", _KEYS),
    "config check": CoreCommand("clonk_core.cli.config:check", "Check the configuration, starting nothing.", _CONFIG),
    "config show": CoreCommand("clonk_core.cli.config:show", "Print what is in effect, and why.", _CONFIG),
    "secrets set": CoreCommand("clonk_core.cli.secrets:set_", "Keep a secret, read from standard input.", _SECRETS),
    "secrets list": CoreCommand("clonk_core.cli.secrets:list_", "List the secrets, never their values.", _SECRETS),
    "secrets delete": CoreCommand("clonk_core.cli.secrets:delete", "Delete a secret.", _SECRETS),
    "secrets rotate": CoreCommand("clonk_core.cli.secrets:rotate", "Encrypt every secret under a new key.", _SECRETS),
    "audit tail": CoreCommand("clonk_core.cli.audit:tail", "Print the newest rows of the audit log.", _AUDIT),
    "audit verify": CoreCommand("clonk_core.cli.audit:verify", "Check that nobody has changed the audit log.", _AUDIT),
    "doctor": CoreCommand("clonk_core.cli.doctor:doctor", "Check that everything is there that Clonk needs."),
}

HIDDEN_COMMANDS: Final = {
    "docs write": CoreCommand(
        "clonk_core.cli.docs:write",
        "Write the generated pages into a folder.",
        "Generated documentation.",
        hidden=True,
    ),
}


def overview() -> str:
    """Return the list of all commands, those of plugins included."""
    rows = {name: command.text for name, command in CORE_COMMANDS.items()}
    rows.update({command.name: _summary(command) for command in plugin_commands()})
    width = max(map(len, rows))
    order = ["demo", *CORE_COMMANDS]
    names = sorted(rows, key=lambda name: (order.index(name) if name in order else len(order), name))
    return "\n".join(
        [
            f"clonk: {INTRODUCTION}",
            "",
            "Usage: clonk <command> [--help]",
            "",
            *(f"  {name:<{width}}  {rows[name]}" for name in names),
            "",
            "Each command explains itself with --help; `clonk --version` prints the version.",
            *(["`clonk demo` shows Clonk at work without an account."] if "demo" in rows else []),
        ]
    )


def plugin_commands() -> "Sequence[Command]":
    """Return the commands that plugins bring; a broken plugin is told on standard error and passed over."""
    from clonk_core.errors import PluginError
    from clonk_core.host.discovery import load_plugins
    from clonk_core.plugin import Command

    disabled, plugins_dir = _plugins_section()
    plugins = load_plugins(disabled=disabled, plugins_dir=plugins_dir)
    found: dict[str, Command] = {}
    for plugin in plugins.loaded:
        try:
            for command in plugins.items(plugin, "clonk_commands", Command):
                _check(command, found)
                found[command.name] = command
        except PluginError as error:
            plugin.fail(str(error))
    for status in plugins.statuses:
        if status.state == "failed":
            complain(f"warning: plugin {status.name}: {status.error}")
    return tuple(found.values())


def _check(command: "Command", found: "dict[str, Command]") -> None:
    """Refuse a command that cannot be called, or whose name is taken or cannot be typed.

    Raises:
        PluginError: It is so.
    """
    from clonk_core.errors import PluginError

    if not callable(command.function):
        raise PluginError(f"its command {command.name!r} has no function")
    if not re.fullmatch("[a-z][a-z0-9-]*", command.name):
        raise PluginError(f"its command {command.name!r} must be named in lower-case letters, digits and `-`")
    taken = {name.partition(" ")[0] for name in (*CORE_COMMANDS, *HIDDEN_COMMANDS)} | set(found)
    if command.name in taken:
        raise PluginError(f"its command {command.name!r} has a name that is taken")


def _plugins_section() -> tuple[Sequence[str], Path | None]:
    """Return which plugins are disabled and where single files are; YAML is loaded only where it could be set."""
    from clonk_core.config.places import find_config

    environ = os.environ
    if find_config(environ, Path.cwd()) is None and not any(name.startswith("CLONK_PLUGINS") for name in environ):
        return (), None
    from clonk_core.config.load import load_plugins_section
    from clonk_core.errors import ConfigError

    try:
        section = load_plugins_section(None, environ, {})
    except ConfigError:
        # The command itself will say so, when it needs the configuration.
        return (), None
    return section.disabled, section.dir


def _summary(command: "Command") -> str:
    """Return the first line of a command's help."""
    lines = (inspect.getdoc(command.function) or "").splitlines()
    return lines[0] if lines else ""
