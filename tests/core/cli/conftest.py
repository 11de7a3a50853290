"""Runs the real command line in processes of its own, with nothing of this machine's configuration."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.forked_clonk import Finished, ForkedClonk

LIMIT_S = 60
"""Longest time for one process; one takes a second, several at once on a busy machine more."""

DICE = '''
"""Dice, and what can go wrong with them."""
from collections.abc import AsyncIterator
import attrs
import trio
from clonk_core.plugin import Activation, Call, Command, Conflict, hookimpl, method

@attrs.frozen(kw_only=True)
class Roll:
    """One throw."""
    value: int

@attrs.frozen(kw_only=True)
class TextDelta:
    """A piece."""
    text: str
    type: str = "text_delta"

class TableBusy(Conflict):
    """Somebody else throws."""
    kind = "dice.table_busy"

class Dice(Activation):
    """Dice."""
    namespace = "dice"

    @method(scope="read")
    async def roll(self, sides: int = 6) -> Roll:
        """Throw one die."""
        return Roll(value=sides)

    @method(errors=[TableBusy])
    async def busy(self) -> Roll:
        """Always busy."""
        raise TableBusy("the table is busy")

    @method(scope="read")
    async def echo(self, text: str, times: int | None = None) -> str:
        """Say it again."""
        return text * (times or 1)

    @method(scope="read", durable=True)
    async def stream(self, count: int) -> AsyncIterator[Roll]:
        """Throw many."""
        for value in range(count):
            yield Roll(value=value)

    @method(scope="read")
    async def talk(self) -> AsyncIterator[TextDelta]:
        """Talk."""
        for text in ("one ", "two"):
            yield TextDelta(text=text)

    @method(scope="read")
    async def fall(self) -> AsyncIterator[Roll]:
        """Fail after one."""
        yield Roll(value=1)
        raise TableBusy("the table is busy now")

    @method(scope="read", durable=True)
    async def wait(self) -> AsyncIterator[Roll]:
        """Wait for ever after the first."""
        yield Roll(value=1)
        await trio.sleep_forever()

    @method(scope="read", durable=True)
    async def stubborn(self, call: Call) -> AsyncIterator[Roll]:
        """Say that it will stop, and do not."""
        call.on_stop(lambda reason: None)
        yield Roll(value=1)
        await trio.sleep_forever()

async def shake(times: int = 1) -> int:
    """Shake the cup.

    Args:
        times: How often.
    """
    print("rattle " * times)
    return 5

@hookimpl
def clonk_activations():
    return [Dice()]

@hookimpl
def clonk_commands():
    return [Command(name="shake", function=shake)]
'''


Clonk = Callable[..., Finished]


@attrs.define
class Place:
    """A folder with everything a process uses.

    Attributes:
        folder: Where it runs.
        environ: Its environment.
    """

    folder: Path
    environ: dict[str, str]
    _started: list[subprocess.Popen[str]] = attrs.field(factory=list)

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start `clonk` with these arguments; it is gone when the test is over."""
        process = subprocess.Popen(
            [sys.executable, "-m", "clonk_core", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """Kill what still runs, and close its pipes."""
        for process in self._started:
            process.kill()
            process.wait(LIMIT_S)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


@contextlib.contextmanager
def a_place(home: Path) -> Iterator[Place]:
    """A folder with a plugin and a configuration, below what is the home of its programs."""
    folder = home / "place"
    (folder / "plugins").mkdir(parents=True)
    (folder / "plugins" / "dice.py").write_text(DICE)
    (folder / "clonk.yaml").write_text(
        'version: "1"\nserver: {http_port: 0, websocket_port: 0}\nstorage: {data_dir: data}\n'
        "plugins: {dir: plugins, disabled: [claudecode, gitsync, arbor]}\nlogging: {format: json}\n"
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
    environ["CLONK_AUTH__ENABLED"] = "false"
    made = Place(folder, environ)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place of the test's own."""
    with a_place(tmp_path) as made:
        yield made


@pytest.fixture
def clonk(place: Place, forked: ForkedClonk) -> Clonk:
    """Run `clonk` to its end."""

    def run(*arguments: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> Finished:
        together = {**place.environ, **(environ or {})}
        return forked.run(arguments, folder=place.folder, environ=together, stdin=stdin, limit_s=LIMIT_S)

    return run


@pytest.fixture
def guarded(place: Place) -> Place:
    """The same folder, where callers are asked who they are."""
    del place.environ["CLONK_AUTH__ENABLED"]
    return place


@attrs.define
class Served:
    """A running `clonk serve`."""

    process: subprocess.Popen[str]
    url: str
    websocket_url: str
    log: list[str]

    def stop(self, *signals: signal.Signals) -> int:
        """Send signals, by default SIGTERM, and return the exit code."""
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
        return self.process.wait(LIMIT_S)


@contextlib.contextmanager
def serve(place: Place) -> Iterator[Served]:
    """A server on free ports."""
    process = place.start("serve")
    log: list[str] = []
    record = wait_for_record(process, "listening", log)
    reader = threading.Thread(target=lambda: log.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        yield Served(process, record["http"].removesuffix("/mcp"), record["websocket"], log)
    finally:
        process.kill()
        reader.join(LIMIT_S)


@pytest.fixture
def served(place: Place) -> Iterator[Served]:
    """A server of the test's own, in its place."""
    with serve(place) as running:
        yield running


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server in a place of its own, for all tests of a module that only call it."""
    with a_place(tmp_path_factory.mktemp("shared")) as place, serve(place) as running:
        yield running


def wait_for_record(process: subprocess.Popen[str], event: str, log: list[str]) -> dict[str, Any]:
    """Read the log until a record of that event comes, and return it."""
    assert process.stderr is not None
    watchdog = threading.Timer(LIMIT_S, process.kill)
    watchdog.start()
    try:
        for line in process.stderr:
            log.append(line)
            record = json.loads(line) if line.startswith("{") else {}
            if record.get("event") == event:
                found: dict[str, Any] = record
                return found
    finally:
        watchdog.cancel()
    raise AssertionError(f"no record {event!r}; exit code {process.wait(LIMIT_S)}; log: {''.join(log)}")
