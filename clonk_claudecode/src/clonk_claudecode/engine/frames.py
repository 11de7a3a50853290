"""The binary's stream-json protocol: bytes to lines, lines to frames, frames to bytes. No I/O here."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson

Frame: TypeAlias = dict[str, Any]
"""One JSON object of the protocol, as the binary wrote it."""

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]
"""What is said to Claude: a text, or content blocks as the API takes them."""

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""The last line of a turn repeats its whole text, and a tool's result can hold a large file."""

MAX_GARBAGE_LINES: Final = 100
MAX_GARBAGE_BYTES: Final = 1024 * 1024
"""A library of the binary may print a stray line; more than this much is no Claude Code."""


class LineTooLong(Exception):
    """No newline within `MAX_LINE_BYTES`."""


class NotAFrame(Exception):
    """A line that is no JSON object with a `type`."""


class TooMuchGarbage(Exception):
    """So many lines that are no frames that this cannot be Claude Code; the text is the beginning of the last."""


class LineSplitter:
    """Chunks in, whole lines out. A long line costs one copy in the end, not one for each chunk."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._parts: list[bytes] = []
        self._held_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes, without their newlines and without empty ones.

        Raises:
            LineTooLong: The line under way has passed the limit.
        """
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._parts:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts.clear()
            self._held_bytes = 0
        if rest:
            self._parts.append(rest)
            self._held_bytes += len(rest)
        if self._held_bytes > self._max_line_bytes:
            raise LineTooLong
        return [line for line in lines if line]

    def rest(self) -> bytes:
        """Return what came after the last newline and forget it."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._held_bytes = 0
        return rest


def parse_frame(line: bytes) -> Frame:
    """Parse one line. Half a surrogate pair becomes U+FFFD.

    Raises:
        NotAFrame: No JSON object, or one without a `type`.
    """
    try:
        try:
            frame = orjson.loads(line)
        except orjson.JSONDecodeError:
            if b"\\ud" not in line.lower():
                raise
            frame = orjson.loads(_with_whole_characters(line))
    except (ValueError, RecursionError) as error:
        raise NotAFrame(str(error)) from error
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise NotAFrame("no object with a type")
    return frame


def _with_whole_characters(line: bytes) -> bytes:
    """Replace lone surrogates, which strict parsers refuse.

    The binary is JavaScript: where it cuts a long text it can cut a character in two, and a frame that is dropped for
    that may be the one that ends the turn.
    """
    text = json.dumps(json.loads(line), ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def member(frame: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object within a frame; an empty one where there is none, or something else."""
    value = frame.get(name)
    return value if isinstance(value, dict) else {}


class FrameParser:
    """Parses the lines of one process and tolerates some garbage."""

    def __init__(self) -> None:
        self._garbage_lines = 0
        self._garbage_bytes = 0

    def parse(self, line: bytes) -> Frame | None:
        """Return the frame; None for garbage.

        Raises:
            TooMuchGarbage: More than `MAX_GARBAGE_LINES` or `MAX_GARBAGE_BYTES` of it so far.
        """
        try:
            return parse_frame(line)
        except NotAFrame as error:
            self._garbage_lines += 1
            self._garbage_bytes += len(line)
            if self._garbage_lines > MAX_GARBAGE_LINES or self._garbage_bytes > MAX_GARBAGE_BYTES:
                raise TooMuchGarbage(line[:80].decode(errors="replace")) from error
            return None


def user_frame(prompt: Prompt, uuid: str) -> bytes:
    """Say something to Claude.

    Args:
        prompt: The text or the blocks, taken as they are: `client_composed` stops `@file` and `/command` expansion
            (from 2.1.248).
        uuid: Becomes the uuid of the transcript's entry.
    """
    return _line(
        {
            "type": "user",
            "uuid": uuid,
            "message": {"role": "user", "content": prompt},
            "parent_tool_use_id": None,
            "client_composed": True,
        }
    )


def control_request(request_id: str, request: Mapping[str, Any]) -> bytes:
    """Ask the binary for something (`initialize`, `interrupt`, ...); it answers with a `control_response`."""
    return _line({"type": "control_request", "request_id": request_id, "request": dict(request)})


def control_answer(request_id: str, response: Mapping[str, Any]) -> bytes:
    """Answer a control request of the binary's."""
    return _line(
        {
            "type": "control_response",
            "response": {"subtype": "success", "request_id": request_id, "response": dict(response)},
        }
    )


def control_refusal(request_id: str, message: str) -> bytes:
    """Tell the binary that its control request cannot be served."""
    return _line(
        {"type": "control_response", "response": {"subtype": "error", "request_id": request_id, "error": message}}
    )


def _line(frame: Mapping[str, Any]) -> bytes:
    return orjson.dumps(frame) + b"\n"
