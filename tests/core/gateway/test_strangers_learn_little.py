"""What one learns who has not said who it is: that it is a Clonk, and whether it works."""

from importlib import metadata

import orjson
import pytest

from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings
from tests.core.gateway.raw import Raw, ask_raw, bearer, frames, message, post_bytes

VERSION = metadata.version("clonk-core").encode()
PATHS = ["/", "/health", "/ready", "/openrpc.json", "/nowhere", "/mcp"]
ANONYMOUS = ["health.check", "rpc.discover"]


async def get(port: int, path: str, *lines: bytes) -> Raw:
    head = [b"GET %b HTTP/1.1" % path.encode(), b"Host: localhost", b"Connection: close", *lines]
    return await ask_raw(port, b"\r\n".join(head) + b"\r\n\r\n")


def said(answer: Raw) -> bytes:
    return b"\n".join(answer.lines) + b"\n" + answer.body


async def test_a_stranger_is_told_no_version_anywhere(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a"), packages=["arbor"]) as host, served(host) as addresses:
        port = addresses.http.port
        for path in PATHS:
            assert VERSION not in said(await get(port, path)), path
            assert VERSION not in said(await get(port, path, b"Authorization: Bearer wrong")), path
        for method in (*ANONYMOUS, "hub.info", "no.such"):
            assert VERSION not in said(await ask_raw(port, post_bytes(message(method)))), method
        async with frames(addresses.websocket.port) as peer:
            assert VERSION not in peer.head
            for number, method in enumerate((*ANONYMOUS, "hub.info", "no.such")):
                await peer.send(message(method, id=number))
                assert VERSION not in orjson.dumps(await peer.answer(number)), method


@pytest.mark.parametrize("path", ["/", "/openrpc.json"])
async def test_whoever_is_known_is_told_the_version(open_guarded: OpenGuarded, path: str) -> None:
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        answer = await get(addresses.http.port, path, bearer("a"))
        assert answer.status == 200
        assert VERSION in answer.body


async def test_without_authentication_everyone_is_told_the_version(open_guarded: OpenGuarded) -> None:
    async with open_guarded(auth={"enabled": False}) as host, served(host) as addresses:
        for path in ("/", "/health", "/openrpc.json"):
            assert VERSION in (await get(addresses.http.port, path)).body, path
