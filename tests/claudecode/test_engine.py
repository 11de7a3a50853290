"""The engine on the real binary: turns, parking, resuming, capacity, ends."""

from collections.abc import Awaitable, Callable

from clonk_claudecode.engine import Engine
from clonk_claudecode.events import AssistantMessage, TranscriptEntry, Usage
from clonk_claudecode.spec import SessionSpec
from clonk_claudecode.testing.scripted_model import ScriptedModel

Say = Callable[..., Awaitable[object]]


async def test_a_prompt_is_answered(engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say) -> None:
    model.add("one two three")
    said = await chat(spec, "hello")
    print(said)
    assert said.streamed == "one two three"
    assert said.result.outcome == "complete"
    assert [message.content for message in said.only(AssistantMessage)] == ["one two three"]
