"""Turns a scripted reply into the Messages API's events, or into one message object. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from clonk_claudecode.testing.script import Block, LongText, Reply, Sleep, Text, Thinking, ToolUse, Wait

Item = bytes | Sleep | Wait
"""One event, ready to be sent, or what has to be waited for before the next."""

# Any text that a client hands back unread; the real API signs its thinking here.
_SIGNATURE = "c2NyaXB0ZWQ="


def render_events(reply: Reply, model: str, input_tokens: int) -> Iterator[Item]:
    """Yield the events of a streamed reply in order, with pauses and gates where the script has them."""
    yield _event("message_start", {"message": _message(reply, model, input_tokens, content=[], finished=False)})
    yield _event("ping", {})
    index = 0
    opened: str | None = None
    for block in reply.blocks:
        if isinstance(block, Wait | Sleep):
            yield block
            continue
        kind = _kind(block)
        if opened is not None and not (opened == kind == "text"):
            yield _event("content_block_stop", {"index": index})
            index, opened = index + 1, None
        if opened is None:
            yield _event("content_block_start", {"index": index, "content_block": _opening(block)})
            opened = kind
        yield from _deltas(block, index)
    if opened is not None:
        yield _event("content_block_stop", {"index": index})
    delta = {"stop_reason": stop_reason(reply), "stop_sequence": None}
    yield _event("message_delta", {"delta": delta, "usage": _usage(reply, input_tokens, finished=True)})
    yield _event("message_stop", {})


def render_message(reply: Reply, model: str, input_tokens: int) -> dict[str, Any]:
    """Return the same reply as the object of an answer that is not streamed."""
    content: list[dict[str, Any]] = []
    for block in reply.blocks:
        if isinstance(block, Text | LongText):
            if content and content[-1]["type"] == "text":
                content[-1]["text"] += block.text
            else:
                content.append({"type": "text", "text": block.text})
        elif isinstance(block, Thinking):
            content.append({"type": "thinking", "thinking": block.text, "signature": _SIGNATURE})
        elif isinstance(block, ToolUse):
            content.append(_opening(block) | {"input": dict(block.input)})
    return _message(reply, model, input_tokens, content=content, finished=True)


def stop_reason(reply: Reply) -> str:
    """Why the reply ends, worked out when the script does not say."""
    calls_tool = any(isinstance(block, ToolUse) for block in reply.blocks)
    return reply.stop_reason or ("tool_use" if calls_tool else "end_turn")


def _message(reply: Reply, model: str, input_tokens: int, *, content: list[Any], finished: bool) -> dict[str, Any]:
    return {
        # Random, not counted: a client drops a message whose id it has seen, also after this server was restarted.
        "id": f"msg_{uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason(reply) if finished else None,
        "stop_sequence": None,
        "usage": _usage(reply, input_tokens, finished=finished),
    }


def _usage(reply: Reply, input_tokens: int, *, finished: bool) -> dict[str, int]:
    usage = reply.usage
    output = usage.output_tokens
    if output is None:
        output = max(1, sum(map(_length, reply.blocks)) // 4)
    return {
        "input_tokens": input_tokens if usage.input_tokens is None else usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "output_tokens": output if finished else 1,
    }


def _length(block: Block) -> int:
    if isinstance(block, ToolUse):
        return len(json.dumps(dict(block.input)))
    return len(block.text) if isinstance(block, Text | LongText | Thinking) else 0


def _kind(block: Block) -> str:
    return {ToolUse: "tool_use", Thinking: "thinking"}.get(type(block), "text")


def _opening(block: Block) -> dict[str, Any]:
    if isinstance(block, ToolUse):
        return {"type": "tool_use", "id": block.id or f"toolu_{uuid4().hex[:24]}", "name": block.name, "input": {}}
    if isinstance(block, Thinking):
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _deltas(block: Block, index: int) -> Iterator[Item]:
    """Yield the deltas of one block. Written out by hand: 50 000 of them must not wait for `json.dumps` of dicts."""
    kind, key, pieces, delay_s = _pieces(block)
    head = (
        f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{index},'
        f'"delta":{{"type":"{kind}","{key}":'
    )
    for piece in pieces:
        if delay_s:
            yield Sleep(delay_s)
        yield f"{head}{json.dumps(piece)}}}}}\n\n".encode()
    if isinstance(block, Thinking):
        delta = {"type": "signature_delta", "signature": _SIGNATURE}
        yield _event("content_block_delta", {"index": index, "delta": delta})


def _pieces(block: Block) -> tuple[str, str, list[str], float]:
    """Return kind of delta, its key, its values, and the pause before each in seconds."""
    if isinstance(block, ToolUse):
        return "input_json_delta", "partial_json", Text(json.dumps(dict(block.input)), deltas=4).pieces(), 0.0
    if isinstance(block, Thinking):
        text = Text(block.text, deltas=block.deltas)
        return "thinking_delta", "thinking", text.pieces(), block.delay_s
    assert isinstance(block, Text | LongText)
    return "text_delta", "text", block.pieces(), block.delay_s


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name} | fields)}\n\n".encode()
