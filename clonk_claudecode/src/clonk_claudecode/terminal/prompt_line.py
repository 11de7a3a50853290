"""Reading what a person types, with line editing where Python has it."""

from collections.abc import Callable, Sequence
from typing import Final

MARK: Final = "> "
MORE: Final = ". "


def set_up_editing(commands: Sequence[str]) -> None:
    """Turn on line editing, and completion of `commands` with Tab. Nothing happens where Python has no readline."""
    try:
        import readline
    except ImportError:
        return
    readline.set_auto_history(True)
    readline.set_completer_delims(" ")
    readline.set_completer(_completer(commands))
    # macOS brings libedit under the name of readline, which reads another language.
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")


def read_prompt() -> str:
    r"""Read one prompt; a line that ends with a backslash goes on in the next one.

    Raises:
        EOFError: Ctrl-D.
        KeyboardInterrupt: Ctrl-C.
    """
    lines = [input(MARK)]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input(MORE))
    return "\n".join(lines)


def confirm(question: str) -> bool:
    """Ask a question that Enter answers with yes.

    Raises:
        EOFError: Ctrl-D.
        KeyboardInterrupt: Ctrl-C.
    """
    return input(f"{question} [Y/n] ").strip().lower() in {"", "y", "yes"}


def _completer(commands: Sequence[str]) -> Callable[[str, int], str | None]:
    def complete(text: str, state: int) -> str | None:
        """Return the `state`-th completion of `text`, as readline asks for them."""
        fitting = [command for command in commands if text and command.startswith(text)]
        return fitting[state] if state < len(fitting) else None

    return complete
