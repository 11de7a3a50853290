"""Many sessions: two hundred that stream at once, and two thousand that were chatted with and are parked.

They run a scripted binary, so that it is the server that is measured. The streams are held against the same programs on
bare pipes, whose output is only counted; the parked sessions against a server that has hardly any.
"""

import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, Self

import attrs
import psutil

from clonk_claudecode.testing.scripted_binary import write_scripted_binary
from tests.bench import lean
from tests.bench.figures import Figure, median, spread
from tests.bench.processes import Server, clonk_server, scripted_binary_section, scrubbed_environment
from tests.bench.sessions import Reading, ask_http, chat_request, create_session, read_all, read_until

STREAMING_KIB: Final = 1024.0
PARKED_KIB: Final = 50.0
FEW: Final = 20
RESULT: Final = b'"type":"result"'


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    streaming, deltas, rounds, parked, starts = (5, 20, 1, 30, 1) if quick else (200, 500, 5, 2000, 5)
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        yield from _streaming(Path(name), streaming, deltas, rounds)
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        yield from _parked(Path(name), parked, starts)


# ── streaming ────────────────────────────────────────────────────────────────


def _streaming(folder: Path, count: int, deltas: int, rounds: int) -> Iterator[Figure]:
    binary = write_scripted_binary(folder / "claude")
    names = [f"s{number}" for number in range(count)]
    rates, bare_rates, cpu_us = [], [], []
    section = scripted_binary_section(binary, max_concurrent=count)
    with clonk_server(folder, {"claudecode": section}) as server, ExitStack() as stack:
        connections = [stack.enter_context(closing(lean.connect(server.http_port))) for _ in names]
        with _BareBinaries(binary, folder, count) as bare:
            for connection, name in zip(connections, names, strict=True):
                create_session(connection, name)
            before = _kib(server.pid)
            _ask_all(connections, names, "count 2")
            highest = 0.0
            for _ in range(rounds):
                bare_rates.append(count * deltas / bare.ask(f"count {deltas}"))
                cpu_before = lean.cpu_s(server.pid)
                took, readings = _ask_all(connections, names, f"count {deltas}")
                events = sum(reading.events for reading in readings)
                cpu_us.append((lean.cpu_s(server.pid) - cpu_before) / events * 1e6)
                rates.append(events / took)
                highest = max(highest, _kib(server.pid))
    each = (highest - before) / count
    yield Figure(
        name=f"{count} sessions that stream at once",
        value=median(rates),
        unit="1/s",
        peer="the same programs on bare pipes",
        limit=median(bare_rates),
        note=f"{deltas} deltas each, a reader each, every event counted; server CPU {median(cpu_us):.0f} us an event",
    )
    yield Figure(
        name=f"memory of each of {count} that stream",
        value=each,
        unit="KiB",
        peer="bound",
        limit=STREAMING_KIB,
        bound=f"under {STREAMING_KIB:g} KiB",
        ok=each < STREAMING_KIB,
        note=f"server {highest / 1024:.0f} MiB, {before / 1024:.0f} before",
    )


def _ask_all(connections: Sequence[socket.socket], names: Sequence[str], prompt: str) -> tuple[float, list[Reading]]:
    """Chat with every session at once; return the seconds until the last one's end, and what was read."""
    began = time.perf_counter()
    for connection, name in zip(connections, names, strict=True):
        connection.sendall(lean.http_post(chat_request(name, prompt)))
    readings = read_all(connections)
    took = max(reading.last_s for reading in readings) - began
    for connection, reading in zip(connections, readings, strict=True):
        while not reading.stream_ended:
            reading.take(lean.receive(connection))
    return took, readings


