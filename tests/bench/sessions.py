"""Chats over raw sockets: when the text comes, and that every event comes."""

import re
import select
import socket
import time
from collections.abc import Sequence
from typing import Final

import attrs

from tests.bench import lean

DEADLINE_S: Final = 120.0
"""Longest time for a run to be read."""

_TEXT: Final = b'"type":"text_delta"'
_HEAD: Final = b'"seq":'
_DONE: Final = re.compile(rb'"seq":(\d+),"result":\{"type":"done","outcome":"([a-z]+)"[^\n]*')
_RUN: Final = re.compile(rb'"result":"(sub_[0-9a-z]+)"')
_STREAM_END: Final = b"0\r\n\r\n"
_DONE_SIGN: Final = b'"type":"done"'
_EDGE_BYTES: Final = 32
"""More than the longest sign has."""

_KEPT_BYTES: Final = 2048
"""More than the last event has."""


@attrs.define
class Reading:
    """What one reader of a run sees.

    Attributes:
        events: Events so far.
        size: Bytes so far.
        first_text_s: Clock time of the first text, 0 before.
        last_s: Clock time of the newest bytes.
        done: Whether the last event is there.
        before: Events of the run that it does not ask for.
    """

    events: int = 0
    size: int = 0
    first_text_s: float = 0.0
    last_s: float = 0.0
    done: bool = False
    before: int = 0
    _kept: bytes = b""

    def take(self, data: bytes) -> None:
        """Count what came; a reader that parsed it would be slower than the server."""
        self.last_s = time.perf_counter()
        self.size += len(data)
        # What lies across the border of two pieces; large ones are not copied for it.
        edge = self._kept[-_EDGE_BYTES:] + data[:_EDGE_BYTES]
        self.events += data.count(_HEAD) + _across(edge, len(self._kept[-_EDGE_BYTES:]))
        if not self.first_text_s and (_TEXT in data or _TEXT in edge):
            self.first_text_s = self.last_s
        self._kept = data[-_KEPT_BYTES:] if len(data) >= _KEPT_BYTES else (self._kept + data)[-_KEPT_BYTES:]
        if _DONE_SIGN in self._kept:
            found = _DONE.search(self._kept)
            if found is not None:
                self._check_end(int(found[1]), found)

    def _check_end(self, last_seq: int, done: re.Match[bytes]) -> None:
        if done[2] != b"complete":
            raise RuntimeError(f"the run has failed: {done[0].decode(errors='replace')}")
        if last_seq != self.before + self.events:
            raise RuntimeError(f"{last_seq - self.before} events were sent, {self.events} came")
        self.done = True

    @property
    def stream_ended(self) -> bool:
        """Whether the answer of an HTTP connection is complete, so that it can be used again."""
        return self.done and self._kept.endswith(_STREAM_END)


def _across(edge: bytes, border: int) -> int:
    """Return how many heads begin before the border and end behind it: one or none."""
    start = edge.find(_HEAD, max(0, border - len(_HEAD) + 1))
    return int(0 <= start < border < start + len(_HEAD))


def chat_request(name: str, prompt: str) -> bytes:
    """Return the JSON-RPC request of a chat."""
    return lean.request_json("claudecode.chat", {"name": name, "prompt": prompt})


def create_session(http: socket.socket, name: str) -> None:
    """Create a session with everything left to its default."""
    lean.http_call(http, "claudecode.create", name=name)


def ask_http(http: socket.socket, name: str, prompt: str) -> tuple[float, Reading]:
    """Chat over SSE to the end; return the seconds to the first text and what was read."""
    return _ask(http, lean.http_post(chat_request(name, prompt)), is_http=True)


def ask_websocket(websocket: socket.socket, name: str, prompt: str) -> tuple[float, Reading]:
    """Chat over WebSocket to the end; return the seconds to the first text and what was read."""
    return _ask(websocket, lean.websocket_frame(chat_request(name, prompt)), is_http=False)


def _ask(connection: socket.socket, request: bytes, *, is_http: bool) -> tuple[float, Reading]:
    reading = Reading()
    connection.settimeout(DEADLINE_S)
    began = time.perf_counter()
    connection.sendall(request)
    while not (reading.stream_ended if is_http else reading.done):
        reading.take(lean.receive(connection))
    return reading.first_text_s - began, reading


def read_all(connections: Sequence[socket.socket], first: Reading | None = None) -> list[Reading]:
    """Read one run on each connection, all at the same time, until each has its last event.

    Args:
        connections: The connections.
        first: What has been read already on the first one.
    """
    readings = {connection.fileno(): Reading() for connection in connections}
    readings[connections[0].fileno()] = first or Reading()
    by_number = {connection.fileno(): connection for connection in connections}
    deadline = time.perf_counter() + DEADLINE_S
    with select.epoll() as poll:
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        while by_number:
            ready = poll.poll(max(0.0, deadline - time.perf_counter()))
            if not ready:
                raise RuntimeError(f"{len(by_number)} readers have no end after {DEADLINE_S:g} s")
            for number, _ in ready:
                readings[number].take(lean.receive(by_number[number]))
                if readings[number].done:
                    poll.unregister(number)
                    del by_number[number]
    return list(readings.values())


def read_until(connection: socket.socket, reading: Reading, sign: bytes) -> Reading:
    """Read what is no run of a chat by itself until `sign` comes."""
    tail = b""
    while sign not in tail:
        data = lean.receive(connection)
        reading.take(data)
        tail = (tail + data)[-_KEPT_BYTES:]
    return reading


def begin_chat(http: socket.socket, name: str, prompt: str) -> tuple[str, Reading]:
    """Chat over SSE; return the run and what has been read when it was known."""
    reading = Reading()
    http.sendall(lean.http_post(chat_request(name, prompt)))
    received = b""
    while True:
        data = lean.receive(http)
        reading.take(data)
        received += data
        found = _RUN.search(received)
        if found is not None:
            return found[1].decode(), reading
        if b"\r\n\r\n" in received and b'"error":' in received:
            raise RuntimeError(f"the chat is refused: {received.decode(errors='replace')}")
