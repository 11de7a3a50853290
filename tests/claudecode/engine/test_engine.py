"""The engine on the real binary: turns, parking, resuming, capacity, ends."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import psutil
import pytest
import trio

from clonk_claudecode.engine.binary import Binary
from clonk_claudecode.engine.engine import Engine, open_engine
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_claudecode.errors import BinaryMissing, CapacityReached, EngineStopped, ProcessDied, SessionBusy
from clonk_claudecode.events import AssistantMessage, TextDelta, ToolResult, ToolUse, TranscriptEntry, Usage
from clonk_claudecode.testing.script import Reply, Rule, Text, Wait
from clonk_claudecode.testing.script import ToolUse as CallTool
from clonk_claudecode.testing.scripted_model import ScriptedModel

Say = Callable[..., Awaitable[Any]]
NewSpec = Callable[..., SessionSpec]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_prompt_is_answered(model: ScriptedModel, spec: SessionSpec, chat: Say) -> None:
    model.add("one two three")
    said = await chat(spec, "hello")
    assert said.streamed == "one two three"
    assert [message.content for message in said.only(AssistantMessage)] == ["one two three"]
    assert said.only(Usage)[-1].output_tokens > 0
    assert (said.result.outcome, said.result.text, said.result.error) == ("complete", "one two three", None)
    assert said.result.last_entry_uuid == said.only(TranscriptEntry)[-1].uuid
    assert said.result.tokens.input_tokens > 0


async def test_a_tool_writes_a_file(model: ScriptedModel, spec: SessionSpec, chat: Say, workspace: Path) -> None:
    file = workspace / "note.txt"
    model.add(Rule("write", [CallTool("Write", {"file_path": str(file), "content": "hi"}), "done"]))
    said = await chat(spec, "please write")
    (use,) = said.only(ToolUse)
    (result,) = said.only(ToolResult)
    assert (use.tool, use.input["content"], use.tool_use_id) == ("Write", "hi", result.tool_use_id)
    assert not result.is_error
    assert file.read_text() == "hi"
    assert said.result.text == "done"


async def test_a_tool_that_would_prompt_is_denied_with_a_reason(
    model: ScriptedModel, new_spec: NewSpec, chat: Say, workspace: Path
) -> None:
    file = workspace / "note.txt"
    model.add(Rule("write", [CallTool("Write", {"file_path": str(file), "content": "hi"}), "so be it"]))
    said = await chat(new_spec(permission_mode="default"), "please write")
    (result,) = said.only(ToolResult)
    assert result.is_error
    assert "permission" in str(result.content)
    assert not file.exists()
    assert said.result.outcome == "complete"


async def test_a_session_stays_warm_between_turns(engine: Engine, spec: SessionSpec, chat: Say) -> None:
    await chat(spec, "first")
    pid = engine.pid(spec.session_id)
    await chat(spec, "second")
    assert engine.pid(spec.session_id) == pid
    assert engine.state(spec.session_id) == "idle"


async def test_a_parked_session_is_resumed_with_what_was_said(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    await chat(spec, "remember the number 4711")
    pid = engine.pid(spec.session_id)
    assert pid is not None
    await engine.park(spec.session_id)
    assert engine.state(spec.session_id) == "parked"
    assert not running(pid)
    assert (await chat(spec, "which number?")).result.outcome == "complete"
    assert "4711" in str(model.turns[-1].body["messages"])


async def test_a_changed_model_restarts_the_process_and_keeps_the_conversation(
    model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    await chat(spec, "remember the number 4711")
    await chat(attrs.evolve(spec, model="haiku"), "which number?")
    assert "haiku" in model.turns[-1].body["model"]
    assert "4711" in str(model.turns[-1].body["messages"])


async def test_the_system_prompt_reaches_the_model_and_is_no_argument(
    model: ScriptedModel, engine: Engine, new_spec: NewSpec, chat: Say
) -> None:
    spec = new_spec(system_prompt="Answer in Latin. " + "é" * 45_000)
    await chat(spec, "hello")
    assert spec.system_prompt is not None
    assert spec.system_prompt in model.turns[-1].system
    pid = engine.pid(spec.session_id)
    assert pid is not None
    assert "Latin" not in " ".join(psutil.Process(pid).cmdline())


async def test_a_prompt_is_taken_as_it_is(
    claude: Binary, model: ScriptedModel, spec: SessionSpec, chat: Say, workspace: Path
) -> None:
    if claude.version < (2, 1, 248):
        pytest.skip("an older Claude Code expands commands and file names in a prompt")
    (workspace / "secret.txt").write_text("do not expand me")
    said = await chat(spec, "/cost @secret.txt \u2028 \U0001f600")
    assert said.result.outcome == "complete"
    assert "do not expand me" not in str(model.turns[-1].body["messages"])


async def test_a_prewarmed_session_answers_with_its_own_process(engine: Engine, spec: SessionSpec, chat: Say) -> None:
    assert await engine.prewarm(spec)
    pid = engine.pid(spec.session_id)
    assert engine.state(spec.session_id) == "idle"
    await chat(spec, "hello")
    assert engine.pid(spec.session_id) == pid


async def test_a_session_that_was_only_prewarmed_is_started_anew(engine: Engine, spec: SessionSpec, chat: Say) -> None:
    await engine.prewarm(spec)
    await engine.park(spec.session_id)
    assert (await chat(spec, "hello")).result.outcome == "complete"


async def test_a_second_prompt_at_once_is_told_which_run_is_under_way(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("slow", [Reply([Text("a "), Wait("gate"), Text("b")])]))
    async with engine.turn(spec, "slow", turn_id="sub_first", prompt_uuid=str(uuid4())) as turn:
        with pytest.raises(SessionBusy) as caught:
            await chat(spec, "again")
        assert caught.value.data["subscription"] == "sub_first"
        assert engine.state(spec.session_id) == "busy"
        await model.wait_reached("gate")
        model.release("gate")
        assert "".join([item.text async for item in turn if isinstance(item, TextDelta)]) == "a b"
    assert (await chat(spec, "again")).result.outcome == "complete"


async def test_of_ten_callers_at_the_same_moment_one_gets_the_session(spec: SessionSpec, chat: Say) -> None:
    outcomes: list[str] = []

    async def call() -> None:
        try:
            outcomes.append((await chat(spec, "hello")).result.outcome)
        except SessionBusy as error:
            outcomes.append(error.kind)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(call)
    assert sorted(outcomes) == ["claudecode.session_busy"] * 9 + ["complete"]


async def test_the_session_idle_longest_makes_room(
    settings: EngineSettings, diary: Any, new_spec: NewSpec, model: ScriptedModel
) -> None:
    first, second, third = new_spec(), new_spec(), new_spec()
    async with open_engine(attrs.evolve(settings, max_concurrent=2), log=diary) as engine:
        for spec in (first, second, third):
            async with engine.turn(spec, "hello", turn_id="sub_x", prompt_uuid=str(uuid4())) as turn:
                async for _ in turn:
                    assert engine.live_count <= 2
        assert engine.live_count == 2
        assert [engine.state(spec.session_id) for spec in (first, second, third)] == ["parked", "idle", "idle"]


async def test_when_all_are_busy_a_prompt_waits_and_then_is_refused(
    settings: EngineSettings, diary: Any, new_spec: NewSpec, model: ScriptedModel
) -> None:
    model.add(Rule("slow", [Reply([Text("a "), Wait("gate"), Text("b")])]))
    limited = attrs.evolve(settings, max_concurrent=1, capacity_wait_s=0.2)
    async with open_engine(limited, log=diary) as engine:
        async with engine.turn(new_spec(), "slow", turn_id="sub_1", prompt_uuid=str(uuid4())) as turn:
            await model.wait_reached("gate")
            with pytest.raises(CapacityReached):
                async with engine.turn(new_spec(), "hello", turn_id="sub_2", prompt_uuid=str(uuid4())):
                    raise AssertionError("there is no place")
            assert not await engine.prewarm(new_spec())
            model.release("gate")
            assert [item async for item in turn]
            assert turn.result.outcome == "complete"


async def test_a_waiting_prompt_gets_the_place_that_becomes_free(
    settings: EngineSettings, diary: Any, new_spec: NewSpec, model: ScriptedModel
) -> None:
    model.add(Rule("slow", [Reply([Text("a "), Wait("gate"), Text("b")])]))
    outcomes: list[str] = []
    async with open_engine(attrs.evolve(settings, max_concurrent=1), log=diary) as engine:

        async def call(prompt: str) -> None:
            async with engine.turn(new_spec(), prompt, turn_id="sub_1", prompt_uuid=str(uuid4())) as turn:
                async for _ in turn:
                    pass
            outcomes.append(turn.result.outcome)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "slow")
            await model.wait_reached("gate")
            nursery.start_soon(call, "hello")
            await trio.testing.wait_all_tasks_blocked()
            model.release("gate")
    assert outcomes == ["complete", "complete"]


async def test_an_idle_session_is_parked_after_its_timeout(
    settings: EngineSettings, diary: Any, spec: SessionSpec
) -> None:
    async with open_engine(attrs.evolve(settings, session_timeout_s=0.3), log=diary) as engine:
        await engine.prewarm(spec)
        pid = engine.pid(spec.session_id)
        assert pid is not None
        await engine.wait_state(spec.session_id, "parked")
        assert not running(pid)


async def test_a_binary_killed_in_mid_turn_fails_the_turn_and_the_next_one_resumes(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("slow", [Reply([Text("a "), Wait("gate"), Text("b")])]))
    await chat(spec, "remember 4711")
    async with engine.turn(spec, "slow", turn_id="sub_1", prompt_uuid=str(uuid4())) as turn:
        deltas = []
        async for item in turn:
            if isinstance(item, TextDelta):
                deltas.append(item.text)
                os.kill(engine.pid(spec.session_id) or 0, signal.SIGKILL)
        assert "".join(deltas).strip() == "a"
        assert turn.result.outcome == "failed"
        assert isinstance(turn.result.error, ProcessDied)
        assert turn.result.error.data["exit_code"] == -signal.SIGKILL
    said = await chat(spec, "which number?")
    assert said.result.outcome == "complete"
    assert "4711" in str(model.turns[-1].body["messages"])


async def test_a_binary_killed_while_idle_parks_the_session(
    engine: Engine, spec: SessionSpec, chat: Say, diary: Any
) -> None:
    await chat(spec, "hello")
    pid = engine.pid(spec.session_id)
    os.kill(pid or 0, signal.SIGKILL)
    await engine.wait_state(spec.session_id, "parked")
    assert (await chat(spec, "again")).result.outcome == "complete"
    assert any(level == "warning" for level, _, _ in diary.lines)


async def test_a_prompt_right_after_the_binary_was_killed_is_answered(
    engine: Engine, spec: SessionSpec, chat: Say
) -> None:
    """The process may be found dead before or after the prompt is written; both end honestly."""
    await chat(spec, "hello")
    os.kill(engine.pid(spec.session_id) or 0, signal.SIGKILL)
    said = await chat(spec, "again")
    assert said.result.outcome in {"complete", "failed"}
    assert said.result.error is None or said.result.error.kind == "claudecode.process_died"
    assert (await chat(spec, "and again")).result.outcome == "complete"


async def test_a_session_killed_during_its_first_prompt_can_go_on(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("slow", [Reply([Wait("gate"), Text("b")])]))
    async with engine.turn(spec, "slow", turn_id="sub_1", prompt_uuid=str(uuid4())) as turn:
        os.kill(engine.pid(spec.session_id) or 0, signal.SIGKILL)
        assert not [item async for item in turn if isinstance(item, TextDelta)]
    assert turn.result.outcome == "failed"
    assert (await chat(spec, "again")).result.outcome == "complete"


async def test_leaving_a_turn_early_interrupts_it(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("slow", [Reply([Text("a "), Wait("gate"), Text("b")])]))
    async with engine.turn(spec, "slow", turn_id="sub_1", prompt_uuid=str(uuid4())) as turn:
        await model.wait_reached("gate")
    assert turn.result.outcome == "cancelled"
    assert engine.state(spec.session_id) == "idle"
    assert (await chat(spec, "again")).streamed == "You said: again"


async def test_a_cancelled_caller_leaves_a_session_that_can_be_used(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("slow", [Reply([Text("a "), Wait("gate"), Text("b")])]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chat, spec, "slow")
        await model.wait_reached("gate")
        nursery.cancel_scope.cancel()
    assert engine.state(spec.session_id) == "idle"
    assert (await chat(spec, "again")).streamed == "You said: again"


async def test_interrupt_waits_for_the_end_and_says_whether_there_was_a_turn(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("slow", [Reply([Text("a "), Wait("gate"), Text("b")])]))
    results: list[Any] = []

    async def call() -> None:
        results.append(await chat(spec, "slow"))

    assert not await engine.interrupt(spec.session_id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await model.wait_reached("gate")
        assert await engine.interrupt(spec.session_id)
    assert results[0].result.outcome == "cancelled"
    assert results[0].result.error.kind == "cancelled"


@pytest.mark.alone
async def test_leaving_the_engine_ends_turns_and_processes(
    settings: EngineSettings, diary: Any, new_spec: NewSpec, model: ScriptedModel
) -> None:
    model.add(Rule("slow", [Reply([Text("a "), Wait("gate"), Text("b")])]))
    outcomes: list[tuple[str, str]] = []
    pids: list[int] = []

    async def call(engine: Engine, spec: SessionSpec, started: trio.Event) -> None:
        async with engine.turn(spec, "slow", turn_id="sub_1", prompt_uuid=str(uuid4())) as turn:
            pids.append(engine.pid(spec.session_id) or 0)
            async for item in turn:
                if isinstance(item, TextDelta):
                    started.set()
        outcomes.append((turn.result.outcome, turn.result.error.kind if turn.result.error else ""))

    async with trio.open_nursery() as nursery:
        async with open_engine(settings, log=diary) as engine:
            all_started = [trio.Event() for _ in range(4)]
            for started in all_started:
                nursery.start_soon(call, engine, new_spec(), started)
            for started in all_started:
                await started.wait()
            began = trio.current_time()
        assert trio.current_time() - began < 6
        assert not any(running(pid) for pid in pids)
        with pytest.raises(EngineStopped):
            async with engine.turn(new_spec(), "late", turn_id="sub_2", prompt_uuid=str(uuid4())):
                raise AssertionError("the engine has stopped")
    assert outcomes == [("failed", "server_restarted")] * 4
    assert list(settings.run_dir.iterdir()) == []


async def test_an_error_in_the_body_leaves_the_engine_as_it_was_raised(settings: EngineSettings, diary: Any) -> None:
    with pytest.raises(KeyError):
        async with open_engine(settings, log=diary):
            raise KeyError("mine")


async def test_a_cancelled_engine_leaves_no_process(settings: EngineSettings, diary: Any, spec: SessionSpec) -> None:
    with trio.CancelScope() as scope:
        async with open_engine(settings, log=diary) as engine:
            await engine.prewarm(spec)
            pid = engine.pid(spec.session_id)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not running(pid or 0)


async def test_a_missing_binary_refuses_prompts_and_can_be_installed_later(
    settings: EngineSettings, diary: Any, spec: SessionSpec, tmp_path: Path
) -> None:
    path = tmp_path / "bin" / "claude"
    async with open_engine(attrs.evolve(settings, binary_path=path), log=diary) as engine:
        with pytest.raises(BinaryMissing):
            async with engine.turn(spec, "hello", turn_id="sub_1", prompt_uuid=str(uuid4())):
                raise AssertionError("there is no binary")
        assert engine.state(spec.session_id) == "parked"
        path.parent.mkdir()
        path.symlink_to(settings.binary_path or "")
        async with engine.turn(spec, "hello", turn_id="sub_1", prompt_uuid=str(uuid4())) as turn:
            assert [item async for item in turn]
        assert turn.result.outcome == "complete"


async def test_two_engines_do_not_notice_each_other(
    settings: EngineSettings, diary: Any, new_spec: NewSpec, tmp_path: Path, own_processes: Callable[[], list[str]]
) -> None:
    other = attrs.evolve(settings, config_dir=tmp_path / "other")
    async with open_engine(settings, log=diary) as one, open_engine(other, log=diary) as two:
        first, second = new_spec(), new_spec()
        await one.prewarm(first)
        await two.prewarm(second)
        assert (one.live_count, two.live_count) == (1, 1)
        assert two.state(first.session_id) == "parked"
        pid = two.pid(second.session_id)
        await one.park(first.session_id)
        assert running(pid or 0)
    assert own_processes() == []
