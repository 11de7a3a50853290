"""What `clonk demo` prints: steps, the commands that do the same by hand, and what was checked."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from clonk_claudecode.terminal.screen import TurnView, printable


class DemoFailed(Exception):
    """Something was not as it should be.

    Attributes:
        log: Last lines of the server's log, when it had started.
    """

    def __init__(self, message: str, log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.log = tuple(log)


class Show:
    """Prints the demonstration."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._began = time.monotonic()
        self._step = 0
        self._checks = 0

    def title(self, text: str) -> None:
        """Say what this is."""
        self.console.print(Text(text, style="bold"), soft_wrap=True)

    def step(self, text: str) -> None:
        """Begin the next step."""
        self._step += 1
        self.console.print()
        self.console.print(Text(f"{self._step}  {text}", style="bold cyan"), soft_wrap=True)

    def by_hand(self, command: str) -> None:
        """Print the command that does the same."""
        self.console.print(Text("$ " + command, style="green"), soft_wrap=True)

    def say(self, text: str, style: str = "dim") -> None:
        """Explain something."""
        self.console.print(Text(printable(text), style=style), soft_wrap=True)

    def value(self, value: Any) -> None:
        """Print what the server answered."""
        self.console.print(Text(printable(json.dumps(value, ensure_ascii=False)), style="default"), soft_wrap=True)

    def turn(self) -> TurnView:
        """Return what shows the events of a turn."""
        return TurnView(self.console, self.console)

    def numbers(self, seqs: Sequence[int], style: str) -> None:
        """Print event numbers, as many as fit in a few lines."""
        self.console.print(Text(" ".join(map(str, seqs)), style=style))

    def check(self, what: str, truth: bool, found: object = None) -> None:
        """Print that something is true.

        Raises:
            DemoFailed: It is not.
        """
        if not truth:
            raise DemoFailed(f"not true: {what}" + ("" if found is None else f" (found: {found})"))
        self._checks += 1
        self.console.print(Text.assemble(("✔ ", "bold green"), what), soft_wrap=True)

    def success(self) -> None:
        """Say that all went well."""
        self.console.print()
        spent = time.monotonic() - self._began
        self.console.print(Text(f"Done: {self._checks} checks, all true, in {spent:.1f} s.", style="bold green"))
        self.say("Your own server: `clonk serve`, then `clonk chat first --create` in another terminal.")

    def failure(self, error: DemoFailed) -> None:
        """Say what went wrong, with the end of the server's log."""
        self.console.print()
        if error.log:
            self.say("The end of the server's log:")
            for line in error.log:
                self.say("  " + line)
        self.console.print(Text(f"clonk demo failed: {printable(str(error))}", style="bold red"), soft_wrap=True)


def curl(
    url: str, message: Mapping[str, Any] | None = None, *, headers: Sequence[str] = (), stream: bool = False
) -> str:
    """Return the curl command of a call, or of a GET when there is no message."""
    words = ["curl", "-N" if stream else "-s", url]
    bearer = ["-H", '"Authorization: Bearer $CLONK_API_KEY"']
    for header in headers if message is None else ("Content-Type: application/json", *headers):
        words += ["-H", header]
    if message is not None:
        words += ["-d", json.dumps(message, ensure_ascii=False)]
    quoted = [word if word.startswith("-") else shlex.quote(word) for word in words]
    return " ".join([*quoted[:3], *bearer, *quoted[3:]])
