"""What is counted of sessions, their processes and their turns, on the real binary."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest
import trio

from clonk_claudecode.engine.engine import open_engine
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_claudecode.errors import BinaryMissing, ProcessDied
from clonk_claudecode.metrics import CountedSessions
from clonk_core.host.plugin_metrics import PackageMetrics
from clonk_core.observe.metrics import PrometheusMetrics
from clonk_core.testing.host import TestHost, open_host
from tests.claudecode.sessions.conftest import claudecode_settings


def value(metrics: Any, name: str, **labels: str) -> float | None:
    assert isinstance(metrics, PrometheusMetrics)
    return metrics.registry.get_sample_value(f"clonk_claudecode_{name}", labels)


def sessions(host: TestHost) -> tuple[float | None, float | None]:
    """Return how many are live and parked."""
    return value(host.app.metrics, "sessions", state="live"), value(host.app.metrics, "sessions", state="parked")


@pytest.fixture
def open_counting(tmp_path: Any, model: Any, claude: object) -> Callable[[], AbstractAsyncContextManager[TestHost]]:
    settings = {"claudecode": claudecode_settings(model), "metrics": {"enabled": True, "port": 0}}
    return lambda: open_host(tmp_path / "data", packages=["claudecode"], settings=settings)


async def test_sessions_processes_and_turns_are_counted_also_after_a_restart(
    open_counting: Callable[[], AbstractAsyncContextManager[TestHost]],
) -> None:
    async with open_counting() as host:
        for name in ("one", "two"):
            await host.client.call("claudecode.create", name=name)
        assert sessions(host) == (None, 2)
        await host.client.events("claudecode.chat", name="one", prompt="hello")
        assert sessions(host) == (1, 1)
        assert value(host.app.metrics, "process_starts_total", result="ready") == 1
        assert value(host.app.metrics, "turns_total", outcome="complete") == 1
    async with open_counting() as host:
        assert sessions(host) == (None, 2)
        await host.client.events("claudecode.chat", name="one", prompt="hello")
        await host.client.call("claudecode.delete", name="one")
        assert sessions(host) == (0, 1)


async def test_a_process_that_does_not_start_and_a_turn_that_fails_are_counted(
    settings: EngineSettings, spec: SessionSpec, diary: Any, tmp_path: Any
) -> None:
    metrics = PrometheusMetrics(version="1")
    broken = tmp_path / "broken"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] || exit 3\necho "9.9.9 (Claude Code)"\n')
    broken.chmod(0o700)
    counted = CountedSessions(PackageMetrics("claudecode", metrics))
    missing = attrs.evolve(settings, binary_path=tmp_path / "missing")
    async with open_engine(missing, log=diary, metrics=counted) as engine:
        with pytest.raises(BinaryMissing):
            async with engine.turn(spec, "hello", turn_id="sub_1", prompt_uuid="x"):
                pass
    assert value(metrics, "turns_total", outcome="failed") == 1
    assert value(metrics, "process_starts_total", result="failed") is None
    async with open_engine(attrs.evolve(settings, binary_path=broken), log=diary, metrics=counted) as engine:
        with pytest.raises(ProcessDied), trio.fail_after(30):
            async with engine.turn(spec, "hello", turn_id="sub_2", prompt_uuid="x"):
                pass
    assert value(metrics, "turns_total", outcome="failed") == 2
    assert value(metrics, "process_starts_total", result="failed") == 1
    assert value(metrics, "sessions", state="live") == 0
