"""What `clonk demo` shows, step by step. Every step checks what it claims."""

from collections import Counter
from collections.abc import AsyncIterable, Sequence
from typing import Any, Final

import trio

from clonk_claudecode.demo.show import DemoFailed, Show, curl
from clonk_claudecode.demo.stage import Stage, git
from clonk_claudecode.terminal.screen import TurnView, tokens_text
from clonk_core.client.base import ClientError, StreamEvent
from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient

SESSION: Final = "demo"
FILE: Final = "notes.txt"
SENTENCE: Final = "hi from Clonk"

HELLO: Final = "Hello! Say in a sentence who you are."
WRITE: Final = f'Write a file {FILE} saying "{SENTENCE}"'
COUNT: Final = "Count slowly from 0 to 199, all numbers on one line, nothing else."

CUT_AFTER_SCRIPTED: Final = 60
"""Events before the connection is cut; the scripted answer has some 200."""

CUT_AFTER_LIVE: Final = 4
"""The real model sends fewer and larger pieces."""

AWAY_S: Final = 0.5
"""How long nobody reads; the answer takes about three seconds."""

LIMIT_S: Final = 300.0
"""Longest time for everything; the scripted demonstration takes about ten seconds."""


async def play(stage: Stage, show: Show) -> None:
    """Show everything.

    Raises:
        DemoFailed: Something is not as it should be.
    """
    try:
        with trio.fail_after(LIMIT_S):
            _introduce(stage, show)
            async with (
                HttpClient(stage.server.http_url, api_key=stage.key) as http,
                WebSocketClient(stage.server.websocket_url, api_key=stage.key) as socket,
            ):
                await _create(stage, show, http)
                await _chat_over_sse(stage, show, http)
                await _write_over_websocket(stage, show, socket)
                counted = await _cut_and_resume(stage, show, http, socket)
                await _look_back(stage, show, http, counted)
            await _end(stage, show)
    except ClientError as error:
        raise DemoFailed(str(error)) from error
    except trio.TooSlowError as error:
        raise DemoFailed(f"it took longer than {LIMIT_S:g} s") from error


def _introduce(stage: Stage, show: Show) -> None:
    model = "the real model, with your credential" if stage.live else "a scripted model on this machine; no account"
    show.title("Clonk runs Claude Code as a service. Everything below is real, and happens now.")
    show.say(f"Claude Code {stage.binary.version_text}: {stage.binary.path}")
    show.say(f"What Claude says comes from {model}.")
    show.say(f"Configuration, databases, log and a git repository: {stage.folder}")
    show.by_hand("clonk serve --config clonk.yaml")
    show.by_hand(f"export CLONK_API_KEY={stage.key}")
    show.say(f"listening: {stage.server.http_url} and {stage.server.websocket_url}")


async def _create(stage: Stage, show: Show, http: HttpClient) -> None:
    show.step("Create a session in a git repository, over HTTP")
    params = {"name": SESSION, "working_dir": str(stage.workspace), "permission_mode": "acceptEdits"}
    show.by_hand(curl(_mcp(stage), _request("claudecode.create", params)))
    created = await http.call("claudecode.create", **params)
    show.value(created)
    show.check(
        "the session exists and works in the repository",
        created["name"] == SESSION and created["working_dir"] == str(stage.workspace),
        created,
    )


async def _chat_over_sse(stage: Stage, show: Show, http: HttpClient) -> None:
    show.step("Send a prompt; the answer streams as server-sent events")
    params = {"name": SESSION, "prompt": HELLO}
    show.by_hand(curl(_mcp(stage), _request("claudecode.chat", params), stream=True))
    async with http.stream("claudecode.chat", **params) as events:
        heard = await _show_turn(show, events)
    _check_run(show, heard)
    show.check("Claude answered with text", bool(_streamed_text(heard).strip()))


async def _write_over_websocket(stage: Stage, show: Show, socket: WebSocketClient) -> None:
    show.step("Over WebSocket, on the same session: let Claude write a file with a tool")
    params = {"name": SESSION, "prompt": WRITE}
    show.by_hand(f"clonk chat {SESSION} --url {stage.server.websocket_url} --prompt '{WRITE}'")
    async with socket.stream("claudecode.chat", **params) as events:
        heard = await _show_turn(show, events)
    _check_run(show, heard)
    used = [event["tool"] for event in _of_type(heard, "tool_use")]
    results = _of_type(heard, "tool_result")
    show.check("Claude used a tool, and it worked", bool(used) and not results[-1]["is_error"], used)
    show.by_hand(f"git -C {stage.workspace} status --short")
    status = await git(stage.workspace, "status", "--short")
    show.say(status.rstrip(), style="")
    show.by_hand(f"cd {stage.workspace}; git add --intent-to-add {FILE}; git diff")
    await git(stage.workspace, "add", "--intent-to-add", FILE)
    show.say((await git(stage.workspace, "diff")).rstrip(), style="")
    content = await trio.Path(stage.workspace / FILE).read_text(encoding="utf-8")
    show.check(
        f"git sees the new file {FILE}, and nothing else has changed",
        status.split() == ["??", FILE] and SENTENCE in content,
        status,
    )


