"""Attacks with what is said: odd credentials, foreign names, and line ends where a header or a log line could begin."""

import time
from typing import Any

import orjson
import pytest
import trio

from clonk_core.app import open_app
from clonk_core.observe.logs import Logs
from clonk_core.testing.host import TestHost, blueprint
from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of
from tests.core.gateway.raw import Raw, ask_raw, bearer, frames, message, post_bytes, upgrade_bytes

PLANTED = b"X-Planted: yes"
LEGAL = [
    b"\t",
    b"\xc3\xa4\xff",
    b"%0d%0aX-Planted:%20yes",
    b"\\r\\n" + PLANTED,
    b"y" * 20_000,
    b'"}\x85{',
    b"a, b;c=d",
    b"\x1b[2J",
]
ILLEGAL = [b"\r" + PLANTED, b"\0", b"\x0b", b"y" * 1_100_000]
NAMES = [
    b"Origin",
    b"Authorization",
    b"X-Forwarded-For",
    b"traceparent",
    b"Last-Event-ID",
    b"Mcp-Session-Id",
    b"Accept",
]


def nothing_planted(answer: Raw) -> None:
    """Assert that nothing that was sent became a header, and no header's value repeats it."""
    for line in answer.lines:
        name, _, value = line.partition(b":")
        assert name.strip().lower() != b"x-planted", answer.lines
        assert b"planted" not in value.lower(), answer.lines
        assert all(byte >= 32 for byte in line), answer.lines
        assert len(line) < 1000


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_of_a_header_becomes_a_header_of_the_answer(open_guarded: OpenGuarded, name: bytes) -> None:
    settings = {"server": {"http_port": 0, "websocket_port": 0, "trusted_proxies": ["127.0.0.0/8"]}}
    async with open_guarded(key_settings("a"), settings=settings) as host, served(host) as addresses:
        http, websocket = addresses.http.port, addresses.websocket.port
        for value in (*LEGAL, *ILLEGAL):
            line = name + b": " + value
            key = [] if name == b"Authorization" else [bearer("a")]
            get = b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n\r\n" % line
            for port, data in (
                (http, post_bytes(message(), line, *key)),
                (http, get),
                (websocket, upgrade_bytes(line, path=b"/nowhere")),
            ):
                answer = await ask_raw(port, data)
                nothing_planted(answer)
                assert answer.status in {200, 400, 401, 403, 404, 431}, (value[:40], answer)
                if value in ILLEGAL:
                    assert answer.status in {400, 431}, (value[:40], answer)


