"""Memory of the server for each session: parked (a row in the store) and live (with a process of its own).

The resident set of the server's process alone; the binary of a live session is apart.
"""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from tests.bench import lean
from tests.bench.bare_binary import find_binary
from tests.bench.figures import Figure
from tests.bench.processes import Server, claudecode_section, clonk_server, scripted_model
from tests.bench.sessions import ask_http, create_session

PARKED_KIB: Final = 50.0
LIVE_KIB: Final = 1024.0

SCRIPT: Final = {"default": {"long_text": 200}}


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    created, live, parked = (20, 1, 1) if quick else (1000, 10, 30)
    find_binary()
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        folder = Path(name)
        with scripted_model(folder, SCRIPT) as model:
            section = claudecode_section(model, max_concurrent=live)
            with clonk_server(folder, {"claudecode": section}) as server:
                http = lean.connect(server.http_port)
                yield _created(server, http, created)
                yield from _used(server, http, live, parked)


def _created(server: Server, http: socket.socket, count: int) -> Figure:
    # Caches that are filled once and bounded are not the sessions'.
    for number in range(max(20, count // 5)):
        create_session(http, f"before-{number}")
    before = _kib(server.pid)
    for number in range(count):
        create_session(http, f"created-{number}")
    each = (_kib(server.pid) - before) / count
    return Figure(
        name=f"memory of each of {count} created sessions",
        value=each,
        unit="KiB",
        peer="bound",
        limit=PARKED_KIB,
        bound=f"under {PARKED_KIB:g} KiB",
        ok=each < PARKED_KIB,
        note=f"server {_kib(server.pid) / 1024:.0f} MiB, {before / 1024:.0f} before",
    )


def _used(server: Server, http: socket.socket, live: int, parked: int) -> Iterator[Figure]:
    # One that is live already: what the first one loads is not its own.
    ask_http(http, "before-0", "question")
    before = _kib(server.pid)
    for number in range(live - 1 or 1):
        ask_http(http, f"created-{number}", "question")
    each = (_kib(server.pid) - before) / (live - 1 or 1)
    yield Figure(
        name=f"memory of each of {live} live sessions",
        value=each,
        unit="KiB",
        peer="bound",
        limit=LIVE_KIB,
        bound=f"under {LIVE_KIB:g} KiB",
        ok=each < LIVE_KIB,
        note=f"after a chat each; beside it the binary's own {_binary_mib(server.pid):.0f} MiB each",
    )
    before = _kib(server.pid)
    for number in range(live, live + parked):
        ask_http(http, f"created-{number}", "question")
    each = (_kib(server.pid) - before) / parked
    yield Figure(
        name=f"memory of each of {parked} parked sessions",
        value=each,
        unit="KiB",
        peer="bound",
        limit=PARKED_KIB,
        bound=f"under {PARKED_KIB:g} KiB",
        ok=each < PARKED_KIB,
        note=f"after a chat each, then parked to make room; {live} stay live",
    )


def _kib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1024


def _binary_mib(pid: int) -> float:
    """Return the memory of one process of the binary, what it shares with the others counted in part."""
    sizes = [
        child.memory_full_info().pss
        for child in psutil.Process(pid).children(recursive=True)
        if "claude" in child.name() or any("stream-json" in word for word in child.cmdline())
    ]
    return sum(sizes) / max(1, len(sizes)) / 2**20
