"""`clonk chat` against a real server with the real binary and a scripted model, in pipes and in a terminal."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import attrs
import httpx
import pytest
import trio

DEADLINE_S = 60.0

LONG = "".join(f"{number} " for number in range(300))

QUESTION = {
    "questions": [
        {
            "question": "Which colour?",
            "header": "Colour",
            "multiSelect": False,
            "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}],
        }
    ]
}

RULES = [
    {"when": "^hello", "turns": ["Hello from the script."]},
    {"when": "^long", "turns": [{"long_text": 300, "delay_s": 0.005}]},
    {"when": "^hang", "turns": [{"reply": ["It begins ", {"wait": "never"}]}]},
    {"when": "^watched", "turns": [{"reply": ["It begins ", {"wait": "watched"}, "and ends."]}]},
    {
        "when": "^compute",
        "turns": [{"reply": [{"tool_use": "Bash", "input": {"command": "python3 -c 'print(6*7)'"}}]}, "Computed."],
    },
    {"when": "^ask me", "turns": [{"reply": [{"tool_use": "AskUserQuestion", "input": QUESTION}]}, "Well chosen."]},
    {"when": "^broken", "turns": [{"fail": 400, "message": "the script refuses"}]},
    {"when": "^as an object", "turns": [{"tool_use": "StructuredOutput", "input": {"name": "Ada"}}]},
]


@attrs.frozen
class House:
    """A running server.

    Attributes:
        url: Its HTTP address.
        websocket_url: Where it speaks WebSocket.
        model_url: The scripted model.
        folder: Where its files are.
        environment: For programs started by tests.
    """

    url: str
    websocket_url: str
    model_url: str
    folder: Path
    environment: dict[str, str]

    def chat(self, *arguments: str, given: str = "", url: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `clonk chat` in pipes to its end."""
        return subprocess.run(
            self.command(*arguments, url=url),
            check=False,
            input=given,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            env=self.environment,
        )

    def command(self, *arguments: str, url: str | None = None) -> list[str]:
        return [sys.executable, "-m", "clonk_core", "chat", *arguments, "--url", url or self.url]

    def call(self, method: str, **params: Any) -> Any:
        """Call a method, past everything that is tested here."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(f"{self.url}/mcp", json=body, timeout=DEADLINE_S).json()
        assert "error" not in answer, answer
        return answer["result"]

    def create(self, name: str) -> None:
        self.call("claudecode.create", name=name, working_dir=str(self.folder))

    def wait_busy(self, name: str) -> str:
        """Wait until the session answers a prompt and return the run."""
        give_up = time.monotonic() + DEADLINE_S
        while time.monotonic() < give_up:
            subscription = self.call("claudecode.get", name=name)["subscription"]
            if subscription is not None:
                return str(subscription)
        raise AssertionError("the session never became busy")

    def release(self, gate: str) -> None:
        httpx.post(f"{self.model_url}/_scripted/release/{gate}", timeout=DEADLINE_S).raise_for_status()


def _first_line(stream: IO[str], fitting: str) -> str:
    """Read lines until one fits; the reader's deadline is the program's own end."""
    for line in stream:
        if re.search(fitting, line):
            return line
    raise AssertionError(f"the program ended without a line like {fitting!r}")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("chat").resolve()
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("CLONK_", "ANTHROPIC_", "CLAUDE"))
    }
    environment = {**kept, "HOME": str(folder), "TERM": "xterm", "COLUMNS": "200"}
    script = folder / "script.json"
    script.write_text(json.dumps({"rules": RULES}))
    config = folder / "clonk.yaml"
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **pipes: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", *arguments]
        process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
            command, text=True, env=environment, stdin=subprocess.DEVNULL, **pipes
        )
        started.append(process)
        return process

    try:
        model = start("clonk_claudecode.testing.scripted_model", "--script", str(script), stdout=subprocess.PIPE)
        assert model.stdout is not None
        model_url = _first_line(model.stdout, "http").strip()
        settings = {
            "server": {"http_port": 0, "websocket_port": 0},
            "auth": {"enabled": False},
            "storage": {"data_dir": str(folder / "data")},
            "workspaces": {"roots": [str(folder)]},
            "logging": {"format": "json"},
            "claudecode": {"api_key": "worthless", "env": {"ANTHROPIC_BASE_URL": model_url}},
        }
        config.write_text(json.dumps(settings))
        log = folder / "server.log"
        server = start("clonk_core", "serve", "--config", str(config), stderr=subprocess.PIPE)
        assert server.stderr is not None
        ready = json.loads(_first_line(server.stderr, '"listening"'))
        with log.open("w") as file:
            # What is logged from here on must not fill the pipe.
            drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=file)
            started.append(drain)  # type: ignore[arg-type]
            yield House(ready["http"].removesuffix("/mcp"), ready["websocket"], model_url, folder, environment)
    finally:
        for process in reversed(started[:2]):
            process.terminate()
        for process in started:
            process.wait(timeout=DEADLINE_S)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes standard input the terminal that signals the program, as a shell does, and then is the program."""