async def test_nothing_of_a_path_a_host_or_a_message_becomes_a_header(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a"), auth={"authenticate_within_s": 0.2}) as host, served(host) as addresses:
        http, websocket = addresses.http.port, addresses.websocket.port
        for value in (
            b"%0d%0aX-Planted:%20yes",
            b"\xff",
            b"\0",
            b"y" * 20_000,
            b"?a=%0d%0aX-Planted:yes",
            b"..%2f..%2f",
        ):
            for data in (post_bytes(message(), bearer("a"), path=b"/" + value), post_bytes(b"", host=b"h" + value)):
                answer = await ask_raw(http, data)
                nothing_planted(answer)
                assert answer.status in {400, 404, 405, 421, 431}
            for data in (upgrade_bytes(path=b"/" + value), upgrade_bytes(host=b"h" + value)):
                answer = await ask_raw(websocket, data)
                nothing_planted(answer)
                assert answer.status in {400, 404, 421, 431} or b"?" in value
        for text in ("a\r\nX-Planted: yes", "\0", "ä\u2028\x85", "y" * 50_000):
            for body in (message(text), message(id=text), message("auth.whoami", {text: text}), message("no." + text)):
                answer = await ask_raw(http, post_bytes(body, bearer("a")))
                nothing_planted(answer)
                assert answer.status == 200


@pytest.mark.parametrize("format", ["json", "pretty"])
async def test_nothing_that_is_sent_begins_a_line_of_the_log(tmp_path: Any, format: Any) -> None:
    from io import StringIO

    stream = StringIO()
    settings = {
        "auth": {"api_keys": [key_settings("a")], "stranger_limit": None, "max_failure_delay_s": 0},
        "server": {"trusted_proxies": ["127.0.0.0/8"]},
    }
    drawn = blueprint(tmp_path / "data", settings=settings, packages=["claudecode"])
    evil = 'x\r\n{"event": "planted"}\n2026-01-01T00:00:00Z [error] planted\x1b[2J\x85\u2028'
    async with open_app(drawn, logs=Logs(level="debug", format=format, stream=stream)) as app:
        host = TestHost(app=app, client=None, log=stream)  # type: ignore[arg-type]
        async with served(host) as addresses:
            http = addresses.http.port
            for body in (
                message(evil),
                message(id=evil),
                message("claudecode.get", {"name": evil}),
                message("rpc.resume", {"subscription": evil}),
                message("keys.get", {"id": evil}),
                message("keys.create", {"id": evil, "scopes": [evil]}),
            ):
                assert (await ask_raw(http, post_bytes(body, bearer("a")))).status == 200
            for name in NAMES:
                for value in LEGAL:
                    await ask_raw(http, post_bytes(message(), name + b": " + value + b"planted"))
                    await ask_raw(addresses.websocket.port, upgrade_bytes(name + b": " + value, path=b"/planted"))
            async with frames(addresses.websocket.port, bearer("a")) as peer:
                await peer.send(message(evil))
                await peer.answer(1)
                await peer.send(b"\x03\xf0planted\n", opcode=8)
                await peer.receive()
    lines = stream.getvalue().split("\n")[:-1]
    assert len(lines) > 10
    for line in lines:
        assert line.isprintable(), line
        if format == "json":
            assert orjson.loads(line)["event"] != "planted"
        else:
            assert line.startswith("20"), line  # its time
            assert "planted" not in line[:40], line  # and an event of ours


# ── who may knock ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", [None, b"good", b"wrong"])
@pytest.mark.parametrize(
    ("host_name", "origin", "status"),
    [
        (b"evil.example", None, 421),
        (b"127.0.0.1.evil.example", None, 421),
        (b"localhost.evil.example:80", b"http://localhost.evil.example", 421),
        (b"localhost@evil.example", None, 421),
        (b"localhost", b"https://evil.example", 403),
        (b"localhost", b"null", 403),
        (b"localhost", b"http://localhost@evil.example", 403),
        (b"localhost", b"http://evil.example#localhost", 403),
        (b"localhost", b"file://localhost", 403),
    ],
)
async def test_a_foreign_page_is_refused_before_its_key_is_looked_at(
    open_guarded: OpenGuarded, key: bytes | None, host_name: bytes, origin: bytes | None, status: int
) -> None:
    lines = [] if origin is None else [b"Origin: " + origin]
    if key is not None:
        lines.append(bearer("a") if key == b"good" else b"Authorization: Bearer wrong")
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        for path in (b"/mcp", b"/health", b"/openrpc.json", b"/"):
            answer = await ask_raw(addresses.http.port, post_bytes(message(), *lines, path=path, host=host_name))
            assert (answer.status, answer.kind) == (status, "forbidden"), path
            assert not any(line.lower().startswith(b"access-control") for line in answer.lines)
        preflight = b"OPTIONS /mcp HTTP/1.1\r\nHost: %b\r\nConnection: close\r\nAccess-Control-Request-Method: POST\r\n"
        head = preflight % host_name + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        answer = await ask_raw(addresses.http.port, head)
        assert answer.status == status
        assert not any(line.lower().startswith(b"access-control") for line in answer.lines)
        answer = await ask_raw(addresses.websocket.port, upgrade_bytes(*lines, host=host_name))
        assert (answer.status, answer.kind) == (status, "forbidden")
        assert "credential refused" not in host.log_text


# ── credentials in odd places ────────────────────────────────────────────────

SECRET = secret_of("a").encode()


@pytest.mark.parametrize(
    "lines",
    [
        [b"Cookie: api_key=" + SECRET],
        [b"Cookie: Authorization=Bearer " + SECRET],
        [b"Authorization: Basic " + SECRET],
        [b"Authorization: Basic YTpjbG9ua19hX29mLXRoZS10ZXN0"],
        [b"Authorization: " + SECRET],
        [b"Authorization: Token " + SECRET],
        [b"Authorization: Bearer=" + SECRET],
        [b"Authorization: Bearer " + SECRET + b"x"],
        [b"Authorization: Bearer " + SECRET.upper()],
        [b"Authorization: Bearer " + SECRET + b" " + SECRET],
        [b'Authorization: Bearer "' + SECRET + b'"'],
        [b"Authorization: Bearer " + SECRET, b"Authorization: Bearer " + SECRET],
        [b"Authorization: Bearer wrong", b"Authorization: Bearer " + SECRET],
        [b"Authorization: Bearer " + SECRET, b"Authorization: Bearer wrong"],
        [b"Authorization: Basic eA==", b"Authorization: Bearer " + SECRET],
        [b"Proxy-Authorization: Bearer " + SECRET],
        [b"X-API-Key: " + SECRET],
        [b"Authorization: Bearer " + b"z" * 20_000],
        [b"Authorization: Bearer " + b"z" * 2**20],
        [b"Sec-WebSocket-Protocol: bearer, " + SECRET],
        [b"Authorization:"],
    ],
)
async def test_a_credential_in_an_odd_place_lets_nobody_in_and_is_not_logged(
    open_guarded: OpenGuarded, lines: list[bytes]
) -> None:
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        began = time.monotonic()
        answer = await ask_raw(addresses.http.port, post_bytes(message(), *lines))
        assert answer.status in {401, 431, 400}
        assert SECRET not in answer.body
        try:
            async with frames(addresses.websocket.port, *lines) as peer:
                assert peer.head.split(b" ")[1] in {b"101", b"401", b"400", b"431"}
                if peer.head.split(b" ")[1] == b"101":
                    await peer.send(message())
                    assert (await peer.answer(1))["error"]["data"]["kind"] == "unauthenticated"
        except (EOFError, trio.BrokenResourceError):
            pass  # a head of a megabyte is cut off
        assert time.monotonic() - began < 10
        assert secret_of("a") not in host.log_text
        assert "zzzz" not in host.log_text


@pytest.mark.parametrize("path", [b"/mcp?api_key=%b", b"/mcp?access_token=%b&Authorization=Bearer%%20%b", b"/mcp/%b"])
async def test_a_credential_in_the_address_lets_nobody_in_and_is_not_logged(
    open_guarded: OpenGuarded, path: bytes
) -> None:
    target = path.replace(b"%b", SECRET).replace(b"%%", b"%")
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        answer = await ask_raw(addresses.http.port, post_bytes(message(), path=target))
        assert answer.status in {401, 404}
        answer = await ask_raw(addresses.websocket.port, upgrade_bytes(path=target.replace(b"/mcp", b"/nowhere")))
        assert answer.status == 404
        assert secret_of("a") not in host.log_text


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"Bearer  ", b" Bearer"])
async def test_the_scheme_s_case_and_the_spaces_make_no_difference(open_guarded: OpenGuarded, scheme: bytes) -> None:
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        for credential, status in ((SECRET, 200), (b"wrong", 401)):
            line = b"Authorization: " + scheme + b" " + credential
            assert (await ask_raw(addresses.http.port, post_bytes(message(), line))).status == status
