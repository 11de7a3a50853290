"""Clients that cost next to nothing, so that the server is what is measured: raw sockets, prepared bytes."""

import base64
import json
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any, Final

import psutil

RECEIVE_BYTES: Final = 256 * 1024


def request_json(method: str, params: Any, id_: int = 1) -> bytes:
    """Return a JSON-RPC request."""
    return json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params}, separators=(",", ":")).encode()


def http_post(body: bytes, path: str = "/mcp") -> bytes:
    """Return a whole POST request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return head.encode() + b"\r\n" + body


def http_get(path: str, **headers: str) -> bytes:
    """Return a whole GET request; `last_event_id` becomes `last-event-id`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode()


def websocket_frame(message: bytes) -> bytes:
    """Return a masked text frame; the mask of zeros is as good as any and leaves the text as it is."""
    size = len(message)
    head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
    return head + bytes(4) + message


def connect(port: int) -> socket.socket:
    """Open a connection that sends at once."""
    opened = socket.create_connection(("127.0.0.1", port))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def connect_websocket(port: int, path: str = "/ws", *, bearer: str | None = None) -> socket.socket:
    """Open a connection and shake hands."""
    opened = connect(port)
    key = base64.b64encode(os.urandom(16)).decode()
    authorization = f"Authorization: Bearer {bearer}\r\n" if bearer else ""
    opened.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{authorization}\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += receive(opened)
    if not answer.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"no WebSocket: {answer[:200]!r}")
    return opened


def receive(source: socket.socket) -> bytes:
    """Return the next bytes; raises when there are none to come."""
    data = source.recv(RECEIVE_BYTES)
    if not data:
        raise RuntimeError("the server has closed the connection")
    return data


def receive_until(source: socket.socket, sign: bytes) -> bytes:
    """Return what comes, until it holds `sign`."""
    received = b""
    while sign not in received[-RECEIVE_BYTES * 2 :]:
        received += receive(source)
    return received


# ── plain calls ──────────────────────────────────────────────────────────────


def http_answer(source: socket.socket) -> tuple[int, bytes, int]:
    """Read one answer with a length; return status, body, and the size of the whole."""
    received = receive_until(source, b"\r\n\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(headers["content-length"])
    while len(body) < length:
        body += receive(source)
    return int(lines[0].split(" ")[1]), body, len(head) + 4 + length


def websocket_answer(source: socket.socket) -> tuple[bytes, int]:
    """Read one unfragmented frame; return its payload and the size of the whole."""
    received = b""
    while True:
        received += receive(source)
        size, start = received[1] & 0x7F if len(received) > 1 else 0, 2
        if size == 126:
            size, start = struct.unpack("!H", received[2:4])[0], 4
        if len(received) >= max(start + size, 4):
            return received[start : start + size], start + size


def http_call(source: socket.socket, method: str, **params: Any) -> Any:
    """Call a method and return its result."""
    source.sendall(http_post(request_json(method, params)))
    status, body, _ = http_answer(source)
    answer = json.loads(body)
    if status != 200 or "result" not in answer:
        raise RuntimeError(f"{method}: {status} {body[:500]!r}")
    return answer["result"]


class Load:
    """Connections that each ask the same again as soon as they have the answer.

    Args:
        connections: Open connections, the first answer taken already.
        request: What each sends.
        answer_bytes: Size of every answer: what is asked never changes, so neither does this.
    """

    def __init__(self, connections: Sequence[socket.socket], request: bytes, answer_bytes: int) -> None:
        self._connections = connections
        self._request = request
        self._answer_bytes = answer_bytes

    def one_after_the_other(self, count: int) -> list[float]:
        """Ask on the first connection alone; return the seconds of each call."""
        connection, request, wanted = self._connections[0], self._request, self._answer_bytes
        took = []
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(request)
            missing = wanted
            while missing > 0:
                missing -= len(receive(connection))
            took.append(time.perf_counter() - began)
            _check(missing)
        return took

    def all_at_once(self, count: int) -> float:
        """Ask on every connection, `count` calls together; return the seconds."""
        poll = select.epoll()
        by_number = {connection.fileno(): connection for connection in self._connections}
        missing = dict.fromkeys(by_number, self._answer_bytes)
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        left = count - len(by_number)
        open_calls = len(by_number)
        began = time.perf_counter()
        for connection in by_number.values():
            connection.sendall(self._request)
        while open_calls:
            for number, _ in poll.poll():
                missing[number] -= len(receive(by_number[number]))
                _check(min(missing[number], 0))
                if missing[number]:
                    continue
                if left:
                    left -= 1
                    missing[number] = self._answer_bytes
                    by_number[number].sendall(self._request)
                else:
                    open_calls -= 1
        poll.close()
        return time.perf_counter() - began


def _check(missing: int) -> None:
    if missing:
        raise RuntimeError(f"an answer was {-missing} bytes longer than the first one")


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used, its children apart."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
