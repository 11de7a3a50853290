"""Tokens of an identity provider, on a whole host: over HTTP, over WebSocket, and while the provider takes its time."""

import time
from typing import Any

import orjson
import pytest
import trio

from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings
from tests.core.gateway.test_connections import ask, opened, until_closed


def jwt(provider: Any, **more: Any) -> dict[str, Any]:
    provider.now_s = time.time()
    return {"jwt": {"issuer": "https://idp.example", "audience": "clonk", "jwks_uri": provider.uri, **more}}


async def test_a_token_s_bearer_may_do_what_its_scopes_say(open_guarded: OpenGuarded, provider: Any) -> None:
    async with open_guarded(auth=jwt(provider), packages=["arbor"]) as host, served(host) as addresses:
        token = provider.token(scope="arbor:read keys:none")
        async with HttpClient(addresses.http.url("http"), api_key=token) as client:
            who = await client.call("auth.whoami")
            assert (who["caller"], who["kind"], who["scopes"]) == (
                "user:alice@corp",
                "token",
                ["arbor:read", "keys:none"],
            )
            assert await client.call("arbor.tree_list") == []
            with pytest.raises(RemoteError, match="arbor:tree_create"):
                await client.call("arbor.tree_create", name="x")
        async with HttpClient(addresses.http.url("http"), api_key=provider.token(aud="other")) as client:
            with pytest.raises(RemoteError) as caught:
                await client.call("auth.whoami")
            assert caught.value.kind == "unauthenticated"


async def test_keys_and_tokens_work_side_by_side(open_guarded: OpenGuarded, provider: Any) -> None:
    async with open_guarded(key_settings("alice@corp".replace("@", ".")), auth=jwt(provider)) as host:
        async with served(host) as addresses, opened(addresses.websocket.url("ws", "/ws")) as socket:
            answer = await ask(socket, "auth.authenticate", {"token": provider.token()})
            assert answer["result"]["caller"] == "user:alice@corp"


async def test_a_key_with_dots_in_its_id_is_not_taken_for_a_token(open_guarded: OpenGuarded, provider: Any) -> None:
    async with open_guarded(auth=jwt(provider)) as host, served(host) as addresses:
        for credential, reason in (("clonk_a.b.c_wrong", "unknown_key"), ("some.odd.word!", "unknown_key")):
            async with HttpClient(addresses.http.url("http"), api_key=credential) as client:
                with pytest.raises(RemoteError) as caught:
                    await client.call("auth.whoami")
            assert caught.value.kind == "unauthenticated"
            assert f'"reason": "{reason}"' in host.log_text.splitlines()[-1]


async def test_a_call_behind_the_credential_waits_for_it(open_guarded: OpenGuarded, provider: Any) -> None:
    provider.gate = trio.Event()
    async with open_guarded(auth=jwt(provider)) as host, served(host) as addresses:
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            for id_, method, params in ((0, "auth.authenticate", {"token": provider.token()}), (1, "auth.whoami", {})):
                request = {"jsonrpc": "2.0", "method": method, "params": params, "id": id_}
                await socket.send_message(orjson.dumps(request).decode())
            await provider.wait_asked(1)
            provider.gate.set()
            answers: dict[int, Any] = {}
            with trio.fail_after(10):
                while len(answers) < 2:
                    answer = orjson.loads(await socket.get_message())
                    answers[answer["id"]] = answer
            assert answers[1]["result"]["caller"] == answers[0]["result"]["caller"] == "user:alice@corp"


async def test_a_token_that_expires_ends_its_connection(open_guarded: OpenGuarded, provider: Any) -> None:
    async with open_guarded(auth=jwt(provider, leeway_s=0)) as host, served(host) as addresses:
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            token = provider.token(exp=int(time.time()) + 2)
            assert "result" in await ask(socket, "auth.authenticate", {"token": token})
            code, reason = await until_closed(socket)
            assert (code, "expired" in reason) == (1008, True)


async def test_users_have_a_limit_of_their_own(open_guarded: OpenGuarded, provider: Any) -> None:
    async with open_guarded(auth=jwt(provider, rate_limit="2/h")) as host, served(host) as addresses:
        for user in ("alice", "bob"):
            async with HttpClient(addresses.http.url("http"), api_key=provider.token(sub=user)) as client:
                await client.call("auth.whoami")
                assert (await client.call("auth.whoami"))["rate_limit"]["remaining"] == 0
                with pytest.raises(RemoteError) as caught:
                    await client.call("auth.whoami")
                assert caught.value.kind == "rate_limited"
