"""The scripted model over plain HTTP, and with the real Claude Code binary."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from clonk_claudecode.testing.demo_script import builtin_demo_script
from clonk_claudecode.testing.script import (
    Attempts,
    Cut,
    Fail,
    Hang,
    LongText,
    Reply,
    Rule,
    Script,
    Slow,
    Text,
    Thinking,
    ToolUse,
    Usage,
    Wait,
)
from clonk_claudecode.testing.script_file import ScriptError, parse_script
from clonk_claudecode.testing.scripted_model import ScriptedModel, scripted_model

# ── plain HTTP ───────────────────────────────────────────────────────────────


def body_for(*prompts: str, stream: bool = True, **more: Any) -> dict[str, Any]:
    """A conversation in which every prompt but the last was answered."""
    messages: list[dict[str, Any]] = []
    for prompt in prompts:
        messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": "yes"}]
    return {"model": "claude-test-1", "max_tokens": 100, "stream": stream, "messages": messages[:-1]} | more


@asynccontextmanager
async def client_for(model: ScriptedModel) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=model.base_url, headers={"x-api-key": "test-token"}, timeout=20) as client:
        yield client


async def ask(model: ScriptedModel, *prompts: str, **more: Any) -> httpx.Response:
    async with client_for(model) as client:
        return await client.post("/v1/messages", json=body_for(*prompts, **more))


def events_of(text: str) -> list[dict[str, Any]]:
    frames = [frame.split("\n") for frame in text.split("\n\n") if frame]
    for name, line in frames:
        assert name == f"event: {json.loads(line.removeprefix('data: '))['type']}"
    return [json.loads(line.removeprefix("data: ")) for _, line in frames]


def text_of(events: list[dict[str, Any]]) -> str:
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta["text"] for delta in deltas if delta["type"] == "text_delta")


def error_of(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert body["type"] == "error"
    return response.status_code, body["error"]["type"]


async def test_a_streamed_reply_has_all_events_of_the_messages_api_in_order() -> None:
    reply = Reply([Thinking("hm"), Text("one two", deltas=2), ToolUse("Read", {"file_path": "/x"}, id="toolu_1")])
    async with scripted_model(reply) as model:
        events = events_of((await ask(model, "go")).text)
    order: list[str] = []
    for event in events:
        if not order or order[-1] != event["type"]:
            order.append(event["type"])
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert order == ["message_start", "ping", *block * 3, "message_delta", "message_stop"]
    starts = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert starts == ["thinking", "text", "tool_use"]
    parts = [event["delta"].get("partial_json", "") for event in events if event["type"] == "content_block_delta"]
    assert json.loads("".join(parts)) == {"file_path": "/x"}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_the_same_reply_comes_as_one_object_without_streaming() -> None:
    reply = Reply(["a ", "b", ToolUse("Read", {"file_path": "/x"})], usage=Usage(output_tokens=7))
    async with scripted_model(reply) as model:
        message = (await ask(model, "go", stream=False)).json()
    assert [block["type"] for block in message["content"]] == ["text", "tool_use"]
    assert message["content"][0]["text"] == "a b"
    assert message["content"][1]["input"] == {"file_path": "/x"}
    assert (message["stop_reason"], message["model"]) == ("tool_use", "claude-test-1")
    assert message["usage"]["output_tokens"] == 7


async def test_rules_answer_by_prompt_and_the_queue_and_the_default_answer_the_rest() -> None:
    async with scripted_model([Rule("RED", "red one"), "queued one", "queued two"]) as model:
        said = [text_of(events_of((await ask(model, prompt)).text)) for prompt in ("x", "now red", "y", "the end")]
    assert said == ["queued one", "red one", "queued two", "You said: the end"]


async def test_the_place_in_a_turn_is_read_from_the_messages_and_survives_retries() -> None:
    rule = Rule("^do it", [ToolUse("Bash", {"command": "true"}, id="toolu_1"), "after the tool"])
    conversation = [
        {"role": "user", "content": "do it"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "fine"},
                {"type": "text", "text": "<system-reminder>not a prompt</system-reminder>"},
            ],
        },
    ]
    async with scripted_model([rule]) as model:
        for _ in range(2):
            answer = await ask(model, "-", messages=conversation)
            assert text_of(events_of(answer.text)) == "after the tool"
        request = model.turns[0]
    assert (request.prompt, request.place, request.tool_results[0]["content"]) == ("do it", 1, "fine")


async def test_attempts_give_each_try_of_one_request_its_own_answer() -> None:
    script = [Rule("flaky", Attempts([Fail(529), Fail(429, retry_after=2), "well"]))]
    async with scripted_model(script) as model:
        first, second, third, fourth = [await ask(model, "flaky") for _ in range(4)]
        other = await ask(model, "flaky again")
    assert error_of(first) == (529, "overloaded_error")
    assert error_of(second) == (429, "rate_limit_error")
    assert second.headers["retry-after"] == "2"
    assert text_of(events_of(third.text)) == text_of(events_of(fourth.text)) == "well"
    assert other.status_code == 529


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (500, "api_error"), (529, "overloaded_error")],
)
async def test_errors_come_in_the_shape_of_the_api(status: int, kind: str) -> None:
    async with scripted_model(Fail(status)) as model:
        assert error_of(await ask(model, "go")) == (status, kind)


async def test_a_cut_closes_the_connection_in_the_middle_of_the_stream() -> None:
    async with scripted_model(Cut(after=5)) as model, client_for(model) as client:
        received = ""
        with pytest.raises(httpx.RemoteProtocolError):
            async with client.stream("POST", "/v1/messages", json=body_for("go")) as response:
                async for part in response.aiter_text():
                    received += part
        assert len(events_of(received)) == 5
        with pytest.raises(httpx.RemoteProtocolError):
            async with scripted_model(Cut()) as silent:
                await ask(silent, "go")


async def test_a_hanging_reply_sends_its_beginning_and_then_nothing() -> None:
    async with scripted_model(Hang(after=4)) as model, client_for(model) as client:
        async with client.stream("POST", "/v1/messages", json=body_for("go")) as response:
            chunks = response.aiter_text()
            received = ""
            while received.count("\n\n") < 4:
                received += await anext(chunks)
            with trio.move_on_after(0.2) as silence:
                await anext(chunks)
            assert silence.cancelled_caught


async def test_a_hang_from_the_start_sends_not_even_headers() -> None:
    async with scripted_model(Hang()) as model:
        with trio.move_on_after(0.2) as silence:
            await ask(model, "go")
    assert silence.cancelled_caught


async def test_a_gate_holds_a_reply_in_the_middle_of_its_text_until_it_is_released() -> None:
    async with scripted_model(Reply(["before ", Wait("door"), "after"])) as model, client_for(model) as client:
        async with client.stream("POST", "/v1/messages", json=body_for("go")) as response:
            chunks = response.aiter_text()
            received = ""
            while "before" not in received:
                received += await anext(chunks)
            await model.wait_reached("door")
            assert "after" not in received
            model.release("door")
            async for part in chunks:
                received += part
    events = events_of(received)
    assert text_of(events) == "before after"
    assert sum(event["type"] == "content_block_start" for event in events) == 1


async def test_a_gate_can_be_an_event_of_the_test() -> None:
    event = trio.Event()
    async with scripted_model(Reply([Wait(event), "open"])) as model, trio.open_nursery() as nursery:

        async def run() -> None:
            assert text_of(events_of((await ask(model, "go")).text)) == "open"

        nursery.start_soon(run)
        request = await model.wait_request(1)
        assert request.prompt == "go"
        event.set()


async def test_a_slow_reply_is_whole() -> None:
    async with scripted_model(Slow(Reply("a b c"), first_s=0.01, each_s=0.001)) as model:
        assert text_of(events_of((await ask(model, "go")).text)) == "a b c"


async def count_deltas(base_url: str) -> int:
    """Ask over a bare socket and count without parsing, so that the model is what is measured."""
    body = json.dumps(body_for("go")).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    mark = b"event: content_block_delta"
    deltas, tail = 0, b""
    async with await trio.open_tcp_stream("127.0.0.1", int(base_url.rpartition(":")[2])) as stream:
        await stream.send_all(head.encode() + body)
        async for part in stream:
            seen = tail + part
            deltas += seen.count(mark)
            # The last bytes may hold the first part of a mark, but never a whole one: that was counted.
            tail = seen[-(len(mark) - 1) :]
    return deltas


@pytest.mark.alone
async def test_a_very_long_reply_is_produced_faster_than_50_000_deltas_a_second() -> None:
    """The best of three, as the machine may be busy."""
    async with scripted_model(LongText(50_000)) as model:
        best_s = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            assert await count_deltas(model.base_url) == 50_000
            best_s = min(best_s, time.perf_counter() - started)
    assert best_s < 1.0


async def test_the_long_text_counts_without_a_gap() -> None:
    async with scripted_model(LongText(3_000)) as model:
        said = text_of(events_of((await ask(model, "go")).text))
    assert said == LongText(3_000).text
    assert said.split() == [str(number) for number in range(3_000)]


async def test_the_required_token_is_checked_and_every_token_is_recorded() -> None:
    async with scripted_model(required_token="right-token") as model, client_for(model) as client:
        refused = await client.post("/v1/messages", json=body_for("go"))
        headers = {"x-api-key": "", "authorization": "Bearer right-token"}
        accepted = await client.post("/v1/messages", json=body_for("go"), headers=headers)
    assert error_of(refused) == (401, "authentication_error")
    assert accepted.status_code == 200
    assert [request.token for request in model.requests] == ["test-token", "right-token"]


async def test_small_requests_of_the_client_do_not_use_up_the_script() -> None:
    titled = {"system": "You are naming a coding session", "output_config": {"format": {"type": "json_schema"}}}
    async with scripted_model(["the one answer"]) as model:
        probe = await ask(model, "quota", max_tokens=1)
        title = await ask(model, "cats", tools=[], stream=False, **titled)
        summary = await ask(model, "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools.")
        answer = await ask(model, "go")
    assert probe.status_code == summary.status_code == 200
    assert "title" in json.loads(title.json()["content"][0]["text"])
    assert text_of(events_of(answer.text)) == "the one answer"
    assert [request.kind for request in model.requests] == ["side", "side", "side", "turn"]


async def test_tokens_are_counted_the_same_every_time() -> None:
    async with scripted_model() as model, client_for(model) as client:
        small, again, large = [
            (await client.post("/v1/messages/count_tokens", json=body_for(prompt))).json()["input_tokens"]
            for prompt in ("go", "go", "go " * 400)
        ]
    assert small == again
    assert 200 < large - small < 400


async def test_probes_are_answered_and_unknown_paths_get_an_error_of_the_api() -> None:
    async with scripted_model() as model, client_for(model) as client:
        assert (await client.head("/")).status_code == 200
        assert (await client.get("/")).status_code == 200
        assert (await client.head("/api/hello")).status_code == 200
        assert error_of(await client.post("/v1/nothing", json={})) == (404, "not_found_error")
        assert error_of(await client.post("/v1/messages", content=b"{")) == (404, "not_found_error")
    assert model.requests[3].path == "/v1/nothing"


async def test_a_client_that_leaves_does_not_disturb_the_others() -> None:
    async with scripted_model([Rule("stay", Hang(after=3))]) as model:
        with trio.move_on_after(0.2):
            await ask(model, "stay")
        assert text_of(events_of((await ask(model, "next")).text)) == "You said: next"


async def test_an_error_of_the_block_comes_out_as_it_was_raised() -> None:
    with pytest.raises(KeyError):
        async with scripted_model():
            raise KeyError("mine")


async def test_rules_can_be_added_while_the_model_runs() -> None:
    async with scripted_model() as model:
        model.add(Rule("new", "from the new rule"), "from the queue")
        assert text_of(events_of((await ask(model, "new")).text)) == "from the new rule"
        assert text_of(events_of((await ask(model, "else")).text)) == "from the queue"


# ── scripts from JSON, and the program ───────────────────────────────────────


def test_a_script_file_says_the_same_as_the_classes() -> None:
    written = {
        "rules": [{"when": "x", "turns": [{"tool_use": "Write", "input": {"a": 1}}, "done"]}],
        "queue": [
            {"reply": [{"thinking": "hm"}, {"text": "a", "deltas": 1}, {"wait": "g"}], "usage": {"output_tokens": 3}},
            {"attempts": [{"fail": 529, "retry_after": 1}, {"long_text": 5}]},
            {"hang": 2},
            {"cut": 3, "reply": ["a"]},
            {"slow": ["a"], "each_s": 0.5},
        ],
        "default": "no",
    }
    built = Script(
        rules=[Rule("x", [Reply(ToolUse("Write", {"a": 1})), Reply("done")])],
        queue=[
            Reply([Thinking("hm"), Text("a", deltas=1), Wait("g")], usage=Usage(output_tokens=3)),
            Fail(529, retry_after=1.0),
            Reply(LongText(5)),
            Hang(2),
            Cut(3, Reply("a")),
            Slow(Reply("a"), each_s=0.5),
        ],
        default=Reply("no"),
    )
    assert parse_script(json.dumps(written)) == built


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("{", "$"),
        ("[]", "$"),
        ('{"rule": []}', "$.rule"),
        ('{"rules": [{"when": "("}]}', "$.rules[0].when"),
        ('{"rules": [{"when": "x", "turns": [1]}]}', "$.rules[0].turns[0]"),
        ('{"queue": [{"text": 1}]}', "$.queue[0].text"),
        ('{"queue": [{"text": "a", "deltas": true}]}', "$.queue[0].deltas"),
        ('{"queue": [{"reply": [{"fail": 500}]}]}', "$.queue[0].reply[0]"),
        ('{"default": {"sleep": -1}}', "$.default.sleep"),
        ('{"default": {"deltas": 1}}', "$.default"),
    ],
)
def test_a_bad_script_file_is_refused_with_the_place(written: str, place: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script(written)
    assert str(caught.value).endswith(f"@ {place}")


@asynccontextmanager
async def model_process(*arguments: str) -> AsyncIterator[tuple[str, trio.Process]]:
    """The scripted model as its own process; yields its URL."""
    command = [sys.executable, "-m", "clonk_claudecode.testing.scripted_model", *arguments]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            received = await process.stdout.receive_some()
            assert received, "the model ended before it said where it listens"
            line += received
        yield line.decode().strip(), process
    finally:
        process.kill()
        with trio.CancelScope(shield=True), trio.move_on_after(5):
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


async def test_the_model_runs_as_a_program_with_gates_and_a_log(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": {"reply": ["a ", {"wait": "door"}, "b"]}}))
    log = tmp_path / "requests.jsonl"
    async with model_process("--script", str(script), "--log", str(log)) as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=20) as client, trio.open_nursery() as nursery:

            async def run() -> None:
                answer = await client.post("/v1/messages", json=body_for("go"))
                assert text_of(events_of(answer.text)) == "a b"

            nursery.start_soon(run)
            await client.get("/_scripted/reached/door")
            requests = (await client.get("/_scripted/requests")).json()
            assert [request["prompt"] for request in requests if request["kind"] == "turn"] == ["go"]
            await client.post("/_scripted/release/door")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [request["prompt"] for request in logged if request["kind"] == "turn"] == ["go"]


async def test_the_program_refuses_a_script_it_cannot_read(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clonk_claudecode.testing.scripted_model", "--script", str(tmp_path / "none.json")]
    result = await trio.run_process(command, capture_stderr=True, check=False)
    assert result.returncode == 2
    assert b"none.json" in result.stderr


# ── the real binary ──────────────────────────────────────────────────────────

FLAGS = [
    *("-p", "--verbose", "--include-partial-messages", "--permission-prompt-tool", "stdio"),
    *("--input-format", "stream-json", "--output-format", "stream-json", "--setting-sources", ""),
]


def find_binary() -> str | None:
    spec = find_spec("claude_agent_sdk")
    for place in spec.submodule_search_locations or () if spec else ():
        if (bundled := Path(place) / "_bundled" / "claude").is_file():
            return str(bundled)
    return shutil.which("claude")


@attrs.frozen
class Claude:
    """The real binary in a git repository of its own."""

    binary: str
    home: Path

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    async def run(self, model: ScriptedModel, prompt: str, *flags: str, **env: str) -> list[dict[str, Any]]:
        """Run one prompt in a process of its own and return the frames."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CLAUDE_CONFIG_DIR": str(self.home / "claude"),
            "ANTHROPIC_BASE_URL": model.base_url,
            "ANTHROPIC_API_KEY": "sk-ant-test",
            "DISABLE_TELEMETRY": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        } | env
        message = {"role": "user", "content": prompt}
        frame = json.dumps({"type": "user", "message": message, "parent_tool_use_id": None}) + "\n"
        result = await trio.run_process(
            [self.binary, *FLAGS, *flags],
            stdin=frame.encode(),
            capture_stdout=True,
            check=False,
            env=environment,
            cwd=self.workspace,
        )
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def claude(tmp_path: Path) -> Claude:
    binary = find_binary()
    if binary is None:
        pytest.skip("needs a Claude Code binary")
    claude = Claude(binary, tmp_path)
    subprocess.run(["git", "init", "-q", "-b", "main", str(claude.workspace)], check=True)
    return claude


