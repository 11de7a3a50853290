"""Reads a script from JSON, strictly: every problem is named with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import attrs

from clonk_claudecode.testing.script import (
    Attempts,
    Block,
    Cut,
    Fail,
    Hang,
    LongText,
    Reply,
    Rule,
    Script,
    Sleep,
    Slow,
    Step,
    Text,
    Thinking,
    ToolUse,
    Usage,
    Wait,
)

_SHAPES: Mapping[str, tuple[type, tuple[str, ...]]] = {
    # The key that names the kind, the class it makes, and the keys that may stand beside it.
    "text": (Text, ("deltas", "delay_s")),
    "long_text": (LongText, ("delay_s",)),
    "thinking": (Thinking, ("deltas", "delay_s")),
    "tool_use": (ToolUse, ("input", "id")),
    "wait": (Wait, ()),
    "sleep": (Sleep, ()),
    "reply": (Reply, ("stop_reason", "usage")),
    "fail": (Fail, ("retry_after", "message")),
    "hang": (Hang, ("reply",)),
    "cut": (Cut, ("reply",)),
    "slow": (Slow, ("first_s", "each_s")),
    "attempts": (Attempts, ()),
}
_BLOCKS = (Text, LongText, Thinking, ToolUse, Wait, Sleep)


T = TypeVar("T")


class ScriptError(ValueError):
    """A script file says something that is not understood; the text names the place."""

    def __init__(self, problem: str, path: str) -> None:
        super().__init__(f"{problem} @ {path}")


def parse_script(text: str) -> Script:
    """Read a script.

    The document is an object with `rules` (each with `when` and `turns`), `queue`, `default` and `side`, all optional.
    An answer is a string or an object named by its first key: `{"text": "...", "deltas": 5, "delay_s": 0.1}`,
    `{"long_text": 50000}`, `{"thinking": "..."}`, `{"tool_use": "Write", "input": {...}}`, `{"wait": "gate"}`,
    `{"sleep": 0.5}`, `{"reply": [...], "stop_reason": "max_tokens", "usage": {...}}`,
    `{"fail": 529, "retry_after": 1}`, `{"hang": 5, "reply": [...]}`, `{"cut": 5, "reply": [...]}`,
    `{"slow": [...], "each_s": 0.1}`, `{"attempts": [...]}`.

    Raises:
        ScriptError: It is no JSON, or has unknown keys, wrong types or a bad regular expression.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ScriptError(f"not JSON: {error}", "$") from error
    fields = _object(document, "$", ("rules", "queue", "default", "side"))
    made: dict[str, Any] = {}
    if "rules" in fields:
        made["rules"] = _each(fields["rules"], "$.rules", _rule)
    if "queue" in fields:
        made["queue"] = _each(fields["queue"], "$.queue", _step)
    for key in ("default", "side"):
        if key in fields:
            made[key] = _step(fields[key], f"$.{key}")
    return Script(**made)


def _rule(value: Any, path: str) -> Rule:
    fields = _object(value, path, ("when", "turns"))
    try:
        when = re.compile(_typed(fields.get("when"), str, f"{path}.when")).pattern
    except re.error as error:
        raise ScriptError(f"not a regular expression: {error}", f"{path}.when") from error
    return Rule(when, _each(fields.get("turns"), f"{path}.turns", _step))


def _step(value: Any, path: str) -> Step | Attempts:
    made = _make(value, path)
    return Reply(made) if isinstance(made, _BLOCKS) else cast("Step", made)


def _block(value: Any, path: str) -> Block:
    made = _make(value, path)
    if not isinstance(made, _BLOCKS):
        raise ScriptError("a reply is made of text, long_text, thinking, tool_use, wait and sleep", path)
    return made


def _make(value: Any, path: str) -> Any:
    """Build the class that the object's kind names."""
    if isinstance(value, str):
        return Text(value)
    kinds = [kind for kind in _object(value, path, None) if kind in _SHAPES]
    # `reply` names a kind of its own and also stands beside `hang` and `cut`.
    kind = next((kind for kind in kinds if kind != "reply"), kinds[0] if kinds else None)
    if kind is None:
        raise ScriptError(f"one key must be of {', '.join(_SHAPES)}", path)
    cls, beside = _SHAPES[kind]
    fields = dict(_object(value, path, (kind, *beside)))
    first = _FIRST[kind](fields.pop(kind), f"{path}.{kind}")
    others = {key: _BESIDE[key](inner, f"{path}.{key}") for key, inner in fields.items()}
    if kind == "tool_use":
        others.setdefault("input", {})
    return cls(first, **others)


def _reply(value: Any, path: str) -> Reply:
    if isinstance(value, list):
        return Reply(_each(value, path, _block))
    step = _step(value, path)
    if not isinstance(step, Reply):
        raise ScriptError("a reply is wanted here", path)
    return step


def _usage(value: Any, path: str) -> Usage:
    keys = tuple(field.name for field in attrs.fields(Usage))
    return Usage(**{key: _count(inner, f"{path}.{key}") for key, inner in _object(value, path, keys).items()})


def _typed(value: Any, kind: type | tuple[type, ...], path: str) -> Any:
    """Let through exactly the type; true and false are no numbers."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise ScriptError(f"{names} wanted, {type(value).__name__} found", path)
    return value


def _text(value: Any, path: str) -> str:
    return cast("str", _typed(value, str, path))


def _count(value: Any, path: str) -> int:
    number = cast("int", _typed(value, int, path))
    if number < 0:
        raise ScriptError("a number from 0 wanted", path)
    return number


def _seconds(value: Any, path: str) -> float:
    number = float(_typed(value, (int, float), path))
    if not 0 <= number < float("inf"):
        raise ScriptError("a finite number of seconds from 0 wanted", path)
    return number


def _object(value: Any, path: str, keys: tuple[str, ...] | None) -> Mapping[str, Any]:
    fields = cast("dict[str, Any]", _typed(value, dict, path))
    for key in fields:
        if keys is not None and key not in keys:
            raise ScriptError(f"unknown key, allowed are {', '.join(keys)}", f"{path}.{key}")
    return fields


def _each(value: Any, path: str, build: Callable[[Any, str], T]) -> tuple[T, ...]:
    return tuple(build(item, f"{path}[{index}]") for index, item in enumerate(_typed(value, list, path)))


_FIRST: Mapping[str, Callable[[Any, str], Any]] = {
    "text": _text,
    "long_text": _count,
    "thinking": _text,
    "tool_use": _text,
    "wait": _text,
    "sleep": _seconds,
    "reply": lambda value, path: _reply(value, path).blocks,
    "fail": _count,
    "hang": _count,
    "cut": _count,
    "slow": _reply,
    "attempts": lambda value, path: _each(value, path, _step),
}
_BESIDE: Mapping[str, Callable[[Any, str], Any]] = {
    "deltas": _count,
    "delay_s": _seconds,
    "input": lambda value, path: _object(value, path, None),
    "id": _text,
    "stop_reason": _text,
    "usage": _usage,
    "retry_after": _seconds,
    "message": _text,
    "reply": _reply,
    "first_s": _seconds,
    "each_s": _seconds,
}
