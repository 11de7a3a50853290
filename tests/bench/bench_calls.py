"""Plain calls: what one costs over HTTP and over WebSocket, beside an echo on the bare server libraries.

The same request goes to both, on the same kind of connections, in turns. The peer does nothing but send it back; Clonk
parses it, checks it against the signature, calls the method, and encodes the answer.
"""

import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from tests.bench import lean
from tests.bench.figures import Figure, median, spread
from tests.bench.processes import clonk_server, program

BOUND: Final = 1.3
CONNECTIONS: Final = 50
TEXT: Final = "x" * 100
REQUEST: Final = lean.request_json("bench.echo", {"text": TEXT})


@attrs.define(kw_only=True)
class Side:
    """One of the two servers.

    Attributes:
        pid: Its process.
        load: Connections to it.
        single_s: Seconds of each call, one after the other.
        single_cpu_s: CPU seconds of the server for each call, by round.
        crowd_s: Seconds for each call with many connections, by round.
        crowd_cpu_s: CPU seconds of the server for each call with many connections, by round.
    """

    pid: int
    load: lean.Load
    single_s: list[float] = attrs.field(factory=list)
    single_cpu_s: list[float] = attrs.field(factory=list)
    crowd_s: list[float] = attrs.field(factory=list)
    crowd_cpu_s: list[float] = attrs.field(factory=list)

    def round(self, count: int) -> None:
        """Measure once: `count` calls on one connection, then `count` on many."""
        before = lean.cpu_s(self.pid)
        self.single_s += self.load.one_after_the_other(count)
        between = lean.cpu_s(self.pid)
        seconds = self.load.all_at_once(count)
        after = lean.cpu_s(self.pid)
        self.single_cpu_s.append((between - before) / count)
        self.crowd_s.append(seconds / count)
        self.crowd_cpu_s.append((after - between) / count)


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures of both transports."""
    rounds, count = (2, 200) if quick else (9, 3000)
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name, clonk_server(Path(name)) as server:
        with program("http_echo", Path(name)) as (process, port):
            pairs = (
                _side(process.pid, lambda: lean.connect(int(port)), _ask_http),
                _side(server.pid, lambda: lean.connect(server.http_port), _ask_http),
            )
            yield from _compare("HTTP", "bare hypercorn", pairs, rounds, count)
        with program("websocket_echo", Path(name)) as (process, port):
            pairs = (
                _side(process.pid, lambda: lean.connect_websocket(int(port), "/"), _ask_websocket),
                _side(server.pid, lambda: lean.connect_websocket(server.websocket_port), _ask_websocket),
            )
            yield from _compare("WebSocket", "bare trio-websocket", pairs, rounds, count)


def _ask_http(connection: socket.socket) -> tuple[bytes, bytes, int]:
    request = lean.http_post(REQUEST)
    connection.sendall(request)
    status, body, size = lean.http_answer(connection)
    if status != 200:
        raise RuntimeError(f"{status} {body[:300]!r}")
    return request, body, size


def _ask_websocket(connection: socket.socket) -> tuple[bytes, bytes, int]:
    request = lean.websocket_frame(REQUEST)
    connection.sendall(request)
    body, size = lean.websocket_answer(connection)
    return request, body, size


def _side(
    pid: int, connect: Callable[[], socket.socket], ask: Callable[[socket.socket], tuple[bytes, bytes, int]]
) -> Side:
    """Open the connections and take one answer on each."""
    connections = [connect() for _ in range(CONNECTIONS)]
    answers = [ask(connection) for connection in connections]
    request, body, size = answers[0]
    if TEXT.encode() not in body or any(answer != answers[0] for answer in answers):
        raise RuntimeError(f"not the answer that was asked for: {body[:300]!r}")
    return Side(pid=pid, load=lean.Load(connections, request, size))


def _compare(transport: str, peer_name: str, pair: tuple[Side, Side], rounds: int, count: int) -> Iterator[Figure]:
    for number in range(rounds):
        # The one that comes first changes, so that neither always has the warmer machine.
        for side in pair if number % 2 else reversed(pair):
            side.round(count)
    peer, ours = pair
    one = (ours.single_s, peer.single_s, ours.single_cpu_s, peer.single_cpu_s)
    many = (ours.crowd_s, peer.crowd_s, ours.crowd_cpu_s, peer.crowd_cpu_s)
    yield _figure(f"{transport} call, one connection", peer_name, *one)
    yield _figure(f"{transport} call, {CONNECTIONS} connections", peer_name, *many)


def _figure(
    name: str,
    peer_name: str,
    ours_s: Sequence[float],
    peer_s: Sequence[float],
    ours_cpu_s: Sequence[float],
    peer_cpu_s: Sequence[float],
) -> Figure:
    value, limit = median(ours_s), median(peer_s)
    cpu, peer_cpu = median(ours_cpu_s), median(peer_cpu_s)
    return Figure(
        name=name,
        value=value * 1e6,
        unit="us",
        peer=peer_name,
        limit=limit * 1e6,
        bound=f"at most {BOUND:g} times",
        ok=value <= BOUND * limit,
        note=(
            f"{1 / value:,.0f}/s against {1 / limit:,.0f}/s; "
            f"server CPU {cpu * 1e6:.0f} us against {peer_cpu * 1e6:.0f} us ({cpu / peer_cpu:.2f}); "
            f"80 % within {spread(ours_s, 1e6)} us"
        ),
    )
