"""Frames to events, without a process: what the real binary was seen to write, and what it must not upset."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonk_claudecode.engine.outcome import read_result
from clonk_claudecode.engine.translate import Translator
from clonk_claudecode.errors import ApiError, TurnStalled
from clonk_claudecode.events import (
    AssistantMessage,
    Restart,
    Retrying,
    TextDelta,
    ThinkingDelta,
    ToolResult,
    ToolUse,
    TranscriptEntry,
    TurnItem,
    Usage,
)


def stream(event: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
    return {"type": "stream_event", "event": event, "parent_tool_use_id": parent, "uuid": "s"}


def start(message_id: str, **usage: int) -> dict[str, Any]:
    return stream({"type": "message_start", "message": {"id": message_id, "usage": usage}})


def delta(text: str, parent: str | None = None) -> dict[str, Any]:
    return stream({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}, parent)


def assistant(message_id: str, *blocks: Any, **more: Any) -> dict[str, Any]:
    message = {"id": message_id, "role": "assistant", "content": list(blocks), "usage": more.pop("usage", {})}
    return {"type": "assistant", "message": message, "parent_tool_use_id": None, "uuid": f"u-{message_id}", **more}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def translate(*frames: dict[str, Any]) -> list[TurnItem]:
    translator = Translator()
    return [item for frame in frames for item in translator.feed(frame)]


def shown(*frames: dict[str, Any]) -> list[TurnItem]:
    return [item for item in translate(*frames) if not isinstance(item, TranscriptEntry | Usage)]


def test_a_message_is_deltas_then_an_entry_then_the_whole() -> None:
    items = translate(start("m1", input_tokens=3), delta("a "), delta("b"), assistant("m1", text("a b")))
    assert [type(item) for item in items] == [TextDelta, TextDelta, TranscriptEntry, AssistantMessage]
    assert items[-1] == AssistantMessage(content="a b", message_id="m1")


def test_texts_of_one_entry_are_joined() -> None:
    assert shown(assistant("m1", text("a "), {"type": "thinking", "thinking": "hm"}, text("b"))) == [
        AssistantMessage(content="a b", message_id="m1")
    ]


def test_thinking_is_a_delta_of_its_own() -> None:
    think = stream({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}})
    assert shown(start("m1"), think) == [ThinkingDelta(text="hm")]


def test_a_tool_and_its_result() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [text("x")], "is_error": True}
    answer = {"type": "user", "uuid": "u2", "message": {"role": "user", "content": [result]}}
    translator = Translator()
    items = translator.feed(assistant("m1", text("see "), use))
    assert items[1] == AssistantMessage(content="see ", message_id="m1")
    assert items[-1] == ToolUse(tool="Bash", input={"command": "ls"}, tool_use_id="t1")
    assert translator.tools_at_work == {"t1"}
    entry, event = translator.feed(answer)
    assert isinstance(entry, TranscriptEntry)
    assert (entry.uuid, entry.role, entry.notice) == ("u2", "user", False)
    assert event == ToolResult(tool_use_id="t1", content=[text("x")], is_error=True)
    assert translator.tools_at_work == set()
    assert translator.last_entry_uuid == "u2"


def test_a_subagent_shows_its_tools_and_not_its_words() -> None:
    use = {"type": "tool_use", "id": "t2", "name": "Read", "input": {}}
    frame = {**assistant("m2", text("inner"), use), "parent_tool_use_id": "t1"}
    translator = Translator()
    assert translator.feed(delta("inner", parent="t1")) == []
    entry, event = translator.feed(frame)
    assert isinstance(entry, TranscriptEntry)
    assert entry.parent_tool_use_id == "t1"
    assert event == ToolUse(tool="Read", input={}, tool_use_id="t2", parent_tool_use_id="t1")
    assert translator.last_entry_uuid is None


def test_a_subagent_in_between_does_not_take_back_what_was_shown() -> None:
    inner = {**assistant("m2", text("inner")), "parent_tool_use_id": "t1"}
    items = shown(start("m1"), delta("a"), inner, assistant("m1", text("a")))
    assert not [item for item in items if isinstance(item, Restart)]


def test_a_message_that_begins_anew_takes_the_first_back() -> None:
    items = shown(start("m1"), delta("a"), start("m2"), delta("a"), assistant("m2", text("a")))
    assert items == [
        TextDelta(text="a"),
        Restart(message_id="m1"),
        TextDelta(text="a"),
        AssistantMessage(content="a", message_id="m2"),
    ]


def test_a_message_that_comes_whole_after_a_cut_takes_the_first_back() -> None:
    items = shown(start("m1"), delta("a"), assistant("m2", text("b")))
    assert items == [TextDelta(text="a"), Restart(message_id="m1"), AssistantMessage(content="b", message_id="m2")]


def test_a_cut_before_anything_was_shown_takes_nothing_back() -> None:
    assert shown(start("m1"), start("m2"), delta("a")) == [TextDelta(text="a")]


def test_an_interrupted_text_counts_as_said() -> None:
    items = shown(start("m1"), delta("a"), {**assistant("m1", text("a")), "aborted": True}, start("m2"))
    assert items == [TextDelta(text="a"), AssistantMessage(content="a", message_id="m1")]


def test_an_api_error_in_claudes_name_is_no_message() -> None:
    frame = assistant("m1", text("API Error: 529"), error="server_error", is_api_error_message=True)
    (entry,) = translate(frame)
    assert isinstance(entry, TranscriptEntry)
    assert entry.notice


def test_usage_is_told_for_each_message_and_added_up() -> None:
    translator = Translator()
    translator.feed(start("m1", input_tokens=10, output_tokens=1, cache_read_input_tokens=5))
    (usage,) = translator.feed(stream({"type": "message_delta", "usage": {"output_tokens": 7, "input_tokens": 0}}))
    assert usage == Usage(message_id="m1", input_tokens=10, output_tokens=7, cache_read_input_tokens=5)
    translator.feed(start("m2", input_tokens=20))
    *_, whole = translator.feed(assistant("m3", text("x"), usage={"input_tokens": 1, "output_tokens": 2}))
    assert whole == Usage(message_id="m3", input_tokens=1, output_tokens=2)
    total = translator.tokens()
    assert (total.input_tokens, total.output_tokens, total.cache_read_input_tokens) == (31, 9, 5)


def test_a_retry_tells_status_and_pause() -> None:
    frame = {"type": "system", "subtype": "api_retry", "attempt": 2, "retry_delay_ms": 522.4, "error_status": 401}
    assert shown(frame) == [Retrying(attempt=2, status=401, delay_s=0.522)]
    assert shown({"type": "system", "subtype": "api_retry", "error_status": None}) == [Retrying(attempt=1)]


def test_what_the_binary_writes_for_itself_is_a_notice() -> None:
    frame = {"type": "user", "uuid": "u", "message": {"content": "[Request interrupted by user]"}}
    (entry,) = translate(frame)
    assert isinstance(entry, TranscriptEntry)
    assert entry.notice


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
kinds = st.sampled_from(["stream_event", "assistant", "user", "system", "result", "command_lifecycle", "new"])
fields = st.sampled_from(["event", "message", "subtype", "uuid", "parent_tool_use_id", "delta", "usage", "content"])
frames = st.builds(lambda kind, rest: {**rest, "type": kind}, kinds, st.dictionaries(fields, json_values))


@given(st.lists(frames, max_size=5))
def test_no_frame_upsets_the_translation(some: list[dict[str, Any]]) -> None:
    translator = Translator()
    for frame in some:
        translator.feed(frame)
    translator.tokens()


@pytest.mark.parametrize(
    ("frame", "outcome"),
    [
        ({"subtype": "success", "is_error": False, "stop_reason": "end_turn"}, "complete"),
        ({"subtype": "success", "is_error": True, "result": "API Error: 529", "api_error_status": 529}, "failed"),
        ({"subtype": "success", "is_error": True, "stop_reason": "refusal", "result": "no"}, "refused"),
        ({"subtype": "success", "is_error": False, "stop_reason": "refusal"}, "refused"),
        ({"subtype": "error_during_execution", "is_error": True, "errors": ["x"]}, "failed"),
        ({"subtype": "error_max_turns", "is_error": True}, "limited"),
        ({"subtype": "something new", "is_error": True}, "failed"),
    ],
)
def test_the_result_decides_the_outcome(frame: dict[str, Any], outcome: str) -> None:
    assert read_result(frame, None, None)[0] == outcome


def test_an_error_of_the_api_keeps_its_status_and_words() -> None:
    frame = {"subtype": "success", "is_error": True, "result": "API Error: 529", "api_error_status": 529}
    _, error = read_result(frame, None, None)
    assert isinstance(error, ApiError)
    assert (error.message, error.data["status"]) == ("API Error: 529", 529)
    assert orjson.dumps(error.data)


def test_an_interrupted_result_is_told_by_its_reason() -> None:
    aborted = {"subtype": "error_during_execution", "is_error": True}
    assert read_result(aborted, "cancelled", None)[0] == "cancelled"
    stalled = TurnStalled(3.0)
    assert read_result(aborted, "limited", stalled) == ("limited", stalled)


def test_a_turn_that_was_complete_before_the_interrupt_came_is_complete() -> None:
    assert read_result({"subtype": "success", "is_error": False}, "cancelled", None) == ("complete", None)
