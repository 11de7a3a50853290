"""Connections that ask who calls: the WebSocket's first message, its time, its end, and how strangers are bounded."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.gateway_messages import KeyRequest
from clonk_core.messages import LOCAL_CALLER
from clonk_core.plugin import Activation, Call, method
from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of
from tests.core.gateway.test_matrix import post


class Clock(Activation):
    """Ticks."""

    namespace = "clock"

    @method(scope="read", durable=True, target="name")
    async def tick(self, call: Call, name: str = "", ticks: int = 10_000) -> AsyncIterator[int]:
        """Tick.

        Args:
            name: Whose clock.
            ticks: How often.
        """
        for number in range(ticks):
            yield number
            await trio.sleep(0.02)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[WebSocketConnection]:
    # The library's reader waits for ever for room in its queue when nobody reads on.
    async with open_websocket_url(url, message_queue_size=100_000) as socket:
        yield socket
        # The library's client leaves its socket open when the server has closed first.
        await trio.aclose_forcefully(socket._stream)


async def ask(socket: WebSocketConnection, method: str, params: Any = None, id: Any = 1) -> Any:
    await socket.send_message(
        orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}, "id": id}).decode()
    )
    with trio.fail_after(10):
        while True:
            answer = orjson.loads(await socket.get_message())
            if answer.get("id") == id and "method" not in answer:
                return answer


async def until_closed(socket: WebSocketConnection) -> tuple[int, str]:
    with trio.fail_after(10):
        try:
            while True:
                await socket.get_message()
        except ConnectionClosed as closed:
            return (closed.reason.code, closed.reason.reason or "") if closed.reason else (0, "")


@pytest.mark.parametrize("path", ["/", "/ws"])
async def test_the_first_message_says_who_calls_as_the_specification_prints_it(
    open_guarded: OpenGuarded, path: str
) -> None:
    async with open_guarded(key_settings("ws", ["auth:x", "arbor:read"])) as host, served(host) as addresses:
        async with opened(addresses.websocket.url("ws", path)) as socket:
            authenticate = {"api_key": secret_of("ws")}
            answer = await ask(socket, "auth.authenticate", authenticate, id=0)
            assert answer["id"] == 0
            assert (answer["result"]["caller"], answer["result"]["scopes"]) == ("ws", ["arbor:read", "auth:x"])
            assert (await ask(socket, "auth.whoami"))["result"]["kind"] == "key"
            again = await ask(socket, "auth.authenticate", authenticate)
            assert again["result"]["caller"] == "ws"


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"api_key": "wrong"}, "unauthenticated"),
        ({"token": "a.b.c"}, "unauthenticated"),
        ({}, "invalid_params"),
        ({"api_key": "a", "token": "b"}, "invalid_params"),
        ({"api_key": 5}, "invalid_params"),
        ({"api_key": "x" * 20_000}, "invalid_params"),
        ({"api_key": ""}, "unauthenticated"),
    ],
)
async def test_a_wrong_first_message_is_refused_and_may_be_mended(
    open_guarded: OpenGuarded, params: Any, kind: str
) -> None:
    async with open_guarded(key_settings("ws")) as host, served(host) as addresses:
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            assert (await ask(socket, "auth.authenticate", params))["error"]["data"]["kind"] == kind
            assert (await ask(socket, "auth.whoami"))["error"]["code"] == 401
            assert "result" in await ask(socket, "auth.authenticate", {"api_key": secret_of("ws")})
            assert "result" in await ask(socket, "auth.whoami")


async def test_our_own_clients_say_what_a_refused_key_was_answered(open_guarded: OpenGuarded) -> None:
    far = key_settings("far", allowed_networks=["192.0.2.0/24"])
    async with open_guarded(far) as host, served(host) as addresses:
        for key, kind in (("wrong", "unauthenticated"), (secret_of("far"), "forbidden")):
            clients: list[HttpClient | WebSocketClient] = [
                HttpClient(addresses.http.url("http"), api_key=key),
                WebSocketClient(addresses.websocket.url("ws", "/ws"), api_key=key),
            ]
            for client in clients:
                with pytest.raises(RemoteError) as caught:
                    async with client:
                        await client.call("hub.info")
                assert caught.value.kind == kind


async def test_over_http_the_header_says_who_calls(open_guarded: OpenGuarded) -> None:
    body = orjson.dumps(
        {"jsonrpc": "2.0", "method": "auth.authenticate", "params": {"api_key": secret_of("a")}, "id": 1}
    )
    whoami = orjson.dumps({"jsonrpc": "2.0", "method": "auth.whoami", "id": 1})
    async with open_guarded(key_settings("a", rate_limit="5/h")) as host, served(host) as addresses:
        answer = await post(addresses.http.port, body, None)
        assert orjson.loads(answer.body)["error"]["data"]["kind"] == "invalid_request"
        answer = await post(addresses.http.port, whoami, None)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        answer = await post(addresses.http.port, whoami, "wrong")
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        answer = await post(addresses.http.port, whoami, secret_of("a"))
        assert answer.status == 200
        assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("5", "4")
        assert 0 < int(answer.headers["ratelimit-reset"]) <= 720
        for _ in range(4):
            answer = await post(addresses.http.port, whoami, secret_of("a"))
        answer = await post(addresses.http.port, whoami, secret_of("a"))
        assert answer.status == 429
        assert 600 < int(answer.headers["retry-after"]) <= 720
        assert answer.headers["ratelimit-remaining"] == "0"
        assert orjson.loads(answer.body)["error"]["data"]["retry_after_s"] > 600


async def test_a_stranger_s_body_is_small(open_guarded: OpenGuarded) -> None:
    body = orjson.dumps({"jsonrpc": "2.0", "method": "auth.whoami", "params": {"x": "y" * 100_000}, "id": 1})
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        assert (await post(addresses.http.port, body, None)).status == 413
        assert (await post(addresses.http.port, body, secret_of("a"))).status == 200


async def test_a_stranger_s_message_is_small(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            assert (await ask(socket, "health.check", {"x": "y" * 100_000}, id=None))["error"]["code"] == 413
            assert "result" in await ask(socket, "auth.authenticate", {"api_key": secret_of("a")})
            answer = await ask(socket, "auth.whoami", {"x": "y" * 1_000_000})
            assert answer["error"]["data"]["kind"] == "invalid_params"


async def test_who_does_not_say_in_time_is_closed(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a"), auth={"authenticate_within_s": 0.3}) as host, served(host) as addresses:
        url = addresses.websocket.url("ws", "/ws")
        async with (
            opened(url) as silent,
            opened(url) as talking,
            opened(url) as known,
        ):
            assert "result" in await ask(known, "auth.authenticate", {"api_key": secret_of("a")})
            assert "result" in await ask(talking, "health.check")
            for socket in (silent, talking):
                code, reason = await until_closed(socket)
                assert code == 1008
                assert "0.3 s" in reason
            assert "result" in await ask(known, "auth.whoami")


async def test_a_revoked_key_s_connections_streams_and_runs_end(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("root"), activations=[Clock]) as host, served(host) as addresses:
        _, secret = await host.app.gateway.keys.create(LOCAL_CALLER, KeyRequest(id="gone", scopes=("clock:read",)))
        ended: list[str] = []

        async def read_over_http(task_status: Any) -> None:
            async with HttpClient(addresses.http.url("http"), api_key=secret, retries=0) as client:
                try:
                    async with client.stream("clock.tick") as stream:
                        task_status.started(stream.subscription)
                        events = [event.event async for event in stream]
                        ended.append(events[-1]["outcome"] if isinstance(events[-1], dict) else "cut")
                except Exception as error:  # noqa: BLE001 - what the reader sees is what is looked at
                    ended.append(type(error).__name__)

        url = addresses.websocket.url("ws", "/ws")
        async with opened(url) as socket, trio.open_nursery() as nursery:
            await ask(socket, "auth.authenticate", {"api_key": secret})
            await ask(socket, "clock.tick", id=2)
            await nursery.start(read_over_http)
            began = time.monotonic()
            await host.client.call("keys.revoke", id="gone")
            code, reason = await until_closed(socket)
            assert time.monotonic() - began < 5
            assert (code, "revoked" in reason) == (1008, True)
            with trio.fail_after(5):
                while host.app.realm.count_runs("gone") or not ended:
                    await trio.sleep(0.01)
        assert len(ended) == 1
        with pytest.raises(RemoteError) as caught:
            async with WebSocketClient(url, api_key=secret, retries=0) as client:
                await client.call("auth.whoami")
        assert caught.value.kind == "unauthenticated"


async def test_an_expired_key_s_connection_ends_and_its_runs_go_on(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("root"), activations=[Clock]) as host, served(host) as addresses:
        until = time.time() + 1.2
        made = await host.client.call(
            "keys.create",
            id="short",
            scopes=["clock:read"],
            expires_at=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(until)) + f".{int(until % 1 * 1000):03d}Z",
        )
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            await ask(socket, "auth.authenticate", {"api_key": made["key"]})
            await ask(socket, "clock.tick", id=2)
            code, _ = await until_closed(socket)
            assert code == 1008
        assert time.time() - until < 5
        assert host.app.realm.count_runs("short") == 1


async def test_another_s_credential_is_refused_while_runs_are_open(open_guarded: OpenGuarded) -> None:
    async with (
        open_guarded(key_settings("a"), key_settings("b"), activations=[Clock]) as host,
        served(host) as addresses,
    ):
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            await ask(socket, "auth.authenticate", {"api_key": secret_of("a")})
            run = (await ask(socket, "clock.tick", id=2))["result"]
            answer = await ask(socket, "auth.authenticate", {"api_key": secret_of("b")}, id=3)
            assert answer["error"]["data"]["kind"] == "invalid_request"
            assert (await ask(socket, "auth.whoami", id=4))["result"]["caller"] == "a"
            await ask(socket, "rpc.cancel", {"subscription": run}, id=5)
            answer = await ask(socket, "auth.authenticate", {"api_key": secret_of("b")}, id=6)
            assert answer["result"]["caller"] == "b"


async def test_a_run_is_seen_by_its_caller_and_by_those_whose_scopes_allow_it(open_guarded: OpenGuarded) -> None:
    keys = [
        key_settings("owner", ["clock:read"]),
        key_settings("same", ["clock:*"]),
        key_settings("narrow", ["clock:read@red-*"]),
        key_settings("narrow-else", ["clock:read@blue-*"]),
        key_settings("none", ["arbor:*"]),
    ]
    async with open_guarded(*keys, activations=[Clock]) as host, served(host) as addresses:
        url = addresses.http.url("http")
        async with HttpClient(url, api_key=secret_of("owner")) as owner:
            async with owner.stream("clock.tick", name="red-1", ticks=2) as stream:
                run = stream.subscription
                assert [event.seq async for event in stream][-1] == 3
            listed = {one["subscription"] for one in await owner.call("rpc.subscriptions")}
            assert listed == {run}
        for key, seen in (("same", True), ("narrow", True), ("narrow-else", False), ("none", False)):
            async with HttpClient(url, api_key=secret_of(key), retries=0) as client:
                assert await client.call("rpc.subscriptions") == []
                for method_name in ("rpc.resume", "rpc.cancel"):
                    assert await reaches(client, method_name, run) is seen, (key, method_name)


async def reaches(client: HttpClient, method_name: str, run: str) -> bool:
    from clonk_core.client.base import RemoteError

    try:
        if method_name == "rpc.resume":
            async with client.stream(method_name, subscription=run) as stream:
                async for _ in stream:
                    pass
        else:
            await client.call(method_name, subscription=run)
    except RemoteError as error:
        return {"not_found": False}[error.kind]
    return True


async def test_runs_at_the_same_time_have_a_limit_that_two_at_once_do_not_both_pass(open_guarded: OpenGuarded) -> None:
    outcomes: list[str] = []
    async with open_guarded(key_settings("a", max_runs=2), activations=[Clock]) as host, served(host) as addresses:
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            await ask(socket, "auth.authenticate", {"api_key": secret_of("a")})
            calls = [{"jsonrpc": "2.0", "method": "clock.tick", "id": number} for number in range(5)]
            await socket.send_message(orjson.dumps(calls).decode())
            with trio.fail_after(10):
                while not isinstance(answers := orjson.loads(await socket.get_message()), list):
                    pass
            outcomes = sorted("ok" if "result" in one else one["error"]["data"]["kind"] for one in answers)
    assert outcomes == ["ok", "ok", "rate_limited", "rate_limited", "rate_limited"]


@pytest.mark.deadline(120)
async def test_a_crowd_that_never_says_who_it_is_leaves_room_for_callers(open_guarded: OpenGuarded) -> None:
    settings = {"server": {"max_strangers": 20, "http_port": 0, "websocket_port": 0}}
    async with open_guarded(key_settings("a"), settings=settings) as host, served(host) as addresses:
        url, port = addresses.websocket.url("ws", "/ws"), addresses.websocket.port
        crowd = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(100)]
        async with opened(url) as caller:
            assert "result" in await ask(caller, "auth.authenticate", {"api_key": secret_of("a")})
            more = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(100)]
            assert (await ask(caller, "auth.whoami"))["result"]["caller"] == "a"
            closed = 0
            for stream in crowd[:50]:
                with trio.move_on_after(2):
                    closed += await ended(stream)
            assert closed == 50
        for stream in (*crowd, *more):
            await trio.aclose_forcefully(stream)


async def ended(stream: trio.SocketStream) -> bool:
    try:
        return await stream.receive_some(10) == b""
    except trio.BrokenResourceError:
        return True


async def test_without_authentication_everyone_on_the_loopback_is_the_local_caller(open_guarded: OpenGuarded) -> None:
    async with open_guarded(auth={"enabled": False}) as host, served(host) as addresses:
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            answer = await ask(socket, "auth.authenticate", {"api_key": "anything"}, id=0)
            assert answer["result"]["caller"] == "local"
            assert (await ask(socket, "auth.whoami"))["result"]["scopes"] == ["*"]


async def test_pages_tell_strangers_yes_or_no(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a")) as host, served(host) as addresses:
        for path, expected in (("/health", {"status": "ok"}), ("/ready", {"status": "ready"})):
            assert await get(addresses.http.port, path) == expected
        names = {one["name"] for one in (await get(addresses.http.port, "/openrpc.json"))["methods"]}
        assert names == {"auth.authenticate", "rpc.discover", "health.check"}


async def get(port: int, path: str) -> Any:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        received = b"".join([bytes(piece) async for piece in stream])
    return orjson.loads(received.partition(b"\r\n\r\n")[2])
