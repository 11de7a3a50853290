"""A reply of 50 000 deltas: relayed while the binary writes it, to 1 and to 20 readers, and replayed from the log.

Live, the binary on a bare pipe is the limit: its lines are only counted. The machine's cores are shared by the model,
the binary, the server and the readers, so beside the rates stands the server's CPU time for each event: what it could
relay on a core of its own. Replayed, the limit is the same bytes sent by a bare socket.
"""

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.bench import lean
from tests.bench.bare_binary import BareBinary, bare_binary, find_binary
from tests.bench.figures import Figure, median
from tests.bench.processes import Server, claudecode_section, clonk_server, scripted_model
from tests.bench.sessions import Reading, begin_chat, create_session, read_all

DELTAS: Final = 50_000
READERS: Final = (1, 20)
AS_FAST: Final = 0.9
"""The bound is "as fast as the binary": a tenth is what one measurement differs from the next."""

REPLAY_BOUND: Final = 40_000.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    deltas, rounds, replays = (500, 1, 1) if quick else (DELTAS, 5, 9)
    binary = find_binary()
    script = {"rules": [{"when": "^count", "turns": [{"long_text": deltas}]}], "default": "yes"}
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        folder = Path(name)
        with (
            scripted_model(folder, script) as model,
            clonk_server(folder, {"claudecode": claudecode_section(model)}) as server,
            bare_binary(folder, model, binary) as bare,
        ):
            bare.initialize()
            http = lean.connect(server.http_port)
            yield from _live(server, http, bare, deltas, rounds)
            subscription, _ = _relay(server, "readers-1", "count once more", readers=1)
            yield from _replay(server, subscription, replays)


# ── live ─────────────────────────────────────────────────────────────────────


def _live(server: Server, http: socket.socket, bare: BareBinary, deltas: int, rounds: int) -> Iterator[Figure]:
    bare.ask("warm up")
    sessions = {readers: f"readers-{readers}" for readers in READERS}
    for name in sessions.values():
        create_session(http, name)
        _relay(server, name, "warm up", readers=1)
    bare_rates: list[float] = []
    rates: dict[int, list[float]] = {readers: [] for readers in READERS}
    cpu_us: dict[int, list[float]] = {readers: [] for readers in READERS}
    for number in range(rounds):
        answer = bare.ask(f"count {number}")
        if answer.deltas != deltas:
            raise RuntimeError(f"the binary wrote {answer.deltas} deltas, not {deltas}")
        bare_rates.append(deltas / (answer.last_text_s - answer.first_text_s))
        for readers, name in sessions.items():
            before = lean.cpu_s(server.pid)
            _, readings = _relay(server, name, f"count {number}", readers=readers)
            cpu_us[readers].append((lean.cpu_s(server.pid) - before) / readings[0].events * 1e6)
            first = min(reading.first_text_s for reading in readings)
            rates[readers].append(readings[0].events / (max(reading.last_s for reading in readings) - first))
    limit = median(bare_rates)
    for readers in READERS:
        value, cpu = median(rates[readers]), median(cpu_us[readers])
        yield Figure(
            name=f"{deltas} deltas live to {readers} reader{'s' if readers > 1 else ''}",
            value=value,
            unit="1/s",
            peer="bare pipe",
            limit=limit,
            bound=f"as fast as the binary (ratio {AS_FAST:g})",
            ok=value >= AS_FAST * limit,
            note=f"server CPU {cpu:.0f} us an event, so {1e6 / cpu:,.0f}/s on a core of its own",
        )


def _relay(server: Server, name: str, prompt: str, *, readers: int) -> tuple[str, list[Reading]]:
    """Chat over SSE with further readers that resume from the start; return the run and what each has read."""
    with ExitStack() as stack:
        first = stack.enter_context(lean.connect(server.http_port))
        subscription, begun = begin_chat(first, name, prompt)
        others = [stack.enter_context(_resume(server, subscription)) for _ in range(readers - 1)]
        return subscription, read_all([first, *others], begun)


def _resume(server: Server, subscription: str) -> socket.socket:
    connection = lean.connect(server.http_port)
    connection.sendall(lean.http_get("/mcp", last_event_id=f"{subscription}/0", accept="text/event-stream"))
    return connection


# ── replay ───────────────────────────────────────────────────────────────────


def _replay(server: Server, subscription: str, rounds: int) -> Iterator[Figure]:
    rates, raw_rates, cpu_us = [], [], []
    reading = Reading()
    for _ in range(rounds):
        before = lean.cpu_s(server.pid)
        began = time.perf_counter()
        with _resume(server, subscription) as connection:
            (reading,) = read_all([connection])
        rates.append(reading.events / (reading.last_s - began))
        cpu_us.append((lean.cpu_s(server.pid) - before) / reading.events * 1e6)
        raw_rates.append(reading.events / send_raw(reading.size))
    value = median(rates)
    yield Figure(
        name=f"{reading.events} events replayed over SSE",
        value=value,
        unit="1/s",
        peer="the same bytes on a bare socket",
        limit=median(raw_rates),
        bound=f"at least {REPLAY_BOUND:,.0f}/s",
        ok=value >= REPLAY_BOUND,
        note=f"server CPU {median(cpu_us):.1f} us an event, {reading.size / reading.events:.0f} bytes each",
    )


def send_raw(size: int) -> float:
    """Return the seconds that so many bytes take through a loopback socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        piece = bytes(lean.RECEIVE_BYTES)

        def send() -> None:
            with listener.accept()[0] as connection:
                left = size
                while left > 0:
                    connection.sendall(piece[:left])
                    left -= len(piece)

        sender = threading.Thread(target=send)
        sender.start()
        began = time.perf_counter()
        with lean.connect(listener.getsockname()[1]) as connection:
            left = size
            while left > 0:
                left -= len(lean.receive(connection))
        took = time.perf_counter() - began
        sender.join()
    return took
