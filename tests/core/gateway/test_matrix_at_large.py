"""The matrix of test_matrix.py, in the ways around it: whole batches, notifications, first messages, others' runs."""

from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
import pytest

from clonk_core.app import Addresses
from clonk_core.gateway_messages import KeyRequest
from clonk_core.messages import LOCAL_CALLER
from clonk_core.plugin import Activation, method
from clonk_core.testing.host import TestHost
from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings
from tests.core.gateway.raw import Frames, ask_raw, bearer, frames, message, post_bytes
from tests.core.gateway.test_matrix import WRONG, bad_secret, covers, scopes_of

PACKAGES: Final = ["arbor", "gitsync", "claudecode"]


class Beats(Activation):
    """A stream that goes on."""

    namespace = "beats"

    @method(scope="read", durable=True, target="name")
    async def count(self, name: str, to: int = 3) -> AsyncIterator[int]:
        """Count."""
        for number in range(to):
            yield number


@pytest.fixture
async def host(open_guarded: OpenGuarded) -> AsyncIterator[TestHost]:
    keys = [
        key_settings("everything"),
        key_settings("expired", expires_at="2020-01-01T00:00:00Z"),
        key_settings("elsewhere", allowed_networks=["10.1.0.0/16"]),
        key_settings("foreign", tenant="other"),
        key_settings("reader", ["beats:read"]),
        key_settings("red", ["beats:read@red-*"]),
        key_settings("blue", ["*@blue-*"]),
        key_settings("nothing", ["nothing:read"]),
    ]
    async with open_guarded(*keys, packages=PACKAGES, activations=[Beats]) as found:
        yield found


@pytest.fixture
async def addresses(host: TestHost) -> AsyncIterator[Addresses]:
    async with served(host) as found:
        yield found


async def all_methods(addresses: Addresses) -> list[dict[str, Any]]:
    answer = await ask_raw(addresses.http.port, post_bytes(message("rpc.discover"), bearer("everything")))
    return list(orjson.loads(answer.body)["result"]["methods"])


def kinds_of(answers: list[Any]) -> dict[Any, str]:
    return {one["id"]: one["error"]["data"]["kind"] if "error" in one else "ok" for one in answers}


def calls_of(methods: list[dict[str, Any]]) -> list[Any]:
    return [{"jsonrpc": "2.0", "method": one["name"], "params": WRONG, "id": one["name"]} for one in methods]


@pytest.mark.deadline(120)
async def test_a_batch_of_all_methods_is_answered_as_each_alone_with_every_scope(
    host: TestHost, addresses: Addresses
) -> None:
    methods = await all_methods(addresses)
    batch = orjson.dumps(calls_of(methods))
    for number, scope in enumerate(scopes_of(methods)):
        request = KeyRequest(id=f"k{number}", scopes=(scope,))
        _, secret = await host.app.gateway.keys.create(LOCAL_CALLER, request)
        line = b"Authorization: Bearer " + secret.encode()
        # A stream has no room in an HTTP batch, which is told only to those who may call it.
        over_http = {
            one["name"]: "forbidden"
            if not covers(scope, one)
            else ("invalid_request" if one["x-clonk-streaming"] else "invalid_params")
            for one in methods
        }
        over_websocket = {
            name: "invalid_params" if kind == "invalid_request" else kind for name, kind in over_http.items()
        }
        answer = await ask_raw(addresses.http.port, post_bytes(batch, line))
        assert kinds_of(orjson.loads(answer.body)) == over_http, scope
        async with frames(addresses.websocket.port, line) as peer:
            await peer.send(batch)
            assert kinds_of(await peer.answer(None)) == over_websocket, scope


async def test_a_notification_does_no_more_than_its_key_may(host: TestHost, addresses: Addresses) -> None:
    creating = {"jsonrpc": "2.0", "method": "arbor.tree_create", "params": {"name": "x"}}
    for body in (orjson.dumps(creating), orjson.dumps([creating, creating])):
        for line in (bearer("nothing"), bearer("reader"), bearer("blue"), bearer("foreign")):
            await ask_raw(addresses.http.port, post_bytes(body, line))
            async with frames(addresses.websocket.port, line) as peer:
                await peer.send(body)
                await peer.send(message(id="then"))
                await peer.answer("then")
        await ask_raw(addresses.http.port, post_bytes(body))
        async with frames(addresses.websocket.port) as peer:
            await peer.send(body)
            await peer.send(message("health.check", id="then"))
            await peer.answer("then")
    assert await trees(addresses) == []
    # Whoever may is taken at its word, though no answer comes.
    await ask_raw(addresses.http.port, post_bytes(orjson.dumps(creating), bearer("everything")))
    assert len(await trees(addresses)) == 1


async def trees(addresses: Addresses) -> list[Any]:
    answer = await ask_raw(addresses.http.port, post_bytes(message("arbor.tree_list"), bearer("everything")))
    return list(orjson.loads(answer.body)["result"])


