"""Both ports by TLS: what is spoken, what fails and harms nobody, and how connections end."""

import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import trio

from clonk_core.client.base import ConnectionLost
from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.config.settings import ServerSettings, TlsSettings
from clonk_core.errors import ConfigError
from clonk_core.transports.listening import Address
from clonk_core.transports.tls import TlsCertificate

DAY = timedelta(days=1)
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the first bytes of a handshake
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def post(method: str, *, head: bytes = b"", **params: Any) -> bytes:
    body = orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
    return (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
        % (head, len(body))
    ) + body


@pytest.fixture
async def secure(serving: Any, authority: Any, list_log: Any) -> AsyncIterator[Any]:
    """Both ports by TLS, with the default settings."""
    certificate = TlsCertificate(authority.issue().settings, log=list_log)
    async with serving(certificate=certificate, log=list_log) as served:
        yield served


@asynccontextmanager
async def encrypted(
    port: int, context: ssl.SSLContext, *, https_compatible: bool = False
) -> AsyncIterator["trio.SSLStream[trio.SocketStream]"]:
    """Give an encrypted connection, after its handshake; by default it insists on `close_notify`."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    secured = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=https_compatible)
    try:
        with trio.fail_after(10):
            await secured.do_handshake()
        yield secured
    finally:
        await trio.aclose_forcefully(secured)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    with trio.fail_after(10):
        return b"".join([bytes(piece) async for piece in stream])


async def ended(stream: trio.abc.ReceiveStream, within_s: float = 5) -> bool:
    """Tell whether the other side has closed, in whatever way."""
    with trio.move_on_after(within_s):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        return True
    return False


def no_faults(log: Any) -> bool:
    return not {level for level, _, _ in log.records} & {"warning", "error", "exception"}


# ── what is spoken ───────────────────────────────────────────────────────────


async def test_calls_and_streams_over_https(secure: Any, authority: Any) -> None:
    assert secure.http_url.startswith("https://")
    async with HttpClient(secure.http_url, ssl_context=authority.client()) as client:
        assert await client.call("test.echo", name="first") == {"name": "first"}
        events = await client.events("test.stream", events=1000, size=100)
        assert [event["value"] for event in events[:-1]] == list(range(1, 1001))
        assert events[-1]["outcome"] == "complete"
    assert no_faults(secure.log)


async def test_events_of_a_stream_come_as_they_happen(secure: Any, authority: Any) -> None:
    async with HttpClient(secure.http_url, ssl_context=authority.client()) as client:
        async with client.stream("test.stream", end=False) as stream:
            run = await secure.door.wait_run()
            for value in range(3):
                run.add({"type": "number", "value": value})
                assert (await stream.next()).event["value"] == value
            run.finish()
            assert (await stream.next()).is_done


async def test_calls_and_streams_over_wss(secure: Any, authority: Any) -> None:
    assert secure.websocket_url.startswith("wss://")
    async with WebSocketClient(secure.websocket_url, ssl_context=authority.client()) as client:
        assert await client.call("test.echo", name="first") == {"name": "first"}
        long = "x" * (3 * 2**20)
        assert await client.call("test.echo", text=long) == {"text": long}
        assert len(await client.events("test.stream", events=1000, size=100)) == 1001
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(client.call, "test.echo")
    assert no_faults(secure.log)


@pytest.mark.parametrize("way", ["http", "websocket"])
async def test_a_large_answer_arrives_whole(secure: Any, authority: Any, way: str) -> None:
    text = "clonk " * (10 * 2**20 // 6 - 100)
    context = authority.client()
    client: HttpClient | WebSocketClient = (
        HttpClient(secure.http_url, ssl_context=context)
        if way == "http"
        else WebSocketClient(secure.websocket_url, ssl_context=context)
    )
    async with client:
        assert await client.call("test.echo", text=text) == {"text": text}


async def test_the_application_is_told_that_it_is_https(serving: Any, authority: Any, list_log: Any) -> None:
    scopes = []

    async def pages(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    certificate = TlsCertificate(authority.issue().settings, log=list_log)
    async with serving(certificate=certificate, pages=pages) as served:
        async with httpx.AsyncClient(verify=authority.client(), trust_env=False) as http:
            await http.get(served.http_url)
        assert scopes[0]["scheme"] == "https"
        assert scopes[0]["client"][0] == "127.0.0.1"
        assert scopes[0]["server"] == ("127.0.0.1", served.http_port)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("port", ["http_port", "websocket_port"])
async def test_tls_1_2_and_1_3_are_taken(secure: Any, authority: Any, port: str, version: ssl.TLSVersion) -> None:
    context = authority.client()
    context.minimum_version = context.maximum_version = version
    async with encrypted(getattr(secure, port), context) as stream:
        assert stream.version() == version.name.replace("_", ".")
        assert stream.compression() is None
        await stream.send_all(post("test.echo") if port == "http_port" else UPGRADE)
        assert bytes(await stream.receive_some(9)) == b"HTTP/1.1 "


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.parametrize("port", ["http_port", "websocket_port"])
async def test_older_ones_are_refused(secure: Any, authority: Any, port: str, version: str) -> None:
    context = authority.client()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with pytest.raises(trio.BrokenResourceError):
        async with encrypted(getattr(secure, port), context):
            pass
    async with encrypted(getattr(secure, port), authority.client()):
        pass  # others are served
    assert "tls handshake failed" in secure.log.told("debug")
    assert no_faults(secure.log)


async def test_of_what_a_client_offers_http_1_is_chosen(secure: Any, authority: Any) -> None:
    context = authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with encrypted(secure.http_port, context) as stream:
        assert stream.selected_alpn_protocol() == "http/1.1"


def test_an_address_says_that_it_is_encrypted() -> None:
    address = Address(host="127.0.0.1", port=4445, secure=True)
    assert address.url("http", "/mcp") == "https://127.0.0.1:4445/mcp"
    assert address.url("ws") == "wss://127.0.0.1:4445"


# ── what fails and harms nobody ──────────────────────────────────────────────


@pytest.mark.parametrize("port", ["http_port", "websocket_port"])
@pytest.mark.parametrize("first", [post("test.echo"), UPGRADE, b"\0" * 100, b"SSH-2.0-x\r\n", b""])
async def test_what_is_no_tls_is_closed_quietly(secure: Any, authority: Any, port: str, first: bytes) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", getattr(secure, port)) as stream:
        await stream.send_all(first)
        await stream.send_eof()
        assert await ended(stream)
    async with encrypted(getattr(secure, port), authority.client()):
        pass
    assert secure.door.calls == []
    assert no_faults(secure.log)


async def test_a_client_that_does_not_trust_the_certificate_is_told_why(secure: Any, authority: Any) -> None:
    for client in (HttpClient(secure.http_url), WebSocketClient(secure.websocket_url, retries=0)):
        with pytest.raises(ConnectionLost, match=r"(?i)certificate.verify.failed"):
            async with client:
                await client.call("test.echo")
    assert no_faults(secure.log)


@pytest.mark.parametrize("port", ["http_port", "websocket_port"])
async def test_a_slow_handshake_is_dropped_and_holds_nobody(
    serving: Any, authority: Any, list_log: Any, port: str
) -> None:
    certificate = TlsCertificate(authority.issue().settings, log=list_log, handshake_s=1.5)
    async with serving(certificate=certificate, log=list_log) as served, trio.open_nursery() as nursery:
        slow = [await trio.open_tcp_stream("127.0.0.1", getattr(served, port)) for _ in range(20)]

        async def dribble(stream: trio.SocketStream) -> None:
            try:
                for byte in HELLO:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.1)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # closed in the midst of it

        for stream in slow:
            nursery.start_soon(dribble, stream)
        async with encrypted(getattr(served, port), authority.client()):
            assert list_log.told("debug") == []  # while they are still at it
        for stream in slow:
            assert await ended(stream)
            await stream.aclose()
    assert list_log.told("debug").count("tls handshake failed") == 20
    assert no_faults(list_log)


@pytest.mark.parametrize("way", ["http", "websocket"])
async def test_a_reader_that_stalls_is_dropped(serving: Any, authority: Any, list_log: Any, way: str) -> None:
    certificate = TlsCertificate(authority.issue().settings, log=list_log)
    async with serving(certificate=certificate, log=list_log, send_timeout_s=0.5) as served:
        run = served.door.new_run()
        run.add(*({"filler": "x" * 1000} for _ in range(20_000)))
        port = served.http_port if way == "http" else served.websocket_port
        async with encrypted(port, authority.client(), https_compatible=True) as stream:
            if way == "http":
                await stream.send_all(post("rpc.resume", subscription=run.id))
            else:
                await stream.send_all(UPGRADE)
                await stream.receive_some()
                params = {"subscription": run.id, "after": 0}
                text = orjson.dumps({"jsonrpc": "2.0", "method": "rpc.resume", "params": params, "id": "x" * 50})
                await stream.send_all(bytes((0x81, 128 + 126)) + len(text).to_bytes(2, "big") + bytes(4) + text)
            with trio.fail_after(10):
                await run.wait_changed(lambda: run.followers == 1)
                await run.wait_changed(lambda: run.followers == 0)
            other = HttpClient(served.http_url, ssl_context=authority.client())
            async with other:
                assert await other.call("test.echo") == {}
        assert f"{way} reader dropped" in list_log.told("warning")
    assert list_log.told("exception") == []


async def test_an_application_s_client_that_leaves_in_the_midst_harms_nobody(secure: Any, authority: Any) -> None:
    for data in (post("test.stream", end=False), post("test.wait"), post("test.echo")[:-3]):
        async with encrypted(secure.http_port, authority.client()) as stream:
            await stream.send_all(data)
            await trio.sleep(0.05)
    async with HttpClient(secure.http_url, ssl_context=authority.client()) as client:
        assert await client.call("test.echo") == {}
    assert no_faults(secure.log)


# ── how connections end ──────────────────────────────────────────────────────


async def test_the_end_of_an_answer_is_told_within_tls(secure: Any, authority: Any) -> None:
    async with encrypted(secure.http_port, authority.client()) as stream:
        await stream.send_all(post("test.stream", events=10, head=b"Connection: close\r\n"))
        assert b'"outcome":"complete"' in await read_all(stream)  # raises were there no `close_notify`


@pytest.mark.parametrize("size", [2 * 2**20, 20 * 2**20])
async def test_an_answer_before_the_end_of_the_body_arrives(
    serving: Any, authority: Any, list_log: Any, size: int
) -> None:
    certificate = TlsCertificate(authority.issue().settings, log=list_log)
    async with serving(certificate=certificate, log=list_log, max_body_bytes=1024) as served:
        async with encrypted(served.http_port, authority.client()) as stream:
            call = post("test.echo", text="x" * size)
            with trio.fail_after(10):
                for start in range(0, len(call), 2**20):
                    await stream.send_all(call[start : start + 2**20])
            assert (await read_all(stream)).startswith(b"HTTP/1.1 413 ")
    assert no_faults(list_log)


async def test_open_connections_and_handshakes_end_in_order_at_shutdown(
    serving: Any, authority: Any, list_log: Any
) -> None:
    certificate = TlsCertificate(authority.issue().settings, log=list_log)
    async with serving(certificate=certificate, log=list_log, shutdown_grace_s=60) as served:
        silent = [
            await trio.open_tcp_stream("127.0.0.1", port)
            for port in (served.http_port, served.websocket_port)
            for _ in range(2)
        ]
        client = WebSocketClient(served.websocket_url, ssl_context=authority.client(), retries=0)
        async with (
            encrypted(served.http_port, authority.client(), https_compatible=True) as idle,
            encrypted(served.http_port, authority.client()) as busy,
            client,
        ):
            await idle.send_all(post("test.echo"))
            await idle.receive_some()
            await busy.send_all(post("test.wait"))
            assert await client.call("test.echo") == {}
            await served.door.wait_waiting(1)
            served.shutdown.set()
            for stream in (idle, *silent):
                assert await ended(stream)
            assert not served.ended.is_set()
            served.door.gate.set()
            assert (await read_all(busy)).endswith(b'"result":"waited"}')
            await trio.aclose_forcefully(busy)
            with trio.fail_after(5):
                await served.ended.wait()
        for stream in silent:
            await stream.aclose()
    assert no_faults(list_log)


async def test_stalled_readers_do_not_hold_the_end(serving: Any, authority: Any, list_log: Any) -> None:
    certificate = TlsCertificate(authority.issue().settings, log=list_log)
    with trio.fail_after(15):
        async with serving(certificate=certificate, log=list_log, shutdown_grace_s=0.2) as served:
            run = served.door.new_run()
            run.add(*({"filler": "x" * 1000} for _ in range(20_000)))
            async with encrypted(served.http_port, authority.client()) as stream:
                await stream.send_all(post("rpc.resume", subscription=run.id))
                await run.wait_changed(lambda: run.followers == 1)
                served.shutdown.set()
                await served.ended.wait()


# ── the pair ─────────────────────────────────────────────────────────────────


async def test_after_a_reload_new_handshakes_show_the_new_certificate_and_open_connections_go_on(
    serving: Any, authority: Any, list_log: Any, serial_of: Callable[[Any], int]
) -> None:
    pair = authority.issue()
    certificate = TlsCertificate(pair.settings, log=list_log)
    async with serving(certificate=certificate) as served:
        async with encrypted(served.http_port, authority.client()) as old:
            assert serial_of(old) == pair.serial
            renewed = authority.issue()
            assert renewed.cert == pair.cert
            assert certificate.reload()
            async with encrypted(served.http_port, authority.client()) as new:
                assert serial_of(new) == renewed.serial
            await old.send_all(post("test.echo", head=b"Connection: close\r\n"))
            assert (await read_all(old)).endswith(b'"result":{}}')
    assert list_log.told("info") == ["tls certificate reloaded"]


async def test_a_wrong_pair_at_a_reload_keeps_the_old_one_and_says_why(
    serving: Any, authority: Any, list_log: Any, serial_of: Callable[[Any], int]
) -> None:
    pair, other = authority.issue(), authority.issue("other")
    certificate = TlsCertificate(pair.settings, log=list_log)
    async with serving(certificate=certificate) as served:
        pair.key.write_bytes(other.key.read_bytes())
        assert not certificate.reload()
        pair.cert.unlink()
        assert not certificate.reload()
        async with encrypted(served.http_port, authority.client()) as stream:
            assert serial_of(stream) == pair.serial
    (_, _, first), (_, _, second) = [record for record in list_log.records if record[0] == "error"]
    assert "is not the key of the certificate" in first["reason"]
    assert "there is no file" in second["reason"]


def wrong_pairs(authority: Any, case: str) -> TlsSettings:
    pair, other = authority.issue(), authority.issue("other")
    junk: Path = authority.folder / "junk"
    junk.write_text("hello")
    cert: Path | None = pair.cert
    key: Path | None = pair.key
    if case == "no certificate":
        cert = None
    elif case == "no key":
        key = None
    elif case == "certificate missing":
        cert = authority.folder / "missing.pem"
    elif case == "key missing":
        key = authority.folder / "missing.pem"
    elif case == "certificate a folder":
        cert = authority.folder
    elif case == "certificate no pem":
        cert = junk
    elif case == "key no pem":
        key = junk
    elif case == "key torn":
        junk.write_bytes(b"".join(pair.key.read_bytes().splitlines(keepends=True)[::2]))
        key = junk
    elif case == "certificate torn":
        junk.write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        cert = junk
    elif case == "of another":
        key = other.key
    elif case == "the other way round":
        cert, key = key, cert
    elif case == "chain the wrong way round":
        junk.write_bytes(authority.ca_file.read_bytes() + pair.cert.read_bytes())
        cert = junk
    elif case == "passphrase":
        key = authority.issue(passphrase=b"hunter2").key
    return TlsSettings(enabled=True, cert_path=cert, key_path=key)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no certificate", r"server\.tls\.cert_path: .*wants"),
        ("no key", r"server\.tls\.key_path: .*wants"),
        ("certificate missing", r"server\.tls\.cert_path: there is no file .*missing\.pem"),
        ("key missing", r"server\.tls\.key_path: there is no file .*missing\.pem"),
        ("certificate a folder", r"server\.tls\.cert_path: .* cannot be read"),
        ("certificate no pem", r"server\.tls\.cert_path: .*junk holds no certificate in PEM"),
        ("certificate torn", r"server\.tls\.cert_path: .*junk holds no certificate in PEM"),
        ("key no pem", r"server\.tls\.key_path: .*junk holds no private key in PEM"),
        ("key torn", r"server\.tls\.key_path: .*junk holds no private key in PEM"),
        ("of another", r"server\.tls\.key_path: .*other\.key is not the key of the certificate in .*server\.pem"),
        ("the other way round", r"server\.tls\.cert_path: .*server\.key holds no certificate"),
        ("chain the wrong way round", r"must be the first in the file"),
        ("passphrase", r"server\.tls\.key_path: .*server\.key has a passphrase"),
    ],
)
def test_a_pair_that_cannot_be_used_is_refused_with_setting_and_file(
    authority: Any, list_log: Any, case: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TlsCertificate(wrong_pairs(authority, case), log=list_log)


@pytest.mark.skipif("__import__('os').geteuid() == 0", reason="root may read everything")
def test_files_that_may_not_be_read_are_named(authority: Any, list_log: Any) -> None:
    pair = authority.issue()
    pair.key.chmod(0)
    with pytest.raises(ConfigError, match=r"server\.tls\.key_path: this user may not read .*server\.key"):
        TlsCertificate(pair.settings, log=list_log)


@pytest.mark.parametrize(
    ("since", "until", "told"), [(-2 * DAY, -DAY, "expired on"), (DAY, 2 * DAY, "not valid before"), (-DAY, DAY, None)]
)
def test_a_certificate_out_of_date_is_a_warning(
    authority: Any, list_log: Any, since: timedelta, until: timedelta, told: str | None
) -> None:
    certificate = TlsCertificate(authority.issue(since=since, until=until).settings, log=list_log)
    reasons = [members["reason"] for level, _, members in list_log.records if level == "warning"]
    assert [told in reason for reason in reasons] == ([True] if told else [])
    assert certificate.reload()


def test_tls_that_is_off_reads_nothing(list_log: Any) -> None:
    assert TlsCertificate.of(ServerSettings(tls=TlsSettings(cert_path=Path("/nowhere"))), log=list_log) is None
