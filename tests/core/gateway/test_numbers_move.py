"""Every number that the gateway counts moves when what it counts happens, seen from the port of the metrics."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import trio
from prometheus_client.parser import text_string_to_metric_families as parse_text

from clonk_core.app import Addresses
from clonk_core.gateway_messages import KeyRequest
from clonk_core.messages import LOCAL_CALLER
from clonk_core.plugin import Activation, method
from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings
from tests.core.gateway.raw import ask_raw, bearer, frames, message, post_bytes

ON = {"metrics": {"enabled": True, "port": 0}}
Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Steps(Activation):
    """Goes step by step."""

    namespace = "steps"

    def __init__(self) -> None:
        self.go = trio.Event()

    @method(scope="read", durable=True)
    async def walk(self) -> AsyncIterator[int]:
        """Take a step, wait, take another."""
        yield 1
        await self.go.wait()
        yield 2


async def numbers(addresses: Addresses) -> Numbers:
    assert addresses.metrics is not None
    async with httpx.AsyncClient() as client:
        text = (await client.get(addresses.metrics.url("http", "/metrics"), timeout=20)).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def value(found: Numbers, name: str, **labels: str) -> float:
    return found.get((f"clonk_{name}", frozenset(labels.items())), 0.0)


async def until_moved(addresses: Addresses, before: Numbers, by: float, name: str, **labels: str) -> None:
    """Wait until a number is that much more than before: some are counted a moment after the answer."""
    with trio.fail_after(15):
        while value(await numbers(addresses), name, **labels) != value(before, name, **labels) + by:
            await trio.sleep(0.02)


async def until_more(addresses: Addresses, before: Numbers, name: str, **labels: str) -> None:
    with trio.fail_after(15):
        while value(await numbers(addresses), name, **labels) <= value(before, name, **labels):
            await trio.sleep(0.02)


async def test_calls_refusals_runs_connections_bytes_and_times_move(open_guarded: OpenGuarded) -> None:
    steps = Steps()
    keys = [
        key_settings("a"),
        key_settings("few", rate_limit="1/day"),
        key_settings("small", bytes_limit="1KiB/day"),
        key_settings("one", max_runs=1),
        key_settings("old", expires_at="2020-01-01T00:00:00Z"),
        key_settings("far", allowed_networks=["192.0.2.0/24"]),
        key_settings("reader", ["arbor:read"]),
    ]
    async with (
        open_guarded(*keys, activations=[lambda: steps], settings=ON) as host,
        served(host) as addresses,
    ):
        port = addresses.http.port

        async def post(*lines: bytes, body: bytes = b"") -> Any:
            return await ask_raw(port, post_bytes(body or message(), *lines))

        before = await numbers(addresses)
        await post(bearer("a"))
        await post(bearer("reader"), body=message("keys.list"))
        await post(bearer("a"), body=message("no.such"))
        await until_moved(addresses, before, 1, "calls_total", method="auth.whoami", outcome="ok")
        await until_moved(addresses, before, 1, "calls_total", method="keys.list", outcome="forbidden")
        await until_moved(addresses, before, 1, "calls_total", method="unknown", outcome="method_not_found")
        await until_moved(addresses, before, 1, "call_duration_seconds_count", method="auth.whoami")
        await until_more(addresses, before, "received_bytes_total", transport="http")
        await until_more(addresses, before, "sent_bytes_total", transport="http")
        await until_more(addresses, before, "database_duration_seconds_count", database="clonk", kind="direct")
        await until_more(addresses, before, "event_loop_lag_seconds_count")

        before = await numbers(addresses)
        await post(b"Authorization: Bearer wrong")
        await post(bearer("far"))
        await post(bearer("old"))
        _, secret = await host.app.gateway.keys.create(LOCAL_CALLER, KeyRequest(id="gone", scopes=("*",)))
        async with frames(addresses.websocket.port, b"Authorization: Bearer " + secret.encode()) as peer:
            await peer.send(message())
            await peer.answer(1)
            await until_moved(addresses, before, 1, "open_connections", transport="websocket")
            await until_more(addresses, before, "received_bytes_total", transport="websocket")
        await until_moved(addresses, before, 0, "open_connections", transport="websocket")
        await until_moved(addresses, before, 1, "authentication_failures_total", reason="network")
        await until_moved(addresses, before, 2, "authentication_failures_total", reason="unknown_key")

        for _ in range(2):
            await post(bearer("few"))
            await post(bearer("small"), body=message("auth.whoami", {"x": "y" * 2000}))
        await until_moved(addresses, before, 1, "rate_limited_total", kind="calls")
        await until_moved(addresses, before, 1, "rate_limited_total", kind="bytes")
        async with frames(addresses.websocket.port, bearer("one")) as peer:
            await peer.send(message("steps.walk", id=1))
            await peer.answer(1)
            await until_moved(addresses, before, 1, "runs_running")
            await peer.send(message("steps.walk", id=2))
            assert (await peer.answer(2))["error"]["data"]["kind"] == "rate_limited"
            await until_moved(addresses, before, 1, "rate_limited_total", kind="runs")
            steps.go.set()
            await until_moved(addresses, before, 1, "runs_ended_total", outcome="complete")
            await until_moved(addresses, before, 0, "runs_running")
            await until_moved(addresses, before, 3, "events_written_total")


async def test_strangers_that_are_refused_are_counted(open_guarded: OpenGuarded) -> None:
    auth = {"stranger_limit": "1/day"}
    async with open_guarded(key_settings("a"), auth=auth, settings=ON) as host, served(host) as addresses:
        before = await numbers(addresses)
        for _ in range(3):
            await ask_raw(addresses.http.port, post_bytes(message("health.check")))
        await until_moved(addresses, before, 2, "rate_limited_total", kind="stranger")