class Terminal:
    """`clonk chat` in a terminal of its own."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""
        self._seen = 0

    def read_until(self, expected: str) -> str:
        """Read until a text that has not been read yet; return what came up to its end."""
        give_up = time.monotonic() + DEADLINE_S
        while expected not in self.text[self._seen :]:
            assert select.select([self._master], [], [], max(0.0, give_up - time.monotonic()))[0], self.text
            try:
                piece = os.read(self._master, 65536)
            except OSError:
                piece = b""
            assert piece, f"it ended without {expected!r}: {self.text}"
            # Colours and the prompt's line editing are not what is asked for here.
            self.text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", piece.decode())
        end = self.text.index(expected, self._seen) + len(expected)
        came, self._seen = self.text[self._seen : end], end
        return came

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.type("\x03")

    def interrupt_until_end(self) -> int:
        """Press Ctrl-C at the prompt and return the exit code.

        Python's readline does not see a signal that comes just before it begins to wait for a key, so press again.
        """
        for _ in range(5):
            self.interrupt()
            self._read_to_end(within_s=2)
            if self.process.poll() is not None:
                break
        return self.wait()

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        self._read_to_end(within_s=DEADLINE_S)
        return self.process.wait(timeout=5)

    def _read_to_end(self, within_s: float) -> None:
        """Read until the program ends: a terminal that nobody reads would hold it up."""
        give_up = time.monotonic() + within_s
        while self.process.poll() is None and time.monotonic() < give_up:
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self._master, 65536).decode(errors="replace")
                except OSError:
                    break

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


@pytest.fixture
def open_chat(house: House, terminals: list[Terminal]) -> Any:
    def open_(*arguments: str) -> Terminal:
        terminal = Terminal(house.command(*arguments), house.environment)
        terminals.append(terminal)
        return terminal

    return open_


# ── once ─────────────────────────────────────────────────────────────────────


def test_one_prompt_prints_only_the_answer_to_standard_output(house: House) -> None:
    house.create("once")
    done = house.chat("once", "--prompt", "hello you")
    assert (done.returncode, done.stdout) == (0, "Hello from the script.\n")
    assert "tokens in" in done.stderr


def test_the_prompt_comes_from_standard_input_when_that_is_no_terminal(house: House) -> None:
    house.create("piped")
    done = house.chat("piped", given="hello from a pipe\nwith two lines\n")
    assert (done.returncode, done.stdout) == (0, "Hello from the script.\n")
    prompt = house.call("claudecode.history", name="piped")[0]["content"]
    assert prompt == "hello from a pipe\nwith two lines\n"


def test_it_speaks_websocket_too(house: House) -> None:
    house.create("socket")
    done = house.chat("socket", "--prompt", "hello", url=house.websocket_url)
    assert (done.returncode, done.stdout) == (0, "Hello from the script.\n")


def test_a_missing_session_is_an_error_that_names_the_way_out(house: House) -> None:
    done = house.chat("missing", "--prompt", "hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--create" in done.stderr


def test_create_makes_the_session_as_told(house: House) -> None:
    folder = house.folder / "made here"
    folder.mkdir()
    options = ("--create", "--working-dir", str(folder), "--model", "opus", "--permission-mode", "plan")
    done = house.chat("made", "--prompt", "hello", *options)
    assert (done.returncode, done.stdout) == (0, "Hello from the script.\n")
    session = house.call("claudecode.get", name="made")
    expected = {"working_dir": str(folder), "model": "opus", "permission_mode": "plan"}
    assert {key: session[key] for key in expected} == expected


def test_what_the_server_refuses_is_told_in_its_words(house: House) -> None:
    done = house.chat("elsewhere", "--prompt", "hello", "--create", "--working-dir", "/proc")
    assert done.returncode == 1
    assert "workspaces.roots" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_go_along_and_an_answer_fits_the_schema_and_the_session_keeps_its_model(house: House) -> None:
    house.create("asked")
    schema, notes = house.folder / "schema.json", house.folder / "notes.md"
    schema.write_text('{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}')
    notes.write_text("# Notes")
    options = ("--json-schema", str(schema), "--attach", str(notes), "--model", "haiku", "--max-turns", "9")
    done = house.chat("asked", "--prompt", "as an object", *options)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"name": "Ada"}), done.stderr
    assert house.call("claudecode.get", name="asked")["model"] == "sonnet"
    prompt = house.call("claudecode.history", name="asked")[0]
    assert prompt["content"][0] == {
        "type": "text_file",
        "name": "notes.md",
        "media_type": "text/plain",
        "text": "# Notes",
    }
    notes.write_bytes(b"\xff\xfe neither text nor image")
    refused = house.chat("asked", "--prompt", "hello", "--attach", str(notes))
    assert (refused.returncode, "neither a text" in refused.stderr) == (2, True)


def test_a_failed_turn_is_an_error(house: House) -> None:
    house.create("failing")
    done = house.chat("failing", "--prompt", "broken")
    assert done.returncode == 1
    assert "the script refuses" in done.stderr


def test_no_server_has_an_exit_code_of_its_own(house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused at once
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for url in (f"http://{address}", f"ws://{address}/ws"):
            done = house.chat("any", "--prompt", "hello", url=url)
            assert done.returncode == 3, done
            assert address in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "given"),
    [(["any", "--prompt", " "], ""), (["any"], "\n"), ([], "hello"), (["any", "--nonsense"], "")],
)
def test_wrong_usage_has_an_exit_code_of_its_own(house: House, arguments: list[str], given: str) -> None:
    done = house.chat(*arguments, given=given)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_an_address_without_a_scheme_is_wrong_usage(house: House) -> None:
    assert house.chat("any", "--prompt", "hello", url="localhost:4445").returncode == 2


def test_ctrl_c_stops_the_turn_and_the_session_can_be_used_again(house: House) -> None:
    house.create("stopped")
    command = house.command("stopped", "--prompt", "hang")
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=house.environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(len("It begins ")) == "It begins "
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert house.chat("stopped", "--prompt", "hello").stdout == "Hello from the script.\n"


async def test_a_connection_cut_again_and_again_leaves_no_gap(house: House) -> None:
    house.create("cut")
    upstream = int(house.url.rpartition(":")[2])
    cuts = 0

    async def forward(client: trio.SocketStream) -> None:
        nonlocal cuts
        async with client, await trio.open_tcp_stream("127.0.0.1", upstream) as server:
            async with trio.open_nursery() as nursery:

                async def up() -> None:
                    async for piece in client:
                        await server.send_all(piece)
                    await server.send_eof()

                nursery.start_soon(up)
                sent = 0
                async for piece in server:
                    await client.send_all(piece)
                    sent += len(piece)
                    if sent > 12_000 and cuts < 4:
                        cuts += 1
                        break
                nursery.cancel_scope.cancel()

    async def guarded(client: trio.SocketStream) -> None:
        try:
            await forward(client)
        except* trio.BrokenResourceError:
            pass  # the other side was quicker

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, guarded, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        done = await trio.run_process(
            house.command("cut", "--prompt", "long", url=url),
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=house.environment,
        )
        nursery.cancel_scope.cancel()
    assert cuts == 4
    assert (done.returncode, done.stdout.decode()) == (0, LONG + "\n"), done.stderr.decode()


def test_a_reader_that_leaves_ends_it_quietly(house: House) -> None:
    house.create("headed")
    with subprocess.Popen(
        house.command("headed", "--prompt", "long"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=house.environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == "0 1 "
        process.stdout.close()
        assert process.wait(timeout=DEADLINE_S) == 141
        assert "Traceback" not in process.stderr.read()


# ── in a terminal ────────────────────────────────────────────────────────────


def test_a_conversation_in_a_terminal(house: House, open_chat: Any) -> None:
    terminal = open_chat("talk", "--working-dir", str(house.folder))
    terminal.read_until("Create it? [Y/n]")
    terminal.type("y\n")
    terminal.read_until("/help shows")
    terminal.read_until("> ")
    terminal.type("hello\n")
    terminal.read_until("Hello from the script.")
    assert "tokens in" in terminal.read_until("> ")
    terminal.type("/help\n")
    for command in ("/history", "/session", "/interrupt", "/quit"):
        terminal.read_until(command)
    terminal.read_until("> ")
    terminal.type("/session\n")
    terminal.read_until("working_dir")
    terminal.read_until("> ")
    terminal.type("/history\n")
    terminal.read_until("> hello")
    terminal.read_until("Hello from the script.")
    terminal.read_until("> ")
    terminal.type("/interrupt\n")
    terminal.read_until("Nothing was running")
    terminal.read_until("> ")
    terminal.type("/nonsense\n")
    terminal.read_until("no command /nonsense")
    terminal.read_until("> ")
    terminal.type("/quit\n")
    assert terminal.wait() == 0


def test_ctrl_c_stops_the_answer_and_stays(house: House, open_chat: Any) -> None:
    house.create("staying")
    terminal = open_chat("staying")
    terminal.read_until("> ")
    terminal.type("hang\n")
    terminal.read_until("It begins")
    terminal.interrupt()
    terminal.read_until("cancelled")
    terminal.read_until("> ")
    terminal.type("hello\n")
    terminal.read_until("Hello from the script.")
    terminal.read_until("> ")
    terminal.type("\x04")
    assert terminal.wait() == 0


def test_ctrl_c_at_the_prompt_leaves(house: House, open_chat: Any) -> None:
    house.create("leaving")
    terminal = open_chat("leaving")
    terminal.read_until("> ")
    assert terminal.interrupt_until_end() == 0
    assert "Traceback" not in terminal.text


def test_an_answer_that_somebody_else_asked_for_is_watched(house: House, open_chat: Any) -> None:
    house.create("shared")
    with subprocess.Popen(
        house.command("shared", "--prompt", "watched"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
        env=house.environment,
    ) as first:
        house.wait_busy("shared")
        terminal = open_chat("shared")
        terminal.read_until("answering another prompt")
        terminal.read_until("It begins")
        terminal.interrupt()
        terminal.read_until("it goes on")
        terminal.read_until("> ")
        terminal.type("hello\n")
        terminal.read_until("Watch that? [Y/n]")
        terminal.type("\n")
        terminal.read_until("It begins")
        house.release("watched")
        terminal.read_until("and ends.")
        terminal.read_until("> ")
        terminal.type("\x04")
        assert terminal.wait() == 0
        stdout, _ = first.communicate(timeout=DEADLINE_S)
    assert (first.returncode, stdout) == (0, "It begins and ends.\n")


def test_a_terminal_without_a_server_leaves_at_once(open_chat: Any, house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        terminal = Terminal(house.command("any", url=f"http://127.0.0.1:{taken.getsockname()[1]}"), house.environment)
        try:
            assert terminal.wait() == 3
            assert "Traceback" not in terminal.text
        finally:
            terminal.close()
