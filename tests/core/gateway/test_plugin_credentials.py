"""Credentials that a plugin knows, on a whole host."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
import trio.testing

from clonk_core.client.http import HttpClient
from clonk_core.client.inside import InsideClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.errors import CallError
from clonk_core.gateway import plugin_credentials
from clonk_core.interfaces.door import Connection
from clonk_core.messages import LOCAL_CALLER
from clonk_core.plugin import Host, Identity, hookimpl
from clonk_core.testing.host import TestHost
from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of
from tests.core.gateway.test_connections import ask, opened, until_closed


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


class Badges:
    """A plugin whose credentials are `badge.<name>`; everything that it is asked about is kept.

    Args:
        answer: What it says of each badge, or an error that it raises.
    """

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.gate: trio.Event | None = None

    @hookimpl
    def clonk_credentials(self, host: Host) -> Any:
        assert host.tenant == "default"
        return [self.check]

    async def check(self, credential: str) -> Any:
        self.asked.append(credential)
        if self.gate is not None:
            await self.gate.wait()
        if not credential.startswith("badge."):
            return None
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer is not None:
            return self.answer
        return Identity(subject=credential[6:], scopes=("arbor:read", "no scope"), expires_at=in_an_hour())


def client_of(host: TestHost, credential: str) -> InsideClient:
    connection = Connection(transport="http", peer="test", id="conn_x", address="127.0.0.1", bearer=credential)
    return InsideClient(host.dispatch, connection)


async def outcome(host: TestHost, credential: str, method: str = "auth.whoami") -> Any:
    try:
        return await client_of(host, credential).call(method)
    except CallError as error:
        return error.kind


async def test_whoever_a_plugin_knows_may_do_what_its_scopes_say(open_guarded: OpenGuarded) -> None:
    badges = Badges()
    auth = {"rate_limit": "5/h"}
    async with open_guarded(plugins={"badges": badges}, packages=["arbor"], auth=auth) as host:
        who = await outcome(host, "badge.ann")
        assert (who["caller"], who["kind"], who["tenant"]) == ("plugin:badges:ann", "token", "default")
        assert (who["scopes"], who["rate_limit"]["limit"]) == (["arbor:read"], 5)
        assert await outcome(host, "badge.ann", "arbor.tree_list") == []
        assert await outcome(host, "badge.ann", "keys.list") == "forbidden"
        assert await outcome(host, "badger") == "unauthenticated"
        [row] = await host.client.call("audit.query", action="arbor.tree_list")
        assert row["caller"] == "plugin:badges:ann"


async def test_over_both_ports_and_as_a_first_message(open_guarded: OpenGuarded) -> None:
    bob = "badge.bob"  # a header's credential has no spaces
    async with open_guarded(plugins={"badges": Badges()}) as host, served(host) as addresses:
        async with HttpClient(addresses.http.url("http"), api_key=bob) as client:
            assert (await client.call("auth.whoami"))["caller"] == "plugin:badges:bob"
        async with WebSocketClient(addresses.websocket.url("ws", "/ws"), api_key=bob) as client:
            assert (await client.call("auth.whoami"))["caller"] == "plugin:badges:bob"
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            answer = await ask(socket, "auth.authenticate", {"token": bob})
            assert answer["result"]["caller"] == "plugin:badges:bob"


async def test_a_plugin_sees_no_key_of_clonk_s_not_even_one_that_is_good_no_more(open_guarded: OpenGuarded) -> None:
    badges = Badges()
    keys = [key_settings("good"), key_settings("old", expires_at="2020-01-01T00:00:00Z")]
    own = {**key_settings("own", expires_at="2020-01-01T00:00:00Z"), "secret_hash": hash_setting("any text will do")}
    async with open_guarded(*keys, own, plugins={"badges": badges}) as host:
        made = await host.client.call("keys.create", id="made", scopes=["*"])
        await host.client.call("keys.revoke", id="made")
        assert (await outcome(host, secret_of("good")))["caller"] == "good"
        for credential in (secret_of("old"), made["key"], "clonk_typo_x", "any text will do"):
            assert await outcome(host, credential) == "unauthenticated"
        assert badges.asked == []


def hash_setting(key: str) -> str:
    from clonk_core.gateway.keys import hash_of

    return f"sha256:{hash_of(key)}"


async def test_several_plugins_are_asked_and_a_token_of_the_provider_goes_first(
    open_guarded: OpenGuarded, provider: Any
) -> None:
    import time

    provider.now_s = time.time()
    first, second = Badges(RuntimeError("broken")), Badges()
    jwt = {"issuer": "https://idp.example", "audience": "clonk", "jwks_uri": provider.uri}
    async with open_guarded(plugins={"a": first, "b": second}, auth={"jwt": jwt}) as host:
        assert (await outcome(host, provider.token()))["caller"] == "user:alice@corp"
        assert first.asked == second.asked == []
        assert await outcome(host, provider.token(aud="other")) == "unauthenticated"
        assert len(first.asked) == len(second.asked) == 1
        # Broken is the first one alone.
        assert (await outcome(host, "badge.x.y"))["caller"] == "plugin:b:x.y"


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("with badge.ann"),
        ValueError(),
        SystemExit(3),
        ExceptionGroup("g", [OSError("a"), OSError("b")]),
        "ann",
        {"subject": "ann", "scopes": ["*"]},
        Identity(subject="", scopes=("*",), expires_at=in_an_hour()),
        Identity(subject="a\nb", scopes=("*",), expires_at=in_an_hour()),
        Identity(subject="a" * 201, scopes=("*",), expires_at=in_an_hour()),
        Identity(subject=1, scopes=("*",), expires_at=in_an_hour()),  # type: ignore[arg-type]
        Identity(subject="ann", scopes="*", expires_at=in_an_hour()),
        Identity(subject="ann", scopes=None, expires_at=in_an_hour()),  # type: ignore[arg-type]
        Identity(subject="ann", scopes=("*",), expires_at=datetime(2099, 1, 1)),  # noqa: DTZ001
        Identity(subject="ann", scopes=("*",), expires_at=None),  # type: ignore[arg-type]
    ],
)
async def test_a_plugin_that_breaks_or_lies_lets_nobody_in_and_is_told_in_the_log(
    open_guarded: OpenGuarded, answer: Any
) -> None:
    async with open_guarded(key_settings("a"), plugins={"badges": Badges(answer)}) as host:
        assert await outcome(host, "badge.ann") == "unavailable"
        assert await outcome(host, "unknown") == "unauthenticated"
        assert (await outcome(host, secret_of("a")))["caller"] == "a"
        assert "a credential could not be checked" in host.log_text
        assert "badge.ann" not in host.log_text


async def test_one_that_has_expired_is_refused(open_guarded: OpenGuarded) -> None:
    past = Identity(subject="ann", scopes=("*",), expires_at=datetime.now(UTC) - timedelta(seconds=1))
    async with open_guarded(plugins={"badges": Badges(past)}) as host:
        assert await outcome(host, "badge.ann") == "unauthenticated"


async def test_one_that_expires_ends_its_connection(open_guarded: OpenGuarded) -> None:
    soon = Identity(subject="ann", scopes=(), expires_at=datetime.now(UTC) + timedelta(seconds=1.5))
    async with open_guarded(plugins={"badges": Badges(soon)}) as host, served(host) as addresses:
        async with opened(addresses.websocket.url("ws", "/ws")) as socket:
            assert "result" in await ask(socket, "auth.authenticate", {"token": "badge.ann"})
            code, reason = await until_closed(socket)
            assert (code, "expired" in reason) == (1008, True)


async def test_a_plugin_that_takes_too_long_holds_up_nobody_else(
    open_guarded: OpenGuarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_credentials, "CHECK_WITHIN_S", 0.3)
    monkeypatch.setattr(plugin_credentials, "MAX_AT_ONCE", 3)
    badges = Badges()
    badges.gate = trio.Event()
    kinds: list[Any] = []

    async def show(host: TestHost, number: int) -> None:
        kinds.append(await outcome(host, f"badge.{number}"))

    async with open_guarded(key_settings("a"), plugins={"badges": badges}) as host:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(show, host, number)
            await trio.testing.wait_all_tasks_blocked()
            assert len(badges.asked) == 3
            assert (await outcome(host, secret_of("a")))["caller"] == "a"
        assert kinds == ["unavailable"] * 10
        assert "badge.1" not in host.log_text


@pytest.mark.parametrize("given", [lambda: 5, lambda: [5], lambda: "text"])
async def test_a_hook_that_gives_something_else_leaves_its_plugin_out(
    open_guarded: OpenGuarded, given: Callable[[], Any]
) -> None:
    class Odd:
        @hookimpl
        def clonk_credentials(self) -> Any:
            return given()

    async with open_guarded(key_settings("a"), plugins={"odd": Odd()}) as host:
        [status] = [one for one in host.app.hub.plugins if one.name == "odd"]
        assert status.state == "failed"
        assert "clonk_credentials" in str(status.error)
        assert await outcome(host, "badge.ann") == "unauthenticated"


async def test_nobody_is_asked_without_authentication(open_guarded: OpenGuarded) -> None:
    badges = Badges()
    async with open_guarded(plugins={"badges": badges}, auth={"enabled": False}) as host:
        assert (await outcome(host, "badge.ann"))["caller"] == LOCAL_CALLER.id
        assert badges.asked == []
