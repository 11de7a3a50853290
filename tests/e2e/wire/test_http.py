"""HTTP and WebSocket handshakes as an outsider sends them: by hand, wrong, slow, pipelined, half closed."""

import re
from collections.abc import Callable

import pytest
import trio

from clonk_core.testing.server_process import ServerProcess

Call = Callable[..., bytes]

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
KIND = re.compile(rb'"kind":"([a-z_]+)"')


class Raw:
    """Sends bytes to one of the server's ports and reads to the end of file."""

    def __init__(self, server: ServerProcess) -> None:
        self.http_port = int(server.http_url.rpartition(":")[2])
        self.websocket_port = int(server.websocket_url.removesuffix("/ws").rpartition(":")[2])

    async def talk(self, data: bytes, *, websocket: bool = False, half_close: bool = False) -> bytes:
        port = self.websocket_port if websocket else self.http_port
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with trio.fail_after(20):
                await stream.send_all(data)
                if half_close:
                    await stream.send_eof()
                return b"".join([piece async for piece in stream])


@pytest.fixture
def raw(server: ServerProcess) -> Raw:
    return Raw(server)


def post(body: bytes, *headers: str, close: bool = False, version: str = "1.1", target: str = "/mcp") -> bytes:
    """A request as text. A header that is given replaces the usual one of its name."""
    usual = ["Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    given = {header.split(":")[0].lower() for header in headers}
    kept = [header for header in usual if header.split(":")[0].lower() not in given]
    last = ["Connection: close"] if close else []
    lines = [f"POST {target} HTTP/{version}", *kept, *[one for one in headers if not one.endswith(":")], *last]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# ── who may knock ────────────────────────────────────────────────────────────


async def test_a_foreign_host_or_origin_gets_nowhere_on_either_port(raw: Raw, call: Call) -> None:
    body = call("trouble.add", [1, 2])
    for header, expected in [
        ("Host: evil.example", 421),
        ("Host: evil.example:4445", 421),
        ("Host: localhost.evil.example", 421),
        ("Host: 127.0.0.1.evil.example", 421),
        ("Host: \xff\xe9", 421),
        ("Origin: https://evil.example", 403),
        ("Origin: null", 403),
        ("Origin: http://localhost@evil.example", 403),
        ("Origin: http://[::1", 403),
        ("Origin: file://", 403),
    ]:
        for target in ("/mcp", "/health", "/openrpc.json", "/", "/nowhere"):
            answer = await raw.talk(post(body, header, close=True, target=target))
            assert (status(answer), KIND.findall(answer)) == (expected, [b"forbidden"]), (header, target)
            assert b"access-control-allow" not in answer.lower()
        if header.isascii():
            name = header.split(":")[0].encode()
            changed = re.sub(rb"%b: [^\r]*\r\n" % name, b"", HANDSHAKE).replace(
                b"Upgrade: websocket", header.encode() + b"\r\nUpgrade: websocket"
            )
            answer = await raw.talk(changed, websocket=True)
            assert (status(answer), KIND.findall(answer)) == (expected, [b"forbidden"]), header


async def test_local_names_and_origins_may_knock(raw: Raw, call: Call) -> None:
    body = call("trouble.add", [1, 2])
    for header in ("Host: LOCALHOST.:1", "Host: [::1]:4445", "Host: 127.0.0.1", "Origin: http://localhost:3000"):
        assert status(await raw.talk(post(body, header, close=True))) == 200, header


async def test_a_body_that_is_not_said_to_be_json_is_not_read(raw: Raw, call: Call) -> None:
    body = call("trouble.add", [1, 2])
    for header in (
        "Content-Type:",
        "Content-Type: text/plain",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: multipart/form-data; boundary=x",
        "Content-Type: text/plain; application/json",
        "Content-Type: application/json; charset=utf-16",
        "Content-Encoding: gzip",
    ):
        assert status(await raw.talk(post(body, header, close=True))) == 415, header
    for header in ("Content-Type: Application/JSON;charset=UTF-8", "Content-Type: application/json;"):
        assert status(await raw.talk(post(body, header, close=True))) == 200, header


async def test_unknown_paths_are_not_found_and_wrong_methods_not_allowed(raw: Raw, call: Call) -> None:
    def request(method: str, target: str) -> bytes:
        return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()

    for target in ("/nowhere", "/mcp/", "/MCP", "/ws", "//mcp", "/../../etc/passwd", "/%ff%00", "http://localhost/x"):
        answer = await raw.talk(request("GET", target))
        assert status(answer) == 404, target
        assert b"root:" not in answer
    for method in ("PUT", "PATCH", "DELETE", "HEAD", "TRACE", "BREW"):
        answer = await raw.talk(request(method, "/mcp"))
        assert (status(answer), b"allow: GET, POST, OPTIONS" in answer) == (405, True), method
    for target in ("/", "/health", "/ready", "/openrpc.json"):
        answer = await raw.talk(request("DELETE", target))
        assert status(answer) == 405, target
        assert re.search(rb"\r\nallow: [^\r]*GET", answer), target
        assert status(await raw.talk(request("GET", target))) == 200, target
        assert (await raw.talk(request("HEAD", target))).endswith(b"\r\n\r\n"), target


async def test_websocket_is_told_where_it_is_and_where_it_is_not(raw: Raw) -> None:
    wrong_path = await raw.talk(HANDSHAKE.replace(b"/ws", b"/mcp"), websocket=True)
    assert (status(wrong_path), KIND.findall(wrong_path)) == (404, [b"not_found"])
    wrong_port = await raw.talk(HANDSHAKE)
    assert (status(wrong_port), KIND.findall(wrong_port)) == (404, [b"not_found"])
    assert status(await raw.talk(HANDSHAKE.replace(b"Version: 13", b"Version: 8"), websocket=True)) == 426
    for garbage in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x81\x05hello\r\n\r\n",
        HANDSHAKE.replace(b"localhost", b"\xff\xe9"),
    ):
        assert status(await raw.talk(garbage, websocket=True)) == 400, garbage


