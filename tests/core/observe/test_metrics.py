"""What is counted and measured: the host's own numbers and those of plugins."""

import platform
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.app import App
from clonk_core.errors import PluginError
from clonk_core.host.plugin_metrics import PackageMetrics
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.observe.loop_lag import EVERY_S, watch_loop
from clonk_core.observe.metrics import MAX_LABEL_SETS, PrometheusMetrics
from clonk_core.plugin import Activation, Host, hookimpl, method
from clonk_core.testing.host import TestHost, open_host
from clonk_core.testing.serving import connected

ON = {"metrics": {"enabled": True, "port": 0}}


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics(version="1.2.3")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    assert isinstance(metrics, PrometheusMetrics)
    return metrics.registry.get_sample_value(name, labels)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens a moment after a client has seen the end."""
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.01)


def series(metrics: PrometheusMetrics, name: str) -> int:
    return sum(sample.name == name for family in metrics.registry.collect() for sample in family.samples)


# ── calls ────────────────────────────────────────────────────────────────────


def test_calls_are_counted_and_timed_by_method_and_outcome(metrics: PrometheusMetrics) -> None:
    metrics.know_methods(["dice.roll"])
    metrics.call_ended("dice.roll", "ok", 0.002)
    metrics.call_ended("dice.roll", "ok", 0.2)
    metrics.call_ended("dice.roll", "invalid_params", 0.0001)
    assert value(metrics, "clonk_calls_total", method="dice.roll", outcome="ok") == 2
    assert value(metrics, "clonk_calls_total", method="dice.roll", outcome="invalid_params") == 1
    assert value(metrics, "clonk_call_duration_seconds_count", method="dice.roll") == 3
    assert value(metrics, "clonk_call_duration_seconds_bucket", method="dice.roll", le="0.0025") == 2


def test_methods_that_are_not_there_are_counted_together(metrics: PrometheusMetrics) -> None:
    metrics.know_methods(["dice.roll"])
    for number in range(5000):
        metrics.call_ended(f"made.up_{number}", "method_not_found", 0.001)
    assert value(metrics, "clonk_calls_total", method="unknown", outcome="method_not_found") == 5000
    assert series(metrics, "clonk_calls_total") == 1


def test_values_of_a_label_without_end_are_counted_together(metrics: PrometheusMetrics) -> None:
    for number in range(MAX_LABEL_SETS + 100):
        metrics.authentication_failed(f"reason {number}")
    assert value(metrics, "clonk_authentication_failures_total", reason="other") == 100
    assert series(metrics, "clonk_authentication_failures_total") == MAX_LABEL_SETS + 1


def test_refusals_are_counted_by_kind_and_reason(metrics: PrometheusMetrics) -> None:
    metrics.rate_limited("bytes")
    metrics.authentication_failed("expired")
    assert value(metrics, "clonk_rate_limited_total", kind="bytes") == 1
    assert value(metrics, "clonk_authentication_failures_total", reason="expired") == 1


def test_the_build_and_the_process_are_told(metrics: PrometheusMetrics) -> None:
    assert value(metrics, "clonk_build_info", version="1.2.3", python=platform.python_version()) == 1
    assert value(metrics, "process_open_fds")


# ── a host ───────────────────────────────────────────────────────────────────


class Counting(Activation):
    """Counts."""

    namespace = "counting"

    @method(durable=True)
    async def up(self, to: int) -> AsyncIterator[int]:
        """Count up."""
        for number in range(to):
            yield number

    @method()
    async def once(self) -> int:
        """Count one."""
        return 1


async def test_metrics_are_off_by_default(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data") as host:
        assert host.app.metrics is NO_METRICS


def test_nothing_of_prometheus_is_imported_while_metrics_are_off(tmp_path: Path) -> None:
    program = """
import sys, trio
import clonk_core.plugin
from pathlib import Path
from clonk_core.testing.host import open_host
from clonk_core.testing.serving import served

async def main():
    async with open_host(Path(sys.argv[1])) as host, served(host):
        pass

trio.run(main)
assert "prometheus_client" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "data")], check=True, timeout=60)


async def test_two_hosts_in_one_process_count_apart(tmp_path: Path) -> None:
    async with (
        open_host(tmp_path / "one", activations=[Counting], settings=ON) as one,
        open_host(tmp_path / "two", activations=[Counting], settings=ON) as two,
    ):
        async with one.client.stream("counting.up", to=3) as events:
            assert len([event async for event in events]) == 4  # with `done`
        await until(lambda: value(one.app.metrics, "clonk_runs_ended_total", outcome="complete") == 1)
        assert value(two.app.metrics, "clonk_runs_ended_total", outcome="complete") == 0


async def test_runs_their_events_and_the_databases_are_counted(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Counting], settings=ON) as host:
        metrics = host.app.metrics
        async with host.client.stream("counting.up", to=3) as events:
            assert len([event async for event in events]) == 4  # with `done`
        await until(lambda: value(metrics, "clonk_runs_running") == 0)
        assert value(metrics, "clonk_events_written_total") == 4
        grouped = value(metrics, "clonk_database_duration_seconds_count", database="clonk", kind="grouped")
        assert grouped is not None
        assert grouped >= 2
        assert value(metrics, "clonk_database_duration_seconds_count", database="clonk", kind="read")


