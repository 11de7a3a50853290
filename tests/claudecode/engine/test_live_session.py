"""A live session: interrupts, deadlines, silence, the API's errors, and binaries that misbehave."""

import os
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest
import trio

from clonk_claudecode.engine.engine import Engine, open_engine
from clonk_claudecode.engine.permissions import Allow, Decision, Deny, PermissionQuestion
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_claudecode.engine.turn import MAX_WAITING_ITEMS, Turn
from clonk_claudecode.errors import ApiError, ProcessBroken, ProcessDied, TurnStalled
from clonk_claudecode.events import (
    AssistantMessage,
    Restart,
    Retrying,
    TextDelta,
    ThinkingDelta,
    ToolResult,
    ToolUse,
    TranscriptEntry,
)
from clonk_claudecode.testing.script import (
    Attempts,
    Cut,
    Fail,
    Hang,
    LongText,
    Reply,
    Rule,
    Sleep,
    Text,
    Thinking,
    Wait,
)
from clonk_claudecode.testing.script import ToolUse as CallTool
from clonk_claudecode.testing.scripted_model import ScriptedModel

Say = Callable[..., Awaitable[Any]]
NewSpec = Callable[..., SessionSpec]
Fake = Callable[[str], Path]
Running = Callable[[], list[str]]


@pytest.fixture
def sleeping(own_processes: Callable[[], list[str]]) -> Callable[[], list[str]]:
    """The `sleep 471x` that a tool has started and that still run."""

    def find() -> list[str]:
        return [line for line in own_processes() if line.startswith("sleep 471")]

    return find


def begin(engine: Engine, spec: SessionSpec, prompt: str, **options: Any) -> Any:
    return engine.turn(spec, prompt, turn_id="sub_test", prompt_uuid=str(uuid4()), **options)


async def until(turn: Turn, kind: type) -> Any:
    """Read up to the first item of a class."""
    async for item in turn:
        if isinstance(item, kind):
            return item
    raise AssertionError(f"the turn ended without a {kind.__name__}: {turn.result}")


# ── Interrupting ──────────────────────────────────────────────────────────────


async def test_an_interrupted_text_is_kept_and_the_next_turn_does_not_begin_with_its_rest(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("slow", [Reply([Text("begin "), Wait("gate"), Text("rest")])]))
    async with begin(engine, spec, "slow") as turn:
        assert (await until(turn, TextDelta)).text.strip() == "begin"
        turn.request_stop("cancelled")
        rest = [item async for item in turn]
    assert turn.result.outcome == "cancelled"
    assert [item.content.strip() for item in rest if isinstance(item, AssistantMessage)] == ["begin"]
    assert not [item for item in rest if isinstance(item, Restart)]
    said = await chat(spec, "next")
    assert said.streamed == "You said: next"
    assert "rest" not in str(said.items)


async def test_an_interrupt_before_the_binary_has_begun_is_not_lost(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("slow", [Reply([Text("begin "), Wait("gate"), Text("rest")])]))
    await chat(spec, "hello")
    async with begin(engine, spec, "slow") as turn:
        turn.request_stop("cancelled")
        async for _ in turn:
            pass
    assert turn.result.outcome == "cancelled"
    assert engine.state(spec.session_id) == "idle"
    assert (await chat(spec, "next")).streamed == "You said: next"


async def test_interrupts_at_any_moment_leave_a_session_that_answers(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("long", [LongText(2000, delay_s=0.002)]))
    await chat(spec, "hello")
    pid = engine.pid(spec.session_id)
    for moment_s in (0.001, 0.004, 0.01, 0.02, 0.03, 0.05, 0.1):
        with trio.move_on_after(moment_s):
            await chat(spec, "long")
        said = await chat(spec, f"after {moment_s}")
        assert said.streamed == f"You said: after {moment_s}"
    assert engine.pid(spec.session_id) == pid


async def test_an_interrupted_tool_leaves_no_process(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say, sleeping: Running
) -> None:
    model.add(Rule("sleep", [CallTool("Bash", {"command": "(sleep 4711 & sleep 4712)"}), "never"]))
    async with begin(engine, spec, "sleep") as turn:
        await until(turn, ToolUse)
        with trio.fail_after(10):
            while len(sleeping()) < 2:
                await trio.sleep(0.02)
        turn.request_stop("cancelled")
        results = [item async for item in turn if isinstance(item, ToolResult)]
    assert turn.result.outcome == "cancelled"
    assert results[0].is_error
    with trio.fail_after(5):
        while sleeping():
            await trio.sleep(0.02)
    assert (await chat(spec, "next")).streamed == "You said: next"