# ── connections ──────────────────────────────────────────────────────────────


async def test_the_end_of_file_comes_where_it_was_asked_for(raw: Raw, call: Call) -> None:
    body = call("trouble.add", [1, 2])
    assert (await raw.talk(post(body, close=True))).endswith(b'"result":3}')
    assert (await raw.talk(post(body, version="1.0"))).endswith(b'"result":3}')
    stream = await raw.talk(post(call("trouble.count", [3]), close=True))
    assert stream.endswith(b"0\r\n\r\n")
    stream = await raw.talk(post(call("trouble.count", [3]), version="1.0"))
    assert b"chunked" not in stream
    assert stream.endswith(b'"outcome":"complete","error":null}}}\n\n')
    assert (await raw.talk(post(body), half_close=True)).endswith(b'"result":3}')


async def test_pipelined_requests_are_answered_in_order_whatever_they_are(raw: Raw, call: Call) -> None:
    requests, marks = [], []
    for number in range(10):
        requests += [
            post(call("trouble.add", [number, 1000], id=f"add{number}")),
            post(call("trouble.count", [2], id=f"count{number}")),
            post(b"no json"),
            post(b'{"jsonrpc":"2.0","method":"trouble.bug"}'),
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ]
        marks += [b'"id":"add%d","result":%d' % (number, number + 1000), b'"id":"count%d"' % number]
    answer = await raw.talk(b"".join([*requests, post(call("trouble.add", [1, 2], id="last"), close=True)]))
    places = [answer.index(mark) for mark in [*marks, b'"id":"last"']]
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 ") == 51


async def test_bytes_that_come_one_by_one_and_in_chunks_are_read(raw: Raw, call: Call) -> None:
    body = call("trouble.add", [1, 2])
    async with await trio.open_tcp_stream("127.0.0.1", raw.http_port) as stream:
        for byte in post(body, close=True):
            await stream.send_all(bytes([byte]))
        assert b"".join([piece async for piece in stream]).endswith(b'"result":3}')
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body) + b"0\r\nX-Trailer: 1\r\n\r\n"
    head = post(b"", "Content-Length:", "Transfer-Encoding: chunked", close=True)
    assert (await raw.talk(head + chunks)).endswith(b'"result":3}')
    for text, expected in [(b"zz\r\n\r\n", 400), (b"-1\r\n", 400), (b"ffffffffffffffffffffff\r\n", 400)]:
        assert status(await raw.talk(head + text)) == expected, text


async def test_requests_that_are_none_get_400_and_harm_nobody(raw: Raw, call: Call) -> None:
    line = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for garbage in (
        b"\x00\xff\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /health HTTP/1.0\r\nHost: evil.example\r\nHost: localhost\r\n\r\n",
        line + b"Content-Length: -1\r\n\r\n",
        line + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        line + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        line + b"X y: z\r\n\r\n",
    ):
        assert status(await raw.talk(garbage)) == 400, garbage[:80]
    assert status(await raw.talk(line + b"Transfer-Encoding: gzip\r\n\r\n")) == 501
    assert status(await raw.talk(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)) == 431
    assert status(await raw.talk(post(call("trouble.add", [1, 2]), close=True))) == 200


async def test_an_offer_of_http_2_is_passed_over(raw: Raw, call: Call) -> None:
    offer = ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", "Connection: close, Upgrade, HTTP2-Settings")
    assert status(await raw.talk(post(call("trouble.add", [1, 2]), *offer))) == 200
    get = "\r\n".join(["GET /health HTTP/1.1", "Host: localhost", *offer, "", ""]).encode()
    assert status(await raw.talk(get)) == 200
    expecting = await raw.talk(post(call("trouble.add", [1, 2]), "Expect: 100-continue", close=True))
    assert [int(one) for one in re.findall(rb"HTTP/1.1 (\d+)", expecting)] == [100, 200]


async def test_clients_that_stop_in_the_middle_leave_nothing_behind(raw: Raw, call: Call) -> None:
    whole = post(call("trouble.add", [1, 2]))
    for size in range(0, len(whole), 7):
        async with await trio.open_tcp_stream("127.0.0.1", raw.http_port) as stream:
            await stream.send_all(whole[:size])
        async with await trio.open_tcp_stream("127.0.0.1", raw.websocket_port) as stream:
            await stream.send_all((HANDSHAKE + b"\x81\xff\0\0\0")[:size])
    assert (await raw.talk(whole, half_close=True)).endswith(b'"result":3}')