@pytest.mark.parametrize("transport", ["http", "websocket", "stdio"])
async def test_connections_and_bytes_are_counted_by_transport(tmp_path: Path, transport: str) -> None:
    async with open_host(tmp_path / "data", activations=[Counting], settings=ON) as host:
        async with connected(host, transport) as client:
            await client.call("counting.once")
            before = bytes_of(host.app, transport)
            assert min(before) > 0
            await client.call("counting.once")
            after = bytes_of(host.app, transport)
            assert all(more > less for more, less in zip(after, before, strict=True))
            assert value(host.app.metrics, "clonk_open_connections", transport=transport) == 1
        await until(lambda: value(host.app.metrics, "clonk_open_connections", transport=transport) == 0)


def bytes_of(app: App, transport: str) -> Sequence[float]:
    names = ("clonk_received_bytes_total", "clonk_sent_bytes_total")
    return [value(app.metrics, name, transport=transport) or 0 for name in names]


# ── the event loop ───────────────────────────────────────────────────────────


async def test_a_blocked_event_loop_is_seen(metrics: PrometheusMetrics, nursery: trio.Nursery) -> None:
    nursery.start_soon(watch_loop, metrics)
    await trio.testing.wait_all_tasks_blocked()
    time.sleep(2 * EVERY_S)  # as a plugin would that computes
    await until(lambda: bool(value(metrics, "clonk_event_loop_lag_seconds_count")))
    assert value(metrics, "clonk_event_loop_lag_seconds_sum") == pytest.approx(EVERY_S, abs=0.2)
    nursery.cancel_scope.cancel()


# ── plugins ──────────────────────────────────────────────────────────────────


@pytest.fixture(params=["on", "off"])
def package(request: pytest.FixtureRequest, metrics: PrometheusMetrics) -> PackageMetrics:
    return PackageMetrics("my-dice", metrics if request.param == "on" else NO_METRICS)


def test_a_plugins_metrics_bear_its_name(metrics: PrometheusMetrics) -> None:
    package = PackageMetrics("my-dice", metrics)
    package.counter("throws", "Throws.", ["sides"]).inc(2, sides="6")
    package.gauge("cups", "Cups.").set(3)
    package.gauge("cups", "Cups.").add(-1)
    package.histogram("eyes", "Eyes.", buckets=[1, 3, 6]).observe(2)
    assert value(metrics, "clonk_my_dice_throws_total", sides="6") == 2
    assert value(metrics, "clonk_my_dice_cups") == 2
    assert value(metrics, "clonk_my_dice_eyes_bucket", le="3.0") == 1


def test_asked_for_twice_it_is_the_same_one(package: PackageMetrics) -> None:
    assert package.counter("throws", "Throws.") is package.counter("throws", "Throws.")


def test_two_realms_of_one_package_share_its_numbers(metrics: PrometheusMetrics) -> None:
    for _ in range(2):
        PackageMetrics("dice", metrics).gauge("cups", "Cups.").add(1)
    assert value(metrics, "clonk_dice_cups") == 2


Declare = Callable[[PackageMetrics], Any]


@pytest.mark.parametrize(
    "declare",
    [
        lambda package: package.gauge("throws", "Throws."),
        lambda package: package.counter("throws", "Throws.", ["sides"]),
        lambda package: package.counter("Throws", "Throws."),
        lambda package: package.counter("throws_total", "Throws."),
        lambda package: package.counter("other", "Other.", ["no-label"]),
        lambda package: package.counter("throws", "Throws.").inc(-1),
        lambda package: package.counter("throws", "Throws.").inc(sides="6"),
        lambda package: package.gauge("cups", "Cups.", ["colour"]).set(1),
    ],
)
def test_what_a_plugin_declares_or_uses_wrongly_is_refused_also_when_metrics_are_off(
    package: PackageMetrics, declare: Declare
) -> None:
    package.counter("throws", "Throws.")
    with pytest.raises(PluginError):
        declare(package)


@pytest.mark.parametrize(
    ("package", "name", "labels"), [("runs", "running", []), ("a", "b_c", []), ("dice", "eyes", ["le"])]
)
def test_a_name_that_is_taken_or_reserved_is_refused(
    metrics: PrometheusMetrics, package: str, name: str, labels: list[str]
) -> None:
    PackageMetrics("a_b", metrics).histogram("c", "As clonk_a_b_c.")
    with pytest.raises(PluginError):
        PackageMetrics(package, metrics).histogram(name, "Taken.", labels)


class Dice(Activation):
    """Throw dice."""

    namespace = "dice"

    def __init__(self, host: Host) -> None:
        self._throws = host.metrics.counter("throws", "Throws.", ["sides"])

    @method()
    async def roll(self, sides: int = 6) -> int:
        """Throw one."""
        self._throws.inc(sides=str(sides))
        return 1


class DicePlugin:
    @hookimpl
    def clonk_activations(self, host: Host) -> Sequence[Activation]:
        return [Dice(host)]


@pytest.mark.parametrize("settings", [ON, {}], ids=["on", "off"])
async def test_an_activation_counts_through_its_host(tmp_path: Path, settings: Any) -> None:
    async with open_host(tmp_path / "data", plugins={"dice": DicePlugin()}, settings=settings) as host:
        await host.client.call("dice.roll")
        assert _loaded(host)
        if settings:
            assert value(host.app.metrics, "clonk_dice_throws_total", sides="6") == 1


def _loaded(host: TestHost) -> bool:
    return all(plugin.state == "loaded" for plugin in host.app.hub.plugins)