async def test_what_a_tool_left_in_the_background_is_gone_after_the_close(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say, sleeping: Running
) -> None:
    command = "nohup sleep 4713 >/dev/null 2>&1 & (setsid sleep 4714 >/dev/null 2>&1 &) ; sleep 0.1"
    model.add(Rule("leave", [CallTool("Bash", {"command": command}), "left"]))
    await chat(spec, "leave")
    assert len(sleeping()) == 2
    await engine.park(spec.session_id)
    assert sleeping() == []


async def test_a_deadline_ends_a_turn_as_limited(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("slow", [Reply([Text("begin "), Wait("gate"), Text("rest")])]))
    said = await chat(spec, "slow", deadline_s=1.5)
    assert (said.result.outcome, said.result.error.kind) == ("limited", "claudecode.turn_limit")
    assert (await chat(spec, "next")).result.outcome == "complete"


@pytest.mark.parametrize("after", [0, 5])
async def test_a_silent_api_ends_the_turn_as_stalled(
    settings: EngineSettings, diary: Any, model: ScriptedModel, spec: SessionSpec, after: int
) -> None:
    model.add(Rule("hang", [Hang(after=after)]))
    async with open_engine(attrs.evolve(settings, idle_timeout_s=1.5), log=diary) as engine:
        async with begin(engine, spec, "hang") as turn:
            async for _ in turn:
                pass
        assert turn.result.outcome == "limited"
        assert isinstance(turn.result.error, TurnStalled)
        async with begin(engine, spec, "next") as turn:
            assert "".join([item.text async for item in turn if isinstance(item, TextDelta)]) == "You said: next"


async def test_a_tool_may_be_silent_for_longer(
    settings: EngineSettings, diary: Any, model: ScriptedModel, spec: SessionSpec
) -> None:
    model.add(Rule("sleep", [CallTool("Bash", {"command": "sleep 2; echo awake"}), "done"]))
    async with open_engine(attrs.evolve(settings, idle_timeout_s=1.0), log=diary) as engine:
        async with begin(engine, spec, "sleep") as turn:
            results = [item async for item in turn if isinstance(item, ToolResult)]
        assert "awake" in str(results[0].content)
        assert turn.result.outcome == "complete"


# ── The API ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("status", "retried"), [(401, True), (400, False), (429, True), (500, True), (529, True)])
async def test_an_error_of_the_api_fails_the_turn(
    model: ScriptedModel, spec: SessionSpec, chat: Say, status: int, retried: bool
) -> None:
    model.add(Rule("fail", [Attempts([Fail(status)] * 20)]))
    said = await chat(spec, "fail")
    assert said.result.outcome == "failed"
    assert isinstance(said.result.error, ApiError)
    assert said.result.error.data["status"] == status
    assert bool(said.only(Retrying)) == retried
    assert all(retry.status == status for retry in said.only(Retrying))
    assert not said.only(AssistantMessage)
    assert all(entry.notice for entry in said.only(TranscriptEntry))
    assert (await chat(spec, "next")).streamed == "You said: next"


async def test_an_overload_that_passes_is_told_and_survived(model: ScriptedModel, spec: SessionSpec, chat: Say) -> None:
    model.add(Rule("flaky", [Attempts([Fail(529), "third time lucky"])]))
    said = await chat(spec, "flaky")
    assert [(retry.attempt, retry.status) for retry in said.only(Retrying)] == [(1, 529)]
    assert said.only(Retrying)[0].delay_s > 0
    assert (said.result.outcome, said.streamed) == ("complete", "third time lucky")


