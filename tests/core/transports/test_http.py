"""Plain calls over HTTP: what is refused before anything is parsed, what is answered, and how connections go on."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import trio

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def client(served: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.http_url, timeout=20) as found:
        yield found


def call(method: str, params: Any = None, id: Any = 1) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "method": method, "id": id}
    return message if params is None else {**message, "params": params}


async def talk(
    port: int, data: bytes, *, until: bytes | None = None, half_close: bool = False, limit_s: float = 10
) -> bytes:
    """Send raw bytes and return what comes back, up to `until` or the end of file."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        with trio.fail_after(limit_s):
            await stream.send_all(data)
            if half_close:
                await stream.send_eof()
            answer = b""
            async for piece in stream:
                answer += piece
                if until is not None and until in answer:
                    break
            return answer


def raw(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [
        f"POST /mcp HTTP/{version}",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


ECHO = orjson.dumps(call("test.echo", {"a": 1}))


async def test_a_plain_call_is_answered(client: httpx.AsyncClient) -> None:
    answer = await client.post("/mcp", json=call("test.echo", {"text": "ä"}, id="x"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {"jsonrpc": "2.0", "id": "x", "result": {"text": "ä"}}


@pytest.mark.parametrize(
    ("kind", "data", "status", "header"),
    [
        ("not_found", {}, 200, None),
        ("conflict", {}, 200, None),
        ("unauthenticated", {}, 401, ("www-authenticate", "Bearer")),
        ("forbidden", {}, 403, None),
        ("too_large", {}, 413, None),
        ("rate_limited", {"retry_after_s": 1.2}, 429, ("retry-after", "2")),
        ("unavailable", {}, 503, None),
        ("deadline_exceeded", {}, 200, None),
    ],
)
async def test_errors_have_the_status_of_the_table(
    client: httpx.AsyncClient, kind: str, data: Any, status: int, header: tuple[str, str] | None
) -> None:
    answer = await client.post("/mcp", json=call("test.fail", {"kind": kind, **data}))
    assert answer.status_code == status
    assert answer.json()["error"]["data"]["kind"] == kind
    if header:
        assert answer.headers[header[0]] == header[1]


async def test_a_bug_is_told_as_an_incident_and_the_connection_goes_on(client: httpx.AsyncClient, served: Any) -> None:
    answer = await client.post("/mcp", json=call("test.bug"))
    error = answer.json()["error"]
    assert error["data"]["kind"] == "internal"
    assert "secret" not in answer.text
    assert served.log.records[-1][2]["incident"] == error["data"]["incident"]
    assert (await client.post("/mcp", json=call("test.echo", []))).json()["result"] == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "parse_error"),
        (b"{", "parse_error"),
        (b"[]", "invalid_request"),
        (b"17", "invalid_request"),
        (b'{"jsonrpc":"1.0","method":"test.echo","id":1}', "invalid_request"),
        (b'{"jsonrpc":"2.0","method":7,"id":1}', "invalid_request"),
        (b'{"jsonrpc":"2.0","method":"test.echo","method":"test.echo","id":1}', "invalid_request"),
        (b"[" * 100_000, "parse_error"),
        (b"[" * 100_000 + b"]" * 100_000, "parse_error"),
        (b'{"jsonrpc":"2.0","method":"\xff\xfe","id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":["\\ud800"],"id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":[NaN],"id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":[1e400],"id":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","method":"test.echo","params":[' + b"9" * 5000 + b'],"id":1}', "parse_error"),
        (b"\xef\xbb\xbf{}", "parse_error"),
        (b'{"jsonrpc":"2.0","method":"no.such","id":1}', "method_not_found"),
    ],
)
async def test_malformed_bodies_get_their_error_and_the_connection_goes_on(served: Any, body: bytes, kind: str) -> None:
    answer = await talk(served.http_port, raw(body) + raw(ECHO, "Connection: close"))
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b'"kind":"%b"' % kind.encode() in answer
    assert answer.endswith(b'"result":{"a":1}}')


async def test_a_notification_gets_no_answer_also_when_it_is_wrong(client: httpx.AsyncClient) -> None:
    for method in ("test.echo", "no.such", "test.bug"):
        answer = await client.post("/mcp", json={"jsonrpc": "2.0", "method": method})
        assert (answer.status_code, answer.content) == (204, b"")


async def test_a_batch_is_answered_in_order_without_its_notifications(client: httpx.AsyncClient) -> None:
    batch = [call("test.echo", [1]), {"jsonrpc": "2.0", "method": "test.echo"}, 5, call("no.such", id=None)]
    answers = (await client.post("/mcp", json=batch)).json()
    assert [answer["id"] for answer in answers] == [1, None, None]
    assert answers[1]["error"]["data"]["kind"] == "invalid_request"
    assert answers[2]["error"]["data"]["kind"] == "method_not_found"


async def test_a_batch_of_notifications_gets_no_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/mcp", json=[{"jsonrpc": "2.0", "method": "test.echo"}])
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_streaming_method_in_a_batch_is_refused_and_not_started(client: httpx.AsyncClient, served: Any) -> None:
    answers = (await client.post("/mcp", json=[call("test.stream"), call("test.echo", [2], id=2)])).json()
    assert answers[0]["error"]["data"]["kind"] == "invalid_request"
    assert answers[1]["result"] == [2]
    assert served.door.runs == {}


# ── before anything is parsed ────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:4445"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Host": "localhost:1", "Origin": "http://127.0.0.1:3000"}, 200),
        ({"Host": "[::1]:4445"}, 200),
    ],
)
async def test_foreign_hosts_and_origins_are_refused_before_anything_is_parsed(
    client: httpx.AsyncClient, served: Any, headers: dict[str, str], status: int
) -> None:
    for path in ("/mcp", "/health"):
        answer = await client.post(path, headers={**JSON, **headers}, content=ECHO)
        assert answer.status_code == status
        if status != 200:
            assert answer.json()["error"]["data"]["kind"] == "forbidden"
            assert "access-control-allow-origin" not in answer.headers
            assert served.door.calls == []


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
async def test_other_content_types_are_refused(
    client: httpx.AsyncClient, served: Any, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await client.post("/mcp", headers=headers, content=ECHO)
    assert answer.status_code == 415
    assert served.door.calls == []


async def test_content_types_may_name_utf_8_and_any_case(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert (await client.post("/mcp", headers=headers, content=ECHO)).status_code == 200


async def test_other_methods_are_refused_with_what_is_allowed(client: httpx.AsyncClient) -> None:
    for method in ("DELETE", "PUT", "PATCH", "HEAD"):
        answer = await client.request(method, "/mcp")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, POST, OPTIONS"
    assert (await client.options("/mcp")).status_code == 204


async def test_other_paths_are_the_pages(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).text == "page /health"


async def test_pages_of_allowed_origins_may_ask_and_read(serving: Any) -> None:
    async with serving(allowed_origins=("https://app.example.com",)) as served, httpx.AsyncClient() as client:
        origin = {"Origin": "https://app.example.com"}
        asked = await client.options(
            f"{served.http_url}/mcp", headers={**origin, "Access-Control-Request-Method": "POST"}
        )
        assert asked.status_code == 204
        assert "Content-Type" in asked.headers["access-control-allow-headers"]
        answer = await client.post(f"{served.http_url}/mcp", headers={**origin, **JSON}, content=ECHO)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "access-control-allow-origin" not in (await client.get(f"{served.http_url}/")).headers


# ── sizes and times ──────────────────────────────────────────────────────────


async def test_a_message_of_11_mib_is_refused_without_reading_on(served: Any) -> None:
    body = b'"' + b"x" * (11 * 2**20) + b'"'
    answer = await talk(served.http_port, raw(body))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"kind":"too_large"' in answer
    assert (await talk(served.http_port, raw(ECHO, "Connection: close"))).startswith(b"HTTP/1.1 200")


async def test_a_chunked_message_of_11_mib_is_refused(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 2**20

    answer = await client.post("/mcp", headers=JSON, content=pieces())
    assert answer.status_code == 413
    assert answer.json()["error"]["data"]["kind"] == "too_large"


async def test_a_message_just_below_the_limit_is_taken(client: httpx.AsyncClient) -> None:
    answer = await client.post("/mcp", json=call("test.echo", ["x" * (10 * 2**20 - 100)]))
    assert len(answer.json()["result"][0]) == 10 * 2**20 - 100


async def test_chunked_bodies_are_taken(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in ECHO:
            yield bytes([byte])

    assert (await client.post("/mcp", headers=JSON, content=pieces())).json()["result"] == {"a": 1}


async def test_a_body_that_does_not_arrive_is_given_up(serving: Any) -> None:
    async with serving(body_timeout_s=0.05) as served:
        answer = await talk(served.http_port, raw(ECHO)[:-5])
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"kind":"deadline_exceeded"' in answer


async def test_a_thousand_calls_at_the_same_time_are_answered(served: Any) -> None:
    answered: list[int] = []

    async def one(number: int) -> None:
        body = orjson.dumps(call("test.wait", id=number))
        answer = await talk(served.http_port, raw(body, "Connection: close"), limit_s=50)
        assert answer.endswith(b'"id":%d,"result":"waited"}' % number)
        answered.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(one, number)
        await served.door.wait_waiting(1000)
        served.door.gate.set()
    assert sorted(answered) == list(range(1000))


# ── connections ──────────────────────────────────────────────────────────────


async def test_connection_close_gives_the_end_of_file(served: Any) -> None:
    answer = await talk(served.http_port, raw(ECHO, "Connection: close"))
    assert answer.endswith(b'"result":{"a":1}}')


async def test_http_1_0_is_answered_and_closed(served: Any) -> None:
    without_host = raw(ECHO, version="1.0").replace(b"Host: localhost\r\n", b"")
    assert (await talk(served.http_port, without_host)).endswith(b'"result":{"a":1}}')


async def test_pipelined_calls_are_answered_in_order(served: Any) -> None:
    calls = [raw(orjson.dumps(call("test.echo", [n], id=n))) for n in range(20)]
    last = raw(ECHO, "Connection: close")
    answer = await talk(served.http_port, b"".join([*calls, last]))
    places = [answer.index(b'"id":%d,"result":[%d]' % (n, n)) for n in range(20)]
    assert places == sorted(places)


async def test_a_client_that_has_said_all_is_still_answered(served: Any) -> None:
    answer = await talk(served.http_port, raw(ECHO), half_close=True)
    assert answer.endswith(b'"result":{"a":1}}')


async def test_garbage_harms_only_its_own_connection(served: Any) -> None:
    for garbage in (
        b"\x00\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ):
        assert (await talk(served.http_port, garbage)).startswith(b"HTTP/1.1 400")
    assert (await talk(served.http_port, raw(ECHO, "Connection: close"))).startswith(b"HTTP/1.1 200")


async def test_a_call_goes_on_when_its_client_has_gone(served: Any) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", served.http_port)
    await stream.send_all(raw(orjson.dumps(call("test.wait"))))
    await served.door.wait_waiting(1)
    await stream.aclose()
    served.door.gate.set()
    assert (await talk(served.http_port, raw(ECHO, "Connection: close"))).startswith(b"HTTP/1.1 200")


async def test_the_bearer_reaches_the_door(client: httpx.AsyncClient, served: Any) -> None:
    await client.post("/mcp", json=call("test.echo"), headers={"Authorization": "bearer  clonk_x_y"})
    assert served.door.connections[-1].bearer == "clonk_x_y"
    assert "clonk_x_y" not in repr(served.door.connections[-1])


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("headers", "trace_id"),
    [
        ([("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")], TRACE),
        ([("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01\x1b[2J")], None),
        ([("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")] * 2, None),
        ([], None),
    ],
)
async def test_the_trace_that_a_request_belongs_to_is_kept_for_the_log(
    served: Any, client: httpx.AsyncClient, headers: list[tuple[str, str]], trace_id: str | None
) -> None:
    await client.post("/mcp", json=call("test.echo"), headers=headers)
    assert [connection.trace_id for connection in served.door.connections] == ([trace_id] if served.door.calls else [])
