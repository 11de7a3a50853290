"""How a turn looks in a terminal: the events of `claudecode.chat` as lines of text. No connection here."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from clonk_claudecode.terminal.permissions import resolved_text

SHOWN_LINES: Final = 6
"""Of a tool's input or result; the whole is in the session's history."""

SHOWN_WIDTH: Final = 160
"""Characters of one such line."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What could move the cursor, change colours or set the window's title: all control characters but tab and newline."""

_TELLING: Final = ("command", "file_path", "path", "notebook_path", "pattern", "url", "query", "description", "prompt")
"""Which of a tool's arguments says best what it does, best first."""


def printable(text: str) -> str:
    """Return the text without control characters: a model or a file must not steer the user's terminal."""
    return _CONTROL.sub("", text)


class TurnView:
    """Shows one turn, event by event.

    Attributes:
        done: The turn's last event, None before it came.
    """

    def __init__(self, answer: Console, notes: Console) -> None:
        """Show a turn.

        Args:
            answer: Where Claude's own text goes.
            notes: Where everything else goes: tools, errors, tokens. The same object, when both are one terminal.
        """
        self._answer = answer
        self._notes = notes
        self._open: Console | None = None
        self._open_style = ""
        self._streamed = False
        self._tools: dict[str, str] = {}
        self.done: Mapping[str, Any] | None = None

    def event(self, event: Mapping[str, Any]) -> None:
        """Show one event; kinds that this version does not know are left out."""
        match event.get("type"):
            case "text_delta":
                self._streamed = True
                self._write(self._answer, event["text"])
            case "thinking_delta":
                if self._notes.is_terminal:
                    self._write(self._notes, event["text"], style="dim italic")
            case "assistant_message":
                self._message(event["content"])
            case "restart":
                self._streamed = False
                self._line(Text("the answer was cut off and begins anew", style="yellow"))
            case "tool_use":
                self._tool_use(event)
            case "tool_result":
                self._tool_result(event)
            case "done":
                self.end_line()
                self.done = event
                self._done(event)
            case _:
                self._aside(event)

    def _aside(self, event: Mapping[str, Any]) -> None:
        """Show what is neither said nor done by Claude."""
        match event.get("type"):
            case "permission_resolved":
                self._line(Text(printable(resolved_text(event)), style="yellow"))
            case "queued":
                self._queued(event["position"])
            case "retrying":
                self._retrying(event)
            case "gap":
                count = event["to"] - event["from"] + 1
                self._line(Text(f"{count} older events are no longer kept", style="yellow"))

    def _queued(self, position: int) -> None:
        before = "one more" if position == 1 else f"{position} more"
        self._line(Text(f"waiting for the session to answer {before}", style="dim"))

    def end_line(self) -> None:
        """End the line that is being written, if there is one."""
        if self._open is not None:
            # Not by rich: for a reader that has left, it would end the program by itself.
            self._open.file.write("\n")
            self._open.file.flush()
            self._open = None

    def note(self, text: str, style: str = "dim") -> None:
        """Say something that is not Claude's."""
        self._line(Text(printable(text), style=style))

    def prompt(self, text: str) -> None:
        """Show what is asked, on a line of its own that the person goes on with."""
        self.end_line()
        self._notes.file.write(text)
        self._notes.file.flush()

    def _write(self, console: Console, text: str, style: str = "") -> None:
        """Go on writing a line of this kind, or begin one."""
        if self._open is not None and (self._open is not console or self._open_style != style):
            self.end_line()
        self._open, self._open_style = console, style
        if style:
            console.print(Text(printable(text), style=style), end="", soft_wrap=True)
            return
        # As it is: rich would turn tabs into blanks, which code in a pipe cannot bear.
        console.file.write(printable(text))
        console.file.flush()

    def _line(self, text: Text) -> None:
        self.end_line()
        self._notes.print(text, soft_wrap=True)

    def _message(self, content: str) -> None:
        """Show a message that did not come as deltas; end the line of one that did."""
        if not self._streamed:
            self._write(self._answer, content)
        self._streamed = False
        self.end_line()

    def _tool_use(self, event: Mapping[str, Any]) -> None:
        self._streamed = False
        self._tools[event["tool_use_id"]] = event["tool"]
        line = Text("● ", style="cyan")
        line.append(printable(event["tool"]), style="bold")
        line.append("  " + _one_line(tool_summary(event["input"])), style="default")
        self._line(line)
        for text in tool_preview(event["input"]):
            self._line(text)

    def _tool_result(self, event: Mapping[str, Any]) -> None:
        style = "red" if event.get("is_error") else "dim"
        for line in _excerpt(result_text(event["content"])):
            self._line(Text("  │ " + line, style=style))

    def _retrying(self, event: Mapping[str, Any]) -> None:
        status = event.get("status")
        why = f"answered {status}" if status else "did not answer"
        pause = event.get("delay_s", 0)
        self._line(Text(f"the model {why}; try {event['attempt'] + 1} in {pause:.1f} s", style="yellow"))

    def _done(self, event: Mapping[str, Any]) -> None:
        if event.get("output") is not None:
            self._write(self._answer, json.dumps(event["output"], ensure_ascii=False))
            self.end_line()
        error = event.get("error")
        if error is not None and event["outcome"] != "cancelled":
            self._line(Text(f"{event['outcome']}: {printable(str(error['message']))}", style="bold red"))
        elif event["outcome"] != "complete":
            self._line(Text(str(event["outcome"]), style="yellow"))


