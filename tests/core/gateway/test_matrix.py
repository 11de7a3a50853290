"""Every method, on every transport, with every kind of credential: none gets more than it should, and none gets less.

The methods come from `rpc.discover`, so a new one is in here by itself. Each is called with an argument that no method
has: who is let in gets `invalid_params`, and nothing is done.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import attrs
import orjson
import pytest
import trio

from clonk_core.app import Addresses
from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.gateway_messages import KeyRequest
from clonk_core.messages import LOCAL_CALLER
from clonk_core.testing.host import TestHost
from clonk_core.testing.serving import connected, served
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of

WRONG: Final = {"no_such_parameter_": 1}
TRANSPORTS: Final = ["http", "websocket"]


def scopes_of(methods: list[dict[str, Any]]) -> list[str]:
    """Every scope that some method asks for, those that cover several, and one that covers nothing."""
    single = {scope for one in methods for scope in (one["x-clonk-scope"], *one["x-clonk-also-scopes"]) if scope}
    return sorted(single | {f"{scope.split(':')[0]}:*" for scope in single} | {"*", "nothing:read"})


def covers(scope: str, method: dict[str, Any]) -> bool:
    """Said once more, in other words than the code's."""
    wanted = [method["x-clonk-scope"], *method["x-clonk-also-scopes"]]
    if method["x-clonk-scope"] is None:
        return True
    return scope == "*" or scope in wanted or any(scope == f"{one.split(':')[0]}:*" for one in wanted)


async def kind_of(client: Any, method: str, streaming: bool, params: Any) -> str:
    """What a call answers: the error's kind, or `ok`."""
    try:
        if streaming:
            async with client.stream(method, **params) as stream:
                async for _ in stream:
                    pass
        else:
            await client.call(method, **params)
    except RemoteError as error:
        return error.kind
    return "ok"


@pytest.fixture
async def host(open_guarded: OpenGuarded) -> AsyncIterator[TestHost]:
    keys = [
        key_settings("everything"),
        key_settings("expired", expires_at="2020-01-01T00:00:00Z"),
        key_settings("elsewhere", allowed_networks=["10.1.0.0/16"]),
        key_settings("foreign", tenant="other"),
    ]
    async with open_guarded(*keys, packages=["arbor", "gitsync", "claudecode"]) as found:
        yield found


@attrs.frozen
class Doors:
    """Both ports of a host."""

    addresses: Addresses

    def client(self, transport: str, secret: str | None = None) -> Any:
        if transport == "http":
            return HttpClient(self.addresses.http.url("http"), api_key=secret)
        return WebSocketClient(self.addresses.websocket.url("ws", "/ws"), api_key=secret, retries=0)

    async def all_methods(self) -> list[dict[str, Any]]:
        async with self.client("http", secret_of("everything")) as client:
            return list((await client.call("rpc.discover"))["methods"])


@pytest.fixture
async def doors(host: TestHost) -> AsyncIterator[Doors]:
    async with served(host) as addresses:
        yield Doors(addresses)


@pytest.mark.deadline(180)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_scope_opens_what_it_covers_and_nothing_else(host: TestHost, doors: Doors, transport: str) -> None:
    methods = await doors.all_methods()
    assert {one["name"] for one in methods} >= {"claudecode.chat", "arbor.tree_get", "keys.create", "auth.whoami"}
    for scope in scopes_of(methods):
        request = KeyRequest(id=f"k-{scope.replace(':', '-').replace('*', 'all')}", scopes=(scope,))
        _, secret = await host.app.gateway.keys.create(LOCAL_CALLER, request)
        async with doors.client(transport, secret) as client:
            for one in methods:
                kind = await kind_of(client, one["name"], one["x-clonk-streaming"], WRONG)
                expected = "invalid_params" if covers(scope, one) else "forbidden"
                assert kind == expected, (scope, one["name"])
            shown = {one["name"] for one in (await client.call("rpc.discover"))["methods"]}
            assert shown == {one["name"] for one in methods if covers(scope, one)}, scope
            raw = {one["name"] for one in (await client.call("hub.schema"))["methods"]}
            assert raw == shown


@pytest.mark.deadline(120)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_narrowed_key_reaches_its_targets_with_every_method_that_has_one(
    host: TestHost, doors: Doors, transport: str
) -> None:
    methods = await doors.all_methods()
    _, secret = await host.app.gateway.keys.create(LOCAL_CALLER, KeyRequest(id="narrow", scopes=("*@*ci-*",)))
    async with doors.client(transport, secret) as client:
        shown = {one["name"] for one in (await client.call("rpc.discover"))["methods"]}
        for one in methods:
            target, name = one["x-clonk-target"], one["name"]
            inside = await kind_of(
                client, name, one["x-clonk-streaming"], {**WRONG, **({target: "ci-1"} if target else {})}
            )
            outside = await kind_of(
                client, name, one["x-clonk-streaming"], {**WRONG, **({target: "x"} if target else {})}
            )
            if one["x-clonk-scope"] is None:
                assert (inside, outside) == ("invalid_params", "invalid_params"), name
            elif target:
                assert (inside, outside) == ("invalid_params", "forbidden"), name
            else:
                assert inside in ("invalid_params", "forbidden"), name
                assert (inside == "invalid_params") == (name in shown), name


