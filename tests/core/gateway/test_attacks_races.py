"""Two at once, and time: nothing leaks when things happen together, and how long a refusal takes tells nothing."""

import hashlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import trio

from clonk_core.gateway import keys
from clonk_core.gateway.authenticate import Authenticator, Refused
from clonk_core.gateway.dispatch import Gateway
from clonk_core.gateway.keys import hash_of, new_secret
from clonk_core.gateway_messages import KeyRequest
from clonk_core.interfaces.door import Connection
from clonk_core.messages import LOCAL_CALLER
from clonk_core.plugin import Activation, method
from clonk_core.testing.host import TestHost
from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of
from tests.core.gateway.raw import ask_raw, bearer, frames, message, post_bytes

SAMPLES = 400


def authenticator_of(host: TestHost) -> Authenticator:
    gateway = host.app.gateway
    assert isinstance(gateway, Gateway)
    return gateway._authenticator


@pytest.mark.alone
async def test_a_wrong_secret_of_a_key_takes_what_an_unknown_key_takes(
    open_guarded: OpenGuarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [key_settings(f"k{number}") for number in range(500)]
    async with open_guarded(*many) as host:
        examine = authenticator_of(host).examine
        connection = Connection(transport="http", peer="test", id="conn_x", address="127.0.0.1")
        known = "clonk_k1_" + new_secret("k1").rpartition("_")[2]
        near = secret_of("k1")[:-1] + "x"
        unknown = "clonk_zz_" + new_secret("zz").rpartition("_")[2]
        hashed = 0

        def counted(credential: str) -> str:
            nonlocal hashed
            hashed += 1
            return hash_of(credential)

        monkeypatch.setattr(keys, "hash_of", counted)
        took: dict[str, list[float]] = {known: [], near: [], unknown: []}
        counts: dict[str, set[int]] = {known: set(), near: set(), unknown: set()}
        for _ in range(SAMPLES):
            for credential, times in took.items():
                hashed, began = 0, time.perf_counter()
                with pytest.raises(Refused) as caught:
                    await examine(credential, connection)
                times.append(time.perf_counter() - began)
                counts[credential].add(hashed)
                assert caught.value.reason == "unknown_key"
        assert all(found == {1} for found in counts.values())
        medians = [statistics.median(times) for times in took.values()]
        # A key that is looked for by its id and then hashed slowly would be a thousand times apart.
        assert max(medians) < 3 * min(medians) + 20e-6, medians


# ── two at once ──────────────────────────────────────────────────────────────


class Gate(Activation):
    """Waits."""

    namespace = "gate"

    def __init__(self) -> None:
        self.waiting = 0
        self.opened = trio.Event()

    @method(scope="read")
    async def wait(self) -> str:
        """Wait until the test opens."""
        self.waiting += 1
        try:
            await self.opened.wait()
        finally:
            self.waiting -= 1
        return "opened"


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.01)


async def test_a_key_revoked_while_its_call_runs_gets_that_answer_or_none_and_nothing_more(
    open_guarded: OpenGuarded,
) -> None:
    gate = Gate()
    async with open_guarded(key_settings("root"), activations=[lambda: gate]) as host, served(host) as addresses:
        _, secret = await host.app.gateway.keys.create(LOCAL_CALLER, KeyRequest(id="gone", scopes=("gate:read",)))
        line = b"Authorization: Bearer " + secret.encode()
        statuses: list[int] = []

        async def call_over_http() -> None:
            statuses.append((await ask_raw(addresses.http.port, post_bytes(message("gate.wait"), line))).status)

        async with frames(addresses.websocket.port, line) as peer, trio.open_nursery() as nursery:
            await peer.send(message("gate.wait"))
            nursery.start_soon(call_over_http)
            await until(lambda: gate.waiting == 2)
            await host.app.gateway.keys.revoke(LOCAL_CALLER, "gone")
            while (await peer.receive())[0] != 8:
                pass
            gate.opened.set()
        assert statuses == [200]  # it was let in when it came
        assert (await ask_raw(addresses.http.port, post_bytes(message("gate.wait"), line))).status == 401
        await until(lambda: gate.waiting == 0)
        assert not watched(host)


def watched(host: TestHost) -> dict[Any, Any]:
    gateway = host.app.gateway
    assert isinstance(gateway, Gateway)
    return {**gateway._watch._open, **gateway._watch._names}