async def test_a_reply_that_was_cut_is_taken_back_before_it_comes_again(
    model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    half = Reply([Text("one two "), Sleep(0.3), Text("three")])
    model.add(Rule("cut", [Attempts([Cut(after=5, reply=half), "one two three", "one two three"])]))
    said = await chat(spec, "cut")
    (restart,) = said.only(Restart)
    after = said.items[said.items.index(restart) :]
    assert "".join(item.text for item in said.items[: said.items.index(restart)] if isinstance(item, TextDelta))
    assert [item.content for item in after if isinstance(item, AssistantMessage)] == ["one two three"]
    assert said.only(AssistantMessage) == [item for item in after if isinstance(item, AssistantMessage)]
    assert said.only(AssistantMessage)[0].message_id != restart.message_id
    assert said.result.outcome == "complete"


async def test_thinking_is_shown_apart_from_the_answer(model: ScriptedModel, spec: SessionSpec, chat: Say) -> None:
    model.add(Rule("think", [Reply([Thinking("hm hm"), Text("so be it")])]))
    said = await chat(spec, "think")
    assert "".join(item.text for item in said.only(ThinkingDelta)) in {"hm hm", ""}
    assert said.streamed == "so be it"
    assert not said.only(Restart)


async def test_a_reply_of_many_deltas_comes_whole_and_in_order(
    model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    long = LongText(5000)
    model.add(Rule("long", [long]))
    said = await chat(spec, "long")
    assert said.streamed == long.text
    assert said.result.text == long.text


async def test_a_reader_that_stands_still_holds_back_the_binary_and_loses_nothing(
    engine: Engine, model: ScriptedModel, spec: SessionSpec
) -> None:
    long = LongText(20_000)
    model.add(Rule("long", [long]))
    async with begin(engine, spec, "long") as turn:
        first = await until(turn, TextDelta)
        while len(turn._items) <= MAX_WAITING_ITEMS:
            await turn._ready.wait()
            await trio.sleep(0.01)
        assert not turn.is_finished
        assert len(turn._items) < MAX_WAITING_ITEMS + 2000
        rest = [item.text async for item in turn if isinstance(item, TextDelta)]
    assert first.text + "".join(rest) == long.text
    assert turn.result.outcome == "complete"


@pytest.mark.alone
async def test_a_turn_whose_reader_stands_still_can_be_interrupted(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    model.add(Rule("long", [Reply([LongText(20_000), Wait("gate"), Text("never")])]))
    async with begin(engine, spec, "long") as turn:
        await until(turn, TextDelta)
        await model.wait_reached("gate")
        began = trio.current_time()
        await engine.interrupt(spec.session_id)
        assert trio.current_time() - began < 5
    assert turn.result.outcome == "cancelled"
    assert (await chat(spec, "next")).streamed == "You said: next"


# ── What Claude does by itself ────────────────────────────────────────────────


async def test_what_claude_says_between_turns_is_shown_by_the_next_turn(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    command = CallTool("Bash", {"command": "sleep 0.5; echo ready", "run_in_background": True})
    model.add(Rule("start", [command, "started", "it is ready"]))
    said = await chat(spec, "start")
    assert said.result.text == "started"
    live = engine._slots.get(spec.session_id).live
    assert live is not None
    with trio.fail_after(20):
        while not any(isinstance(item, AssistantMessage) for item in live.kept):
            await trio.sleep(0.02)
    said = await chat(spec, "next")
    assert [item.content for item in said.only(AssistantMessage)] == ["it is ready", "You said: next"]
    assert said.streamed == "You said: next"
    assert said.result.text == "You said: next"


async def test_a_prompt_waits_for_what_claude_does_by_itself(
    engine: Engine, model: ScriptedModel, spec: SessionSpec, chat: Say
) -> None:
    command = CallTool("Bash", {"command": "sleep 0.3; echo ready", "run_in_background": True})
    model.add(Rule("start", [command, "started", Reply([Text("by "), Wait("gate"), Text("myself")])]))
    await chat(spec, "start")
    await model.wait_reached("gate")
    live = engine._slots.get(spec.session_id).live
    assert live is not None
    while not live.is_at_work:
        await trio.sleep(0.01)
    async with begin(engine, spec, "next") as turn:
        model.release("gate")
        items = [item async for item in turn]
    texts = [item.content for item in items if isinstance(item, AssistantMessage)]
    assert texts == ["by myself", "You said: next"]
    assert (turn.result.outcome, turn.result.text) == ("complete", "You said: next")


# ── Questions about tools ─────────────────────────────────────────────────────


async def test_an_allowed_tool_runs_with_the_changed_input(
    settings: EngineSettings, diary: Any, model: ScriptedModel, new_spec: NewSpec, workspace: Path
) -> None:
    asked: list[PermissionQuestion] = []

    async def decide(question: PermissionQuestion) -> Decision:
        asked.append(question)
        return Allow({**question.input, "content": "changed"})

    file = workspace / "note.txt"
    spec = new_spec(permission_mode="default")
    model.add(Rule("write", [CallTool("Write", {"file_path": str(file), "content": "hi"}), "done"]))
    async with open_engine(settings, decide=decide, log=diary) as engine, begin(engine, spec, "write") as turn:
        async for _ in turn:
            pass
    assert file.read_text() == "changed"
    assert [(question.tool, question.session_id) for question in asked] == [("Write", spec.session_id)]


async def test_a_question_that_is_open_does_not_hinder_an_interrupt(
    settings: EngineSettings, diary: Any, model: ScriptedModel, new_spec: NewSpec, workspace: Path
) -> None:
    asked, taken_back, never = trio.Event(), trio.Event(), trio.Event()

    async def decide(question: PermissionQuestion) -> Decision:
        asked.set()
        try:
            await never.wait()
        finally:
            taken_back.set()
        return Deny("never")

    spec = new_spec(permission_mode="default")
    model.add(Rule("write", [CallTool("Write", {"file_path": str(workspace / "x"), "content": "hi"}), "done"]))
    async with open_engine(settings, decide=decide, log=diary) as engine:
        async with begin(engine, spec, "write") as turn:
            await until(turn, ToolUse)
            await asked.wait()
            turn.request_stop("cancelled")
            async for _ in turn:
                pass
            await taken_back.wait()
        assert turn.result.outcome == "cancelled"
        async with begin(engine, spec, "next") as turn:
            async for _ in turn:
                pass
        assert turn.result.outcome == "complete"
    assert not (workspace / "x").exists()


# ── Binaries that misbehave ───────────────────────────────────────────────────


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Write a program that says it is Claude Code 2.1.330 and then does what `body` says.

    `body` sees `read()` (the next frame or None), `write(frame)` and `initialize()`; only for what the real binary
    does not do on demand.
    """

    def write(body: str) -> Path:
        path = tmp_path / "fake-claude"
        path.write_text(
            textwrap.dedent(
                f"""\
                #!{sys.executable}
                import json, os, signal, sys, time
                if "--version" in sys.argv:
                    print("2.1.330 (Claude Code)")
                    sys.exit()
                def write(frame):
                    sys.stdout.write((frame if isinstance(frame, str) else json.dumps(frame)) + "\\n")
                    sys.stdout.flush()
                def read():
                    for line in sys.stdin:
                        frame = json.loads(line)
                        if frame.get("request", {{}}).get("subtype") != "get_usage":
                            return frame
                        answer = {{"subtype": "error", "request_id": frame["request_id"], "error": "unknown"}}
                        write({{"type": "control_response", "response": answer}})
                def initialize():
                    request = read()
                    answer = {{"subtype": "success", "request_id": request["request_id"], "response": {{}}}}
                    write({{"type": "control_response", "response": answer}})
                RESULT = {{"type": "result", "subtype": "success", "is_error": False, "result": "ok"}}
                """
            )
            + textwrap.dedent(body)
        )
        path.chmod(0o755)
        return path

    return write


async def say_to(path: Path, settings: EngineSettings, diary: Any, spec: SessionSpec, **changes: Any) -> Any:
    changed = attrs.evolve(settings, binary_path=path, **changes)
    async with open_engine(changed, log=diary) as engine, begin(engine, spec, "hello") as turn:
        items = [item async for item in turn]
    return items, turn.result


async def test_a_binary_that_exits_at_once_is_reported_with_its_last_words(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    with trio.fail_after(10), pytest.raises(ProcessDied) as caught:
        await say_to(fake("sys.exit('no licence')"), settings, diary, spec)
    assert caught.value.data["exit_code"] == 1
    assert "no licence" in caught.value.data["stderr"]


async def test_a_binary_that_never_gets_ready_is_given_up(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    with trio.fail_after(10), pytest.raises(ProcessBroken):
        await say_to(fake("time.sleep(600)"), settings, diary, spec, start_timeout_s=0.5)


async def test_a_binary_that_refuses_to_initialize_is_given_up(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    body = """
        request = read()
        error = {"subtype": "error", "request_id": request["request_id"], "error": "not today"}
        write({"type": "control_response", "response": error})
        time.sleep(600)
    """
    with trio.fail_after(10), pytest.raises(ProcessBroken) as caught:
        await say_to(fake(body), settings, diary, spec)
    assert "not today" in caught.value.message


async def test_some_garbage_between_the_frames_is_logged_and_survived(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    body = """
        initialize(); read()
        for line in ("npm WARN old", "{broken", "[]", "\\x00\\x01", '{"no": "type"}', '{"type": "from the future"}'):
            write(line)
        write(RESULT); read()
    """
    _, result = await say_to(fake(body), settings, diary, spec)
    assert (result.outcome, result.text) == ("complete", "ok")
    assert sum("no frame" in event for _, event, _ in diary.lines) == 5


async def test_a_binary_that_writes_nothing_but_garbage_is_stopped(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    body = """
        initialize(); read()
        while True:
            os.write(1, os.urandom(4096))
    """
    _, result = await say_to(fake(body), settings, diary, spec)
    assert result.outcome == "failed"
    assert isinstance(result.error, ProcessBroken)


async def test_a_line_of_forty_mebibytes_is_taken(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    body = """
        initialize(); read()
        text = "x" * (40 * 2**20)
        message = {"id": "msg_1", "content": [{"type": "text", "text": text}]}
        write({"type": "assistant", "uuid": "u", "message": message, "parent_tool_use_id": None})
        write(RESULT); read()
    """
    items, result = await say_to(fake(body), settings, diary, spec)
    assert [len(item.content) for item in items if isinstance(item, AssistantMessage)] == [40 * 2**20]
    assert result.outcome == "complete"


async def test_a_line_without_an_end_is_given_up(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    body = """
        initialize(); read()
        while True:
            os.write(1, b"x" * 2**20)
    """
    _, result = await say_to(fake(body), settings, diary, spec)
    assert isinstance(result.error, ProcessBroken)


async def test_a_binary_that_ignores_interrupts_and_signals_is_killed(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    body = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        initialize(); read()
        write({"type": "system", "subtype": "init"})
        while True:
            time.sleep(600)
    """
    changed = attrs.evolve(settings, binary_path=fake(body), interrupt_timeout_s=0.5)
    async with open_engine(changed, log=diary) as engine:
        async with begin(engine, spec, "hello") as turn:
            pid = engine.pid(spec.session_id) or 0
            with trio.fail_after(10):
                await engine.interrupt(spec.session_id)
        assert turn.result.outcome == "cancelled"
        await engine.wait_state(spec.session_id, "parked")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_binary_that_dies_while_a_child_holds_its_output_is_noticed(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake, own_processes: Running
) -> None:
    body = """
        initialize(); read()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(7)
    """
    with trio.fail_after(15):
        _, result = await say_to(fake(body), settings, diary, spec)
    assert isinstance(result.error, ProcessDied)
    assert result.error.data["exit_code"] == 7
    assert own_processes() == []


async def test_a_binary_that_does_not_read_can_still_be_interrupted(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    changed = attrs.evolve(settings, binary_path=fake("initialize()\ntime.sleep(600)"), interrupt_timeout_s=0.5)
    async with open_engine(changed, log=diary) as engine:
        turning = engine.turn(spec, "x" * 5_000_000, turn_id="sub_1", prompt_uuid=str(uuid4()))
        with trio.fail_after(15):
            async with turning as turn:
                turn.request_stop("cancelled")
                async for _ in turn:
                    pass
    assert turn.result.outcome == "cancelled"


async def test_a_control_request_that_is_not_served_is_refused_and_harms_nobody(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake
) -> None:
    body = """
        initialize(); read()
        write({"type": "control_request", "request_id": "q1", "request": {"subtype": "mcp_message"}})
        answer = read()["response"]
        write({**RESULT, "result": answer["subtype"] + answer["request_id"]}); read()
    """
    _, result = await say_to(fake(body), settings, diary, spec)
    assert result.text == "errorq1"


@pytest.mark.parametrize("flag", ["--session-id", "--resume"])
async def test_a_wrong_guess_about_the_transcript_is_put_right(
    settings: EngineSettings, diary: Any, spec: SessionSpec, fake: Fake, flag: str
) -> None:
    """A transcript's file may be there without a conversation in it, and the other way round."""
    complaint = "Error: Session ID x is already in use." if flag == "--session-id" else "No conversation found with"
    if flag == "--resume":
        transcript = settings.config_dir / "projects" / "p" / f"{spec.claude_session_id}.jsonl"
        transcript.parent.mkdir(parents=True)
        transcript.touch()
    body = f"""
        if "{flag}" in sys.argv:
            sys.exit("{complaint}")
        initialize(); read(); write(RESULT); read()
    """
    _, result = await say_to(fake(body), settings, diary, spec)
    assert result.outcome == "complete"


async def test_a_working_directory_that_is_gone_is_named(
    engine: Engine, new_spec: NewSpec, tmp_path: Path, chat: Say
) -> None:
    from clonk_claudecode.errors import WorkingDirLost

    with pytest.raises(WorkingDirLost):
        await chat(new_spec(working_dir=tmp_path / "gone"), "hello")