class _BareBinaries:
    """The scripted binary without us, as often as there are sessions: lines are only counted."""

    def __init__(self, binary: Path, folder: Path, count: int) -> None:
        self._processes = [
            subprocess.Popen(
                [binary],
                env=scrubbed_environment(folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.communicate()

    def ask(self, prompt: str) -> float:
        """Say the same to each at once; return the seconds until the last one has answered."""
        frame = f'{{"type":"user","uuid":"00000000-0000","message":{{"role":"user","content":"{prompt}"}}}}\n'.encode()
        tails: dict[int, bytes] = {}
        began = time.perf_counter()
        with select.epoll() as poll:
            for process in self._processes:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(frame)
                process.stdin.flush()
                tails[process.stdout.fileno()] = b""
                poll.register(process.stdout.fileno(), select.EPOLLIN)
            while tails:
                for number, _ in poll.poll():
                    tails[number] = (tails[number] + os.read(number, lean.RECEIVE_BYTES))[-200:]
                    if RESULT in tails[number] and tails[number].endswith(b"\n"):
                        poll.unregister(number)
                        del tails[number]
        return time.perf_counter() - began


# ── parked ───────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class _Looks:
    """Milliseconds that looking at sessions takes.

    Attributes:
        page: A page of the list.
        search: Finding one message.
        attach: From attaching to a parked session to its last event.
        usage: What all of them have spent.
        chat: Chatting on with a parked session, to the first text.
    """

    page: list[float]
    search: list[float]
    attach: list[float]
    usage: list[float]
    chat: list[float]


def _parked(folder: Path, count: int, starts: int) -> Iterator[Figure]:
    sections = {"claudecode": scripted_binary_section(write_scripted_binary(folder / "claude"))}
    with clonk_server(folder, sections) as server, closing(lean.connect(server.http_port)) as http:
        _chat_with(http, range(FEW))
        with_few = _look(server, http, FEW)
        before = _kib(server.pid)
        _chat_with(http, range(FEW, count))
        each = (_kib(server.pid) - before) / (count - FEW)
        with_many = _look(server, http, count)
    yield Figure(
        name=f"memory of each of {count} parked",
        value=each,
        unit="KiB",
        peer="bound",
        limit=PARKED_KIB,
        bound=f"under {PARKED_KIB:g} KiB",
        ok=each < PARKED_KIB,
        note=f"after a chat each; {before / 1024:.0f} MiB before",
    )
    for what, name in (
        ("page", "a page of the list"),
        ("search", "a message found"),
        ("attach", "attached to one, to its last event"),
        ("usage", "what all have spent"),
        ("chat", "chatted on with one, to the first text"),
    ):
        many, few = getattr(with_many, what), getattr(with_few, what)
        yield Figure(
            name=f"{count} parked: {name}",
            value=median(many),
            unit="ms",
            peer=f"with {FEW}",
            limit=median(few),
            note=f"80 % within {spread(many)} ms",
        )
    yield _restarted(folder, sections, count, starts)


def _restarted(folder: Path, sections: dict[str, Any], count: int, starts: int) -> Figure:
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(starts):
        for is_full, took in times.items():
            below = folder if is_full else folder / "empty"
            below.mkdir(exist_ok=True)
            began = time.perf_counter()
            with clonk_server(below, sections) as server, closing(lean.connect(server.http_port)) as http:
                lean.http_call(http, "claudecode.list")
                took.append(time.perf_counter() - began)
    return Figure(
        name=f"start with {count} parked, to the first list",
        value=median(times[True]),
        unit="s",
        peer="with none",
        limit=median(times[False]),
    )


def _chat_with(http: socket.socket, numbers: range) -> None:
    for number in numbers:
        create_session(http, f"s{number}")
        ask_http(http, f"s{number}", f"the word is marker{number}")


def _look(server: Server, http: socket.socket, count: int) -> _Looks:
    looks = _Looks(page=[], search=[], attach=[], usage=[], chat=[])
    for number in range(10):
        looks.page.append(_ms(lambda: lean.http_call(http, "claudecode.list", limit=FEW)))
        query = f"marker{number}"
        looks.search.append(_ms(lambda: lean.http_call(http, "claudecode.search", query=query)))  # noqa: B023
        looks.usage.append(_ms(lambda: lean.http_call(http, "claudecode.usage")))
        name = f"s{number}"
        looks.attach.append(_ms(lambda: _attach(server, name)))  # noqa: B023
        looks.chat.append(ask_http(http, f"s{number * count // 11}", "more")[0] * 1000)
    return looks


def _attach(server: Server, name: str) -> None:
    with closing(lean.connect_websocket(server.websocket_port)) as connection:
        attach = lean.request_json("claudecode.attach", {"name": name, "after": "start"})
        connection.sendall(lean.websocket_frame(attach))
        read_until(connection, Reading(), b'"event":{"type":"done"')


def _ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _kib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1024