@pytest.mark.parametrize("credential", ["wrong", "expired", "elsewhere", "revoked", "someone-else's"])
async def test_after_a_bad_first_message_only_what_is_anonymous_is_reached(
    host: TestHost, addresses: Addresses, credential: str
) -> None:
    methods = await all_methods(addresses)
    secret = await bad_secret(host, credential)
    refused = "forbidden" if credential == "elsewhere" else "unauthenticated"
    async with frames(addresses.websocket.port) as peer:
        for member in ("api_key", "token"):
            await peer.send(message("auth.authenticate", {member: secret}, id=0))
            assert (await peer.answer(0))["error"]["data"]["kind"] == refused
        await peer.send(orjson.dumps(calls_of(methods)))
        expected = {one["name"]: "invalid_params" if one["x-clonk-anonymous"] else "unauthenticated" for one in methods}
        assert kinds_of(await peer.answer(None)) == expected


async def test_a_connection_whose_key_was_taken_back_reaches_nothing_in_the_seconds_that_it_lives(
    host: TestHost, addresses: Addresses
) -> None:
    methods = await all_methods(addresses)
    keys = host.app.gateway.keys
    _, secret = await keys.create(LOCAL_CALLER, KeyRequest(id="gone", scopes=("*",)))
    async with frames(addresses.websocket.port, b"Authorization: Bearer " + secret.encode()) as peer:
        await peer.send(message())
        assert (await peer.answer(1))["result"]["caller"] == "gone"
        await peer.send(orjson.dumps(calls_of(methods)))
        assert set(kinds_of(await peer.answer(None)).values()) == {"invalid_params"}
        await keys.revoke(LOCAL_CALLER, "gone")
        await peer.send(orjson.dumps(calls_of(methods)))
        # It may be closed before it is answered.
        assert set(kinds_of(await peer.answer(None)).values()) <= {"unauthenticated"}


# ── runs ─────────────────────────────────────────────────────────────────────

OTHERS: Final = [
    ("everything", True),
    ("reader", True),
    ("red", True),
    ("blue", False),
    ("nothing", False),
    ("foreign", False),
]


@pytest.mark.parametrize("transport", ["http", "websocket", "last-event-id"])
async def test_another_key_s_run_is_there_for_those_who_may_call_its_method_for_its_target(
    addresses: Addresses, transport: str
) -> None:
    started = post_bytes(message("beats.count", {"name": "red-1"}), b"Accept: application/json", bearer("everything"))
    run = orjson.loads((await ask_raw(addresses.http.port, started)).body)["result"]["subscription"]
    for key_id, seen in OTHERS:
        for method_name in ("rpc.resume", "rpc.cancel"):
            assert await reaches(addresses, transport, method_name, run, bearer(key_id)) is seen, (key_id, method_name)
        if key_id not in ("everything", "foreign"):
            answer = await ask_raw(addresses.http.port, post_bytes(message("rpc.subscriptions"), bearer(key_id)))
            assert orjson.loads(answer.body)["result"] == []
    for line in ([], [b"Authorization: Bearer wrong"], [bearer("expired")]):
        assert not await reaches(addresses, transport, "rpc.resume", run, *line)


async def reaches(addresses: Addresses, transport: str, method_name: str, run: str, *lines: bytes) -> bool:
    """Tell whether a run was found; whoever does not reach it is told what one is told of a run that is not there."""
    found, absent = [
        await outcome(addresses, transport, method_name, subscription, *lines) for subscription in (run, "sub_none")
    ]
    if found != absent:
        assert found == "ok"
        assert absent == "not_found"
    return found == "ok"


async def outcome(addresses: Addresses, transport: str, method_name: str, run: str, *lines: bytes) -> str:
    body = message(method_name, {"subscription": run})
    if transport == "websocket":
        try:
            async with frames(addresses.websocket.port, *lines) as peer:
                if not peer.head.startswith(b"HTTP/1.1 101"):
                    return "refused"
                return await asked(peer, body)
        except EOFError:
            return "refused"
    if transport == "last-event-id" and method_name == "rpc.resume":
        head = [b"GET /mcp HTTP/1.1", b"Host: localhost", b"Connection: close", b"Accept: text/event-stream"]
        last = f"Last-Event-ID: {run}/1".encode()
        answer = await ask_raw(addresses.http.port, b"\r\n".join([*head, last, *lines]) + b"\r\n\r\n")
        return "ok" if b'"method":"subscription"' in answer.body else answer.kind
    answer = await ask_raw(addresses.http.port, post_bytes(body, b"Accept: application/json", *lines))
    found = orjson.loads(answer.body)
    return str(found["error"]["data"]["kind"]) if "error" in found else "ok"


async def asked(peer: Frames, body: bytes) -> str:
    await peer.send(body)
    answer = await peer.answer(1)
    return str(answer["error"]["data"]["kind"]) if "error" in answer else "ok"
