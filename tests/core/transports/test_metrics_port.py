"""The port of the metrics, with real sockets."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from clonk_core.errors import ConfigError
from clonk_core.testing.host import TestHost, open_host
from clonk_core.testing.serving import served
from clonk_core.transports.listening import Address, open_listeners

ON = {"metrics": {"enabled": True, "port": 0}}


@pytest.fixture
def settings() -> dict[str, Any]:
    return {**ON, "server": {"allowed_hosts": ["clonk.internal"]}}


@pytest.fixture
async def port(host: TestHost) -> AsyncIterator[httpx.AsyncClient]:
    async with served(host) as addresses:
        assert addresses.metrics is not None
        async with httpx.AsyncClient(base_url=addresses.metrics.url("http"), timeout=20) as client:
            client.headers["x-http"] = addresses.http.url("http", "/mcp")
            yield client


def number(text: str, name: str, **labels: str) -> float | None:
    samples = [sample for family in parse_text(text) for sample in family.samples]
    return next((sample.value for sample in samples if sample.name == name and sample.labels == labels), None)


async def test_a_scrape_is_prometheus_text(port: httpx.AsyncClient) -> None:
    answer = await port.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert number(answer.text, "clonk_runs_running") == 0
    assert "clonk_calls" in {family.name for family in parse_text(answer.text)}


async def test_a_scraper_that_asks_for_openmetrics_gets_it(port: httpx.AsyncClient) -> None:
    answer = await port.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "clonk_calls" in {family.name for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]


async def test_numbers_move(port: httpx.AsyncClient) -> None:
    before = number((await port.get("/metrics")).text, "clonk_received_bytes_total", transport="http")
    call = {"jsonrpc": "2.0", "id": 1, "method": "hub.info"}
    assert (await port.post(port.headers["x-http"], json=call)).json()["result"]
    after = (await port.get("/metrics")).text
    moved = number(after, "clonk_received_bytes_total", transport="http")
    assert before is not None
    assert moved is not None
    assert moved > before
    assert number(after, "clonk_open_connections", transport="http") == 1  # this port's own do not count


async def test_the_event_loop_is_measured_while_it_serves(port: httpx.AsyncClient) -> None:
    with trio.fail_after(10):
        while not number((await port.get("/metrics")).text, "clonk_event_loop_lag_seconds_count"):
            await trio.sleep(0.05)


async def test_scrapes_at_the_same_time_are_all_answered(port: httpx.AsyncClient) -> None:
    async def scrape() -> None:
        assert (await port.get("/metrics")).status_code == 200

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(scrape)


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/mcp", 404),
        ("POST", "/mcp", 404),
        ("POST", "/metrics", 405),
        ("OPTIONS", "/metrics", 405),
    ],
)
async def test_there_is_nothing_else(port: httpx.AsyncClient, verb: str, path: str, status: int) -> None:
    answer = await port.request(verb, path)
    assert answer.status_code == status
    assert "clonk_" not in answer.text


async def test_head_is_answered_without_a_body(port: httpx.AsyncClient) -> None:
    answer = await port.head("/metrics")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000


@pytest.mark.parametrize(("name", "status"), [("clonk.internal", 200), ("localhost:1", 200), ("evil.example", 421)])
async def test_the_host_header_is_checked(port: httpx.AsyncClient, name: str, status: int) -> None:
    assert (await port.get("/metrics", headers={"Host": name})).status_code == status


async def test_web_pages_of_elsewhere_may_not_read_it(port: httpx.AsyncClient) -> None:
    assert (await port.get("/metrics", headers={"Origin": "https://evil.example"})).status_code == 403


async def test_a_handshake_for_websocket_is_refused(port: httpx.AsyncClient) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert (await port.get("/metrics", headers=headers)).status_code == 403


async def test_nothing_listens_while_metrics_are_off(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data") as host, served(host) as addresses:
        assert addresses.metrics is None


async def test_where_it_listens_is_logged_and_any_address_will_do(tmp_path: Path) -> None:
    everywhere = {"metrics": {"enabled": True, "port": 0, "host": "0.0.0.0"}}
    async with open_host(tmp_path / "data", settings=everywhere) as host, served(host) as addresses:
        assert isinstance(addresses.metrics, Address)
        records = [json.loads(line) for line in host.log_text.splitlines()]
        (told,) = [record for record in records if record["event"] == "metrics"]
        assert told["url"] == f"http://0.0.0.0:{addresses.metrics.port}/metrics"
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{addresses.metrics.port}/metrics")
            assert answer.status_code == 200


async def test_a_port_in_use_stops_the_start_and_is_named(tmp_path: Path) -> None:
    listeners, address = await open_listeners("127.0.0.1", 0, setting="test.port")
    settings = {"metrics": {"enabled": True, "port": address.port}}
    async with open_host(tmp_path / "data", settings=settings) as host:
        told = pytest.RaisesExc(ConfigError, match=rf"metrics\.port.*{address.port}.*in use")
        with pytest.RaisesGroup(told, flatten_subgroups=True):
            async with served(host):
                pass
    for listener in listeners:
        await listener.aclose()


@pytest.mark.parametrize("name", ["no-such-host.invalid", "192.0.2.1"])
async def test_an_address_that_cannot_be_bound_is_told_with_its_setting(name: str) -> None:
    with pytest.raises(ConfigError, match=r"metrics\.host"):
        await open_listeners(name, 0, setting="metrics.port", loopback_only=False)