def streamed_text(frames: list[dict[str, Any]]) -> str:
    return text_of([frame["event"] for frame in frames if frame["type"] == "stream_event"])


async def test_the_real_binary_streams_a_scripted_text(claude: Claude) -> None:
    async with scripted_model([Rule("tell me", Reply([Thinking("hm"), "Once upon a time."]))]) as model:
        frames = await claude.run(model, "Please tell me a story")
    assert streamed_text(frames) == "Once upon a time."
    assert (frames[-1]["type"], frames[-1]["is_error"], frames[-1]["result"]) == ("result", False, "Once upon a time.")
    assert [request.prompt for request in model.turns] == ["Please tell me a story"]
    assert model.turns[0].token == "sk-ant-test"
    assert model.turns[0].working_dir == str(claude.workspace)


async def test_the_real_binary_writes_a_file_with_a_scripted_tool_call(claude: Claude) -> None:
    async with scripted_model(builtin_demo_script()) as model:
        prompt = f'Write a file {claude.workspace}/notes.txt saying "hello from Clonk"'
        frames = await claude.run(model, prompt, "--permission-mode", "acceptEdits")
    assert (claude.workspace / "notes.txt").read_text() == "hello from Clonk\n"
    assert frames[-1]["result"] == "Done: notes.txt is in the workspace."
    assert [request.place for request in model.turns] == [0, 1]


