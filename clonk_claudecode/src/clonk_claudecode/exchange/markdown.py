"""A session's messages as Markdown, for people. No I/O here."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clonk_claudecode.messages import HistoryMessage, StoredSession

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def markdown_head(session: StoredSession) -> str:
    """Return the title, and what the session is."""
    lines = [
        f"# {session.name}",
        "",
        f"- Session: {_code(session.id)}",
        f"- Claude Code's id: {_code(session.claude_session_id)}",
        f"- Model: {_code(session.model)}",
        f"- Working directory: {_code(session.working_dir)}",
        f"- Created: {session.created_at:%Y-%m-%d %H:%M:%S} UTC",
    ]
    if session.system_prompt:
        lines += ["", "Added to the system prompt:", "", _fenced(session.system_prompt)]
    return "\n".join(lines) + "\n"


def markdown_message(message: HistoryMessage) -> str:
    """Return one message, with a heading."""
    blocks = [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content
    blocks = [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, Iterable) else []
    results_only = bool(blocks) and all(block.get("type") == "tool_result" for block in blocks)
    who = "Claude" if message.role == "assistant" else "Tool result" if results_only else "User"
    parts = [f"## {message.seq}. {who} ({message.created_at:%Y-%m-%d %H:%M:%S} UTC)"]
    parts += [part for block in blocks for part in _block(block)]
    if message.partial:
        parts.append("*(cut off there when the server ended)*")
    return "\n" + "\n\n".join(parts) + "\n"


def _block(block: Mapping[str, Any]) -> Iterator[str]:
    match block.get("type"):
        case "text":
            yield _clean(str(block.get("text", "")))
        case "thinking":
            text = _clean(str(block.get("thinking", "")))
            if text:
                yield "\n".join(f"> {line}".rstrip() for line in text.splitlines())
        case "tool_use":
            yield f"**Tool:** {_code(str(block.get('name', '')))}"
            yield _fenced(json.dumps(block.get("input"), indent=2, ensure_ascii=False), "json")
        case "tool_result":
            if block.get("is_error"):
                yield "**Error:**"
            yield from _result(block.get("content"))
        case "image" | "document" as kind:
            yield f"*({kind})*"
        case _:
            yield _fenced(json.dumps(block, indent=2, ensure_ascii=False), "json")


def _result(content: object) -> Iterator[str]:
    if not isinstance(content, list):
        yield _fenced("" if content is None else str(content))
        return
    for part in content:
        if isinstance(part, dict) and part.get("type") == "text":
            yield _fenced(str(part.get("text", "")))
        elif isinstance(part, dict):
            yield from _block(part)


def _fenced(text: str, language: str = "") -> str:
    """Return text between fences that are longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{_clean(text)}\n{fence}"


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{_clean(text)}{space}{fence}".replace("\n", " ")


def _clean(text: str) -> str:
    """Return text without what a terminal would obey; a tool may have printed it."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