async def _cut_and_resume(stage: Stage, show: Show, http: HttpClient, socket: WebSocketClient) -> str:
    """Cut the connection in the middle of a long answer, come back, and return the answer's whole text."""
    cut_after = CUT_AFTER_LIVE if stage.live else CUT_AFTER_SCRIPTED
    show.step("Cut the connection in the middle of a slow answer, and come back")
    params = {"name": SESSION, "prompt": COUNT}
    show.by_hand(curl(_mcp(stage), _request("claudecode.chat", params), stream=True))
    before: list[StreamEvent] = []
    async with HttpClient(stage.server.http_url, api_key=stage.key) as other:
        async with other.stream("claudecode.chat", **params) as events:
            subscription = events.subscription
            async for event in events:
                before.append(event)
                if len(before) == cut_after or event.event["type"] == "done":
                    break
    show.say("event numbers that came:")
    show.numbers([event.seq for event in before], "cyan")
    show.say(f"✂ the connection is closed after event {before[-1].seq}; nobody reads for {AWAY_S:g} s", style="yellow")
    show.check("the answer was not finished", before[-1].event["type"] != "done", before[-1].event)
    await trio.sleep(AWAY_S)
    run = next(one for one in await http.call("rpc.subscriptions") if one["subscription"] == subscription)
    show.say(f"meanwhile: {run['state']}, at event {run['last_seq']}")
    show.check("the answer went on without a reader", run["last_seq"] > before[-1].seq, run)
    show.by_hand(curl(_mcp(stage), headers=[f"Last-Event-ID: {subscription}/{before[-1].seq}"], stream=True))
    async with http.resume(subscription, after=before[-1].seq) as events:
        after = [event async for event in events]
    show.numbers([event.seq for event in after], "green")
    heard = [*before, *after]
    _check_run(show, heard)
    text = _streamed_text(heard)
    whole = "".join(message["content"] for message in _of_type(heard, "assistant_message"))
    show.say(f"{text[:60]} … {text[-30:]}".replace("\n", " "), style="")
    show.check("the pieces make up the whole answer, character by character", text == whole, (len(text), len(whole)))
    async with socket.resume(subscription, after=0) as events:
        again = [event async for event in events]
    show.check(
        "read once more from the beginning, over WebSocket, every event is the same",
        [(event.seq, event.event) for event in again] == [(event.seq, event.event) for event in heard],
    )
    return whole


async def _look_back(stage: Stage, show: Show, http: HttpClient, counted: str) -> None:
    show.step("Everything is kept: the session's history")
    show.by_hand(curl(_mcp(stage), _request("claudecode.history", {"name": SESSION})))
    history = await http.call("claudecode.history", name=SESSION)
    for message in history:
        show.say(f"{message['seq']:>3}  {message['role']:<9}  {_short(message['content'])}", style="")
    prompts = [message["content"] for message in history if isinstance(message["content"], str)]
    show.check("it holds all three prompts in order", prompts == [HELLO, WRITE, COUNT], prompts)
    show.check("and the counted answer as it was shown", counted in _text(history[-1]["content"]))


async def _end(stage: Stage, show: Show) -> None:
    show.step("The end: SIGTERM")
    show.by_hand(f"kill {stage.server.pid}")
    code = await stage.server.stop()
    show.check("the server ended in order, exit code 0", code == 0, code)
    left = await stage.server.leftovers()
    show.check("no process is left", not left, left)


async def _show_turn(show: Show, events: AsyncIterable[StreamEvent]) -> list[StreamEvent]:
    """Show a turn as it comes and return its events."""
    view: TurnView = show.turn()
    heard = []
    async for event in events:
        view.event(event.event)
        heard.append(event)
    return heard


def _check_run(show: Show, heard: Sequence[StreamEvent]) -> None:
    """Check that a run was read without a hole and without anything twice, to a good end."""
    kinds = Counter(event.event["type"] for event in heard)
    show.say(f"{len(heard)} events: " + ", ".join(f"{kind} {count}" for kind, count in kinds.items()))
    done = heard[-1].event
    if done.get("usage"):
        show.say(tokens_text(done["usage"]))
    seqs = [event.seq for event in heard]
    show.check(
        f"numbered 1 to {len(seqs)}, none missing, none twice; the last one is `done`, complete",
        seqs == list(range(1, len(seqs) + 1))
        and kinds["done"] == 1
        and done["type"] == "done"
        and done["outcome"] == "complete",
        done,
    )


def _of_type(heard: Sequence[StreamEvent], kind: str) -> list[dict[str, Any]]:
    return [event.event for event in heard if event.event["type"] == kind]


def _streamed_text(heard: Sequence[StreamEvent]) -> str:
    """Return the pieces of text joined, without those that a restart has taken back."""
    kept: list[str] = []
    whole_until = 0
    for event in (one.event for one in heard):
        if event["type"] == "text_delta":
            kept.append(event["text"])
        elif event["type"] == "assistant_message":
            whole_until = len(kept)
        elif event["type"] == "restart":
            del kept[whole_until:]
    return "".join(kept)


def _text(content: Any) -> str:
    """Return the text in a message of the history."""
    blocks = content if isinstance(content, list) else []
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in blocks)


def _short(content: Any) -> str:
    """Return a message of the history on one line."""
    if isinstance(content, str):
        line = content
    else:
        line = " ".join(block.get("text") or f"[{block.get('name') or block['type']}]" for block in content)
    line = " ".join(line.split())
    return line if len(line) <= 90 else line[:89] + "…"


def _mcp(stage: Stage) -> str:
    return f"{stage.server.http_url}/mcp"


def _request(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