async def test_two_who_authenticate_at_once_on_one_connection_make_it_one_of_theirs(
    open_guarded: OpenGuarded,
) -> None:
    async with open_guarded(key_settings("a"), key_settings("b")) as host, served(host) as addresses:
        for _ in range(20):
            async with frames(addresses.websocket.port) as peer:
                burst = [
                    message("auth.authenticate", {"api_key": secret_of(key_id) if key_id else "wrong"}, id=number)
                    for number, key_id in enumerate(["a", "b", "", "a", "b", ""])
                ]
                for one in burst:
                    await peer.send(one)
                callers = set()
                for _ in range(6):
                    answer = orjson.loads((await peer.receive())[1])
                    callers.add(answer["result"]["caller"] if "result" in answer else answer["error"]["data"]["kind"])
                assert callers == {"a", "b", "unauthenticated"}
                await peer.send(message(id="then"))
                assert (await peer.answer("then"))["result"]["caller"] in {"a", "b"}
        await until(lambda: not watched(host))


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_a_batch_that_uses_up_the_limit_is_refused_from_there_on_item_by_item(
    open_guarded: OpenGuarded, transport: str
) -> None:
    items = [{"jsonrpc": "2.0", "method": "auth.whoami", "id": number} for number in range(10)]
    async with open_guarded(key_settings("a", rate_limit="4/day")) as host, served(host) as addresses:
        if transport == "http":
            answer = await ask_raw(addresses.http.port, post_bytes(orjson.dumps(items), bearer("a")))
            assert answer.header("ratelimit-remaining") == ["0"]
            answers = orjson.loads(answer.body)
        else:
            async with frames(addresses.websocket.port, bearer("a")) as peer:
                await peer.send(orjson.dumps(items))
                answers = await peer.answer(None)
    assert [one["id"] for one in answers] == list(range(10))
    assert [one.get("error", {}).get("data", {}).get("kind", "ok") for one in answers] == ["ok"] * 4 + [
        "rate_limited"
    ] * 6


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_the_bytes_of_a_batch_count_once(open_guarded: OpenGuarded, transport: str) -> None:
    items = [{"jsonrpc": "2.0", "method": "auth.whoami", "id": number} for number in range(60)]
    batch = orjson.dumps(items)
    assert 2500 < len(batch) < 4096
    async with open_guarded(key_settings("a", bytes_limit="4KiB/day")) as host, served(host) as addresses:
        async with frames(addresses.websocket.port, bearer("a")) as peer:

            async def ask() -> list[str]:
                if transport == "http":
                    answer = await ask_raw(addresses.http.port, post_bytes(batch, bearer("a")))
                    answers = orjson.loads(answer.body)
                else:
                    await peer.send(batch)
                    answers = await peer.answer(None)
                return [one.get("error", {}).get("data", {}).get("limit_of", "ok") for one in answers]

            assert await ask() == ["ok"] * 60
            second = await ask()
    # What was left is used up in the midst of the second one.
    assert second == sorted(second, reverse=True)
    assert 10 < second.count("ok") < 50


@pytest.mark.alone
async def test_who_leaves_while_a_refusal_is_held_back_leaves_nothing_behind(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a"), auth={"max_failure_delay_s": 1.0}) as host, served(host) as addresses:
        failures = authenticator_of(host)._failures
        wrong = b"Authorization: Bearer " + hashlib.sha256(b"x").hexdigest().encode()
        for _ in range(3):
            assert (await ask_raw(addresses.http.port, post_bytes(message(), wrong))).status == 401
        streams = []
        for number in range(40):
            port = (addresses.http.port, addresses.websocket.port)[number % 2]
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(
                post_bytes(message(), wrong)
                if number % 2 == 0
                else b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n\r\n" % wrong
            )
            streams.append(stream)
        await until(lambda: failures._waiting > 0)
        for stream in streams:
            await trio.aclose_forcefully(stream)
        await until(lambda: failures._waiting == 0)
        await until(lambda: not watched(host))
        # Whoever is good is not held back by the others' mistakes.
        began = trio.current_time()
        assert (await ask_raw(addresses.http.port, post_bytes(message(), bearer("a")))).status == 200
        assert trio.current_time() - began < 1.0