async def test_the_demo_finds_the_workspace_by_itself_when_the_prompt_names_a_bare_file(claude: Claude) -> None:
    async with scripted_model(builtin_demo_script()) as model:
        await claude.run(model, "Create hello.md, please.", "--permission-mode", "acceptEdits")
    assert (claude.workspace / "hello.md").is_file()


async def test_the_demo_looks_at_the_repository_without_asking_for_permission(claude: Claude) -> None:
    (claude.workspace / "new.txt").write_text("new")
    async with scripted_model(builtin_demo_script()) as model:
        frames = await claude.run(model, "What does git status say?")
    assert "?? new.txt" in frames[-1]["result"]


async def test_the_real_binary_retries_after_529_and_succeeds(claude: Claude) -> None:
    async with scripted_model([Rule("busy", Attempts([Fail(529), "finally"]))]) as model:
        frames = await claude.run(model, "are you busy")
    retries = [frame for frame in frames if frame.get("subtype") == "api_retry"]
    assert len(retries) == 1
    assert (frames[-1]["is_error"], frames[-1]["result"]) == (False, "finally")
    assert len(model.turns) == 2


async def test_the_real_binary_gives_up_on_401(claude: Claude) -> None:
    async with scripted_model(required_token="another") as model:
        frames = await claude.run(model, "hello", CLAUDE_CODE_MAX_RETRIES="0")
    assert frames[-1]["type"] == "result"
    assert frames[-1]["is_error"] is True


async def test_the_real_binary_recovers_from_a_cut_stream(claude: Claude) -> None:
    async with scripted_model([Rule("cut", Attempts([Cut(after=6), "whole again"]))]) as model:
        frames = await claude.run(model, "cut please")
    assert frames[-1]["result"].endswith("whole again")


async def test_a_session_without_tools_is_still_a_conversation(claude: Claude) -> None:
    async with scripted_model(["the one answer"]) as model:
        frames = await claude.run(model, "hello", "--tools", "")
    assert frames[-1]["result"] == "the one answer"
    assert [request.kind for request in model.turns] == ["turn"]
