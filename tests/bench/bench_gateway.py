"""The gateway: what a key, its scopes, its limit and the audit log add to a plain call over WebSocket.

The same call goes to servers that differ in nothing else, in turns, call by call, so that what the machine does besides
falls on all of them. One asks nobody and writes nothing down; one has a key with a limit and writes down every call;
one has ten thousand keys more.
"""

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_core.gateway.key_store import KeyStore
from clonk_core.gateway.keys import ApiKey
from clonk_core.storage.core_tables import open_core_database
from clonk_core.storage.data_dir import make_folder
from tests.bench import lean
from tests.bench.bench_calls import REQUEST, TEXT
from tests.bench.figures import Figure, median, spread
from tests.bench.processes import clonk_server

BOUND_US: Final = 250.0
KEYS: Final = 10_000
CROWD: Final = 50
KEY: Final = "clonk_bench_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
SECTIONS: Final[dict[str, Any]] = {
    "auth": {
        "api_keys": [
            {
                "id": "bench",
                "secret_hash": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}",
                "scopes": ["bench:*"],
                "rate_limit": "1000000/s",
            }
        ]
    },
    "audit": {"enabled": True},
    # A line of the log for each request would be a cost of its own, some 40 us.
    "logging": {"level": "info", "format": "json", "requests": "none"},
}


@attrs.define(kw_only=True)
class Side:
    """One server, a connection, and what calls took, in seconds."""

    one: lean.Load
    crowd: lean.Load
    single_s: list[float] = attrs.field(factory=list)
    crowd_s: list[float] = attrs.field(factory=list)


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    calls, rounds = (50, 1) if quick else (4000, 7)
    with ExitStack() as stack:
        plain = _side(stack, {}, None)
        guarded = _side(stack, SECTIONS, KEY)
        crowded = _side(stack, SECTIONS, KEY, more_keys=100 if quick else KEYS)
        sides = (plain, guarded, crowded)
        for number in range(calls):
            for side in sides if number % 2 else reversed(sides):
                side.single_s += side.one.one_after_the_other(1)
        for number in range(rounds):
            for side in sides if number % 2 else reversed(sides):
                began = time.perf_counter()
                side.crowd.all_at_once(calls)
                side.crowd_s.append((time.perf_counter() - began) / calls)
    yield from _figures(plain, guarded, crowded)


def _figures(plain: Side, guarded: Side, crowded: Side) -> Iterator[Figure]:
    off, on, many = (median(side.single_s) * 1e6 for side in (plain, guarded, crowded))
    yield Figure(
        name="WebSocket call with key, limit and audit",
        value=on,
        unit="us",
        peer="with the gateway off",
        limit=off,
        bound=f"at most {BOUND_US:g} us more",
        ok=on - off <= BOUND_US,
        note=f"+{on - off:.0f} us at the median; 80 % within {spread(guarded.single_s, 1e6)} us",
    )
    yield Figure(
        name=f"the same with {KEYS:,} keys".replace(",", " "),
        value=many,
        unit="us",
        peer="with one key",
        limit=on,
        bound="no measurable difference (ratio 1.1)",
        ok=many <= 1.1 * on,
        note=f"80 % within {spread(crowded.single_s, 1e6)} us",
    )
    off, on = (median(side.crowd_s) * 1e6 for side in (plain, guarded))
    yield Figure(
        name=f"the same, {CROWD} connections at once",
        value=on,
        unit="us",
        peer="with the gateway off",
        limit=off,
        note=f"+{on - off:.0f} us a call, {1e6 / on:,.0f} calls/s, each in the audit log before its answer",
    )


def _side(stack: ExitStack, sections: dict[str, Any], bearer: str | None, *, more_keys: int = 0) -> Side:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clonk-bench-")))
    if more_keys:
        trio.run(_add_keys, folder / "data", more_keys)
    server = stack.enter_context(clonk_server(folder, sections))
    connections = [lean.connect_websocket(server.websocket_port, bearer=bearer) for _ in range(CROWD)]
    answers = []
    for connection in connections:
        stack.callback(connection.close)
        connection.sendall(lean.websocket_frame(REQUEST))
        answers.append(lean.websocket_answer(connection))
    body, size = answers[0]
    if TEXT.encode() not in body or any(answer != answers[0] for answer in answers):
        raise RuntimeError(f"not the answer that was asked for: {body[:300]!r}")
    request = lean.websocket_frame(REQUEST)
    return Side(one=lean.Load(connections[:1], request, size), crowd=lean.Load(connections, request, size))


async def _add_keys(data_dir: Path, count: int) -> None:
    """Put keys into the database of a server that does not run yet."""
    make_folder(data_dir)
    async with open_core_database(data_dir) as database:
        store = KeyStore(database)
        for number in range(count):
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            now = datetime.now(UTC)
            scopes = frozenset({"*"})
            await store.add(
                ApiKey(id=f"k{number}", hashes=(digest,), scopes=scopes, created_at=now, created_by="bench")
            )
