"""What commands print: JSON for people and programs, events as they come, aligned columns."""

import sys
from collections.abc import Sequence
from typing import Any

import orjson


def print_json(value: Any, *, compact: bool) -> None:
    """Print a JSON value: on one line for programs, indented for people."""
    options = 0 if compact else orjson.OPT_INDENT_2
    _write(orjson.dumps(value, option=options).decode() + "\n")


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns aligned; the last column runs on."""
    if not rows:
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        _write("  ".join([*cells, row[-1]]).rstrip() + "\n")


class EventPrinter:
    """Prints the events of a stream as they come.

    For people: pieces of text (`..._delta` with a `text`) run on as they would be read; any other event is one line,
    its type first. For programs: one JSON object a line, `{"subscription", "seq", "result"}`.
    """

    def __init__(self, subscription: str, *, json: bool) -> None:
        self._subscription = subscription
        self._json = json
        self._kind_of_text: str | None = None
        self._text: list[str] = []

    def print(self, seq: int, event: Any) -> None:
        """Print one event."""
        if self._json:
            print_json({"subscription": self._subscription, "seq": seq, "result": event}, compact=True)
            return
        kind = event.get("type") if isinstance(event, dict) else None
        if isinstance(kind, str) and kind.endswith("_delta") and isinstance(event.get("text"), str):
            if kind != self._kind_of_text:
                self.end_text()
                self._kind_of_text = kind
            self._text.append(event["text"])
            _write(event["text"])
            return
        told = "".join(self._text)
        self.end_text()
        if told and isinstance(event, dict) and told in event.values():
            # The whole of what was just read piece by piece.
            return
        if not isinstance(kind, str):
            print_json(event, compact=True)
            return
        rest = {name: value for name, value in event.items() if name != "type"}
        _write(f"[{kind}] {orjson.dumps(rest).decode()}\n" if rest else f"[{kind}]\n")

    def end_text(self) -> None:
        """End the line of running text, if there is one."""
        if self._kind_of_text is not None:
            self._kind_of_text = None
            self._text.clear()
            _write("\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    # As it comes, also into a pipe.
    sys.stdout.flush()
