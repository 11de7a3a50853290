"""The program's commands: the core's, imported when they are used, and those that plugins bring."""

import importlib

from cyclopts import App, CycloptsError, Parameter

from clonk_core.cli.commands import CORE_COMMANDS, HIDDEN_COMMANDS, INTRODUCTION, plugin_commands
from clonk_core.cli.exit_codes import OK, USAGE
from clonk_core.cli.main import complain


def run(tokens: list[str]) -> int:
    """Run one command line and return its exit code."""
    program = build(plugins=_needs_plugins(tokens))
    try:
        code = program(tokens, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        complain(_sentence(error))
        return USAGE
    return code if isinstance(code, int) else OK


def build(*, plugins: bool) -> App:
    """Return the program.

    Args:
        plugins: Whether to load plugins for the commands they bring.
    """
    program = App(
        name="clonk",
        help=INTRODUCTION,
        help_format="markdown",
        version_flags=(),
        # `--create` needs no `--no-create`.
        default_parameter=Parameter(negative=()),
        backend="trio",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    groups: dict[str, App] = {}
    for name, command in {**CORE_COMMANDS, **HIDDEN_COMMANDS}.items():
        group, _, last = name.rpartition(" ")
        if not group:
            program.command(command.path, name=name)
            continue
        if group not in groups:
            groups[group] = App(name=group, help=command.group_text, help_format="markdown", show=not command.hidden)
            program.command(groups[group])
        # Imported now: a group's list shows what each does. These modules import the host only when they run.
        module, _, function = command.path.partition(":")
        groups[group].command(getattr(importlib.import_module(module), function), name=last)
    if plugins:
        for brought in plugin_commands():
            program.command(brought.function, name=brought.name)
    return program


def _needs_plugins(tokens: list[str]) -> bool:
    """Tell whether plugins must be loaded: for what is no command of the core's."""
    own = {name.partition(" ")[0] for name in (*CORE_COMMANDS, *HIDDEN_COMMANDS)}
    return not tokens or tokens[0] not in own


def _sentence(error: CycloptsError) -> str:
    """Return the error as a sentence, with where to look."""
    text, _, _some_commands = " ".join(str(error).split()).partition(" Available commands:")
    text = text[:1].lower() + text[1:].rstrip(".")
    command = " ".join(("clonk", *(error.command_chain or ())))
    return f"{text} See `{command} --help`" if text.endswith("?") else f"{text}; see `{command} --help`"