def tool_summary(tool_input: Mapping[str, Any]) -> str:
    """Return what a tool is used for in a few words: its most telling argument."""
    for name in _TELLING:
        value = tool_input.get(name)
        if isinstance(value, str) and value:
            return value
    return json.dumps(tool_input, ensure_ascii=False) if tool_input else ""


def tool_preview(tool_input: Mapping[str, Any]) -> list[Text]:
    """Return the lines that a tool writes or changes, the first few of them."""
    old, new = tool_input.get("old_string"), tool_input.get("new_string", tool_input.get("content"))
    lines = []
    if isinstance(old, str) and old:
        lines += [Text("  - " + line, style="red") for line in _excerpt(old)]
    if isinstance(new, str) and new:
        lines += [Text("  + " + line, style="green") for line in _excerpt(new)]
    return lines


def result_text(content: Any) -> str:
    """Return a tool's result as text; what is no text is named in brackets."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return json.dumps(content, ensure_ascii=False)
    parts = []
    for block in content:
        if isinstance(block, Mapping):
            parts.append(str(block["text"]) if "text" in block else f"[{block.get('type', 'something')}]")
        else:
            parts.append(str(block))
    return "\n".join(parts)


def tokens_text(usage: Any) -> str:
    """Return the tokens of a turn in words; empty when they are not known."""
    if not isinstance(usage, Mapping):
        return ""
    cached = usage.get("cache_read_input_tokens", 0)
    read = usage.get("input_tokens", 0) + usage.get("cache_creation_input_tokens", 0) + cached
    cache = f" ({cached:,} from the cache)" if cached else ""
    return f"{read:,} tokens in{cache}, {usage.get('output_tokens', 0):,} out"


def message_texts(content: Any) -> Iterable[tuple[str, str]]:
    """Return a message of the history as pairs of a kind (`text`, `tool_use`, `tool_result`) and its text."""
    if isinstance(content, str):
        yield "text", content
        return
    for block in content if isinstance(content, list) else ():
        match block.get("type"):
            case "text":
                yield "text", block.get("text", "")
            case "image_file" | "text_file":
                yield "text", f"[{block.get('name') or 'an image'}, {block.get('media_type')}]"
            case "tool_use":
                yield "tool_use", f"{block.get('name', '')}  {tool_summary(block.get('input') or {})}"
            case "tool_result":
                yield "tool_result", result_text(block.get("content", ""))


def _one_line(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= SHOWN_WIDTH else line[: SHOWN_WIDTH - 1] + "…"


def _excerpt(text: str) -> list[str]:
    """Return the first lines of a text, cut to width, and how many more there are."""
    lines = printable(text).rstrip("\n").split("\n")
    shown = [line if len(line) <= SHOWN_WIDTH else line[: SHOWN_WIDTH - 1] + "…" for line in lines[:SHOWN_LINES]]
    if len(lines) > SHOWN_LINES:
        shown.append(f"… {len(lines) - SHOWN_LINES} more lines")
    return shown