@pytest.mark.deadline(120)
@pytest.mark.parametrize("credential", [None, "wrong", "expired", "elsewhere", "revoked", "someone-else's"])
async def test_over_http_who_is_not_known_reaches_only_what_is_anonymous(
    host: TestHost, doors: Doors, credential: str | None
) -> None:
    methods = await doors.all_methods()
    secret = await bad_secret(host, credential)
    async with doors.client("http", secret) as client:
        for one in methods:
            kind = await kind_of(client, one["name"], one["x-clonk-streaming"], WRONG)
            if not secret:
                assert kind == ("invalid_params" if one["x-clonk-anonymous"] else "unauthenticated"), one["name"]
            else:
                assert kind == ("forbidden" if credential == "elsewhere" else "unauthenticated"), one["name"]


async def bad_secret(host: TestHost, credential: str | None) -> str | None:
    if credential == "revoked":
        _, secret = await host.app.gateway.keys.create(LOCAL_CALLER, KeyRequest(id="revoked", scopes=("*",)))
        await host.app.gateway.keys.revoke(LOCAL_CALLER, "revoked")
        return secret
    if credential in ("expired", "elsewhere"):
        return secret_of(credential)
    if credential == "wrong":
        return secret_of("everything") + "x"
    if credential == "someone-else's":
        return "clonk_everything_" + "A" * 43
    return credential


@pytest.mark.parametrize("credential", ["wrong", "expired", "elsewhere", "revoked"])
async def test_a_websocket_handshake_with_a_bad_credential_is_refused(
    host: TestHost, doors: Doors, credential: str
) -> None:
    secret = await bad_secret(host, credential)
    with pytest.raises(RemoteError) as caught:
        async with doors.client("websocket", secret) as client:
            await client.call("auth.whoami")
    assert caught.value.kind == ("forbidden" if credential == "elsewhere" else "unauthenticated")


@pytest.mark.deadline(120)
async def test_an_unknown_websocket_reaches_only_what_is_anonymous(doors: Doors) -> None:
    methods = await doors.all_methods()
    async with doors.client("websocket") as client:
        for one in methods:
            kind = await kind_of(client, one["name"], one["x-clonk-streaming"], WRONG)
            assert kind == ("invalid_params" if one["x-clonk-anonymous"] else "unauthenticated"), one["name"]
        shown = {one["name"] for one in (await client.call("rpc.discover"))["methods"]}
        assert shown == {"auth.authenticate", "rpc.discover", "health.check"}
        assert (await client.call("health.check"))["parts"] == {}
        assert await kind_of(client, "no.such", False, {}) == "unauthenticated"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_another_tenant_s_key_reaches_nothing_of_this_one(doors: Doors, transport: str) -> None:
    methods = await doors.all_methods()
    async with doors.client(transport, secret_of("foreign")) as client:
        for one in methods:
            assert await kind_of(client, one["name"], one["x-clonk-streaming"], WRONG) == "not_found", one["name"]


async def test_stdio_is_the_local_caller_with_every_scope(host: TestHost, doors: Doors) -> None:
    methods = await doors.all_methods()
    async with connected(host, "stdio") as client:
        assert (await client.call("auth.whoami"))["caller"] == "local"
        for one in methods:
            assert await kind_of(client, one["name"], one["x-clonk-streaming"], WRONG) == "invalid_params"


async def test_a_batch_is_checked_item_by_item(host: TestHost, doors: Doors) -> None:
    _, secret = await host.app.gateway.keys.create(LOCAL_CALLER, KeyRequest(id="reader", scopes=("arbor:read",)))
    calls = [
        {"jsonrpc": "2.0", "method": name, "params": params, "id": name}
        for name, params in (("arbor.tree_list", {}), ("arbor.tree_create", {"name": "x"}), ("keys.list", {}))
    ]
    with trio.fail_after(10):
        answer = await post(doors.addresses.http.port, orjson.dumps(calls), secret)
    kinds = {one["id"]: one.get("error", {}).get("data", {}).get("kind", "ok") for one in orjson.loads(answer.body)}
    assert kinds == {"arbor.tree_list": "ok", "arbor.tree_create": "forbidden", "keys.list": "forbidden"}


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def post(port: int, body: bytes, secret: str | None) -> Answer:
    """One request with its raw answer, the connection closed after it."""
    bearer = f"Authorization: Bearer {secret}\r\n" if secret else ""
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n{bearer}"
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b"".join([bytes(piece) async for piece in stream])
    top, _, rest = received.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return Answer(int(lines[0].split(" ")[1]), headers, rest)
