"""What a client that comes back does: the first page of ten thousand sessions, and a thousand missed events.

The list is held against the same list of a hundred sessions: the page is the same. The events are caught up with behind
the last one seen, each time on a new connection, over all three ways there are, and held against the same bytes on a
bare socket.
"""

import json
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from clonk_claudecode.testing.scripted_binary import write_scripted_binary
from tests.bench import lean
from tests.bench.bench_relay import send_raw
from tests.bench.figures import Figure, median, percentile, spread
from tests.bench.processes import Server, clonk_server, scripted_binary_section
from tests.bench.sessions import Reading, ask_http, begin_chat, create_session, read_all, read_until

PAGE: Final = 100
PAGE_MS: Final = 50.0
CATCH_UP_MS: Final = 100.0

FILL: Final = """
with recursive numbers(n) as (select :first union all select n + 1 from numbers where n < :count)
insert into sessions (
    id, name, claude_session_id, working_dir, model, permission_mode, message_count, created_at, last_active_at)
select 'sess_' || printf('%026d', n), 's' || n, 'uuid' || n, '/w', 'sonnet', 'default', 0,
    '2026-01-01T00:00:00.000+00:00', '2026-01-01T00:00:00.000+00:00' from numbers"""


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    sessions, rounds, missed = (200, 2, 50) if quick else (10_000, 100, 1000)
    yield _listed(sessions, rounds)
    yield from _caught_up(missed, rounds)


# ── the list ─────────────────────────────────────────────────────────────────


def _listed(count: int, rounds: int) -> Figure:
    took = {}
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        folder = Path(name)
        with clonk_server(folder) as server, closing(lean.connect(server.http_port)) as http:
            for first, last in ((1, PAGE), (PAGE + 1, count)):
                with closing(sqlite3.connect(folder / "data" / "claudecode.db", timeout=30)) as connection, connection:
                    connection.execute(FILL, {"first": first, "count": last})
                took[last] = [_page_ms(http) for _ in range(rounds)]
    value = median(took[count])
    return Figure(
        name=f"first page of {count} sessions",
        value=value,
        unit="ms",
        peer=f"of {PAGE} sessions",
        limit=median(took[PAGE]),
        bound=f"within {PAGE_MS:g} ms",
        ok=value <= PAGE_MS,
        note=f"{PAGE} sessions a page; 80 % within {spread(took[count])} ms, the first {took[count][0]:.1f} ms",
    )


def _page_ms(http: socket.socket) -> float:
    began = time.perf_counter()
    http.sendall(lean.http_post(lean.request_json("claudecode.list", {"limit": PAGE})))
    _, body, _ = lean.http_answer(http)
    took = (time.perf_counter() - began) * 1000
    if len(json.loads(body)["result"]) != PAGE:
        raise RuntimeError("the page is not full")
    return took


# ── what was missed ──────────────────────────────────────────────────────────


def _caught_up(missed: int, rounds: int) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        folder = Path(name)
        binary = write_scripted_binary(folder / "claude")
        with clonk_server(folder, {"claudecode": scripted_binary_section(binary)}) as server:
            with closing(lean.connect(server.http_port)) as http:
                create_session(http, "one")
                ask_http(http, "one", "warm up")
                subscription, begun = begin_chat(http, "one", f"count {2 * missed}")
                (whole,) = read_all([http], begun)
            place = whole.events - missed
            yield _figure("SSE", missed, rounds, lambda: _over_http(server, subscription, place))
            yield _figure("WebSocket", missed, rounds, lambda: _over_websocket(server, subscription, place))
            yield _figure("claudecode.attach", missed, rounds, lambda: _attached(server, subscription, place))


def _figure(way: str, missed: int, rounds: int, catch_up: Callable[[], Reading]) -> Figure:
    took, raw = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        reading = catch_up()
        took.append((reading.last_s - began) * 1000)
        raw.append(send_raw(reading.size) * 1000)
        if reading.events < missed:
            raise RuntimeError(f"{reading.events} of {missed} events came")
    value = median(took)
    return Figure(
        name=f"{missed} missed events over {way}",
        value=value,
        unit="ms",
        peer="the same bytes on a bare socket",
        limit=median(raw),
        bound=f"within {CATCH_UP_MS:g} ms",
        ok=value <= CATCH_UP_MS,
        note=f"with the connecting; 95 % within {percentile(took, 95):.1f} ms",
    )


def _over_http(server: Server, subscription: str, place: int) -> Reading:
    with closing(lean.connect(server.http_port)) as connection:
        connection.sendall(
            lean.http_get("/mcp", last_event_id=f"{subscription}/{place}", accept="text/event-stream"),
        )
        (reading,) = read_all([connection], Reading(before=place))
        return reading


def _over_websocket(server: Server, subscription: str, place: int) -> Reading:
    with closing(lean.connect_websocket(server.websocket_port)) as connection:
        again = lean.request_json("rpc.resume", {"subscription": subscription, "after": place})
        connection.sendall(lean.websocket_frame(again))
        (reading,) = read_all([connection], Reading(before=place))
        return reading


def _attached(server: Server, subscription: str, place: int) -> Reading:
    with closing(lean.connect_websocket(server.websocket_port)) as connection:
        attach = lean.request_json("claudecode.attach", {"name": "one", "after": f"{subscription}:{place}"})
        connection.sendall(lean.websocket_frame(attach))
        return read_until(connection, Reading(), b'"event":{"type":"done"')
