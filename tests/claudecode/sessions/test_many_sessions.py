"""Ten thousand sessions: lists stay fast, and the engine knows none of those that are parked."""

import gc
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from clonk_claudecode.engine.engine import Engine
from clonk_claudecode.engine.launch import has_transcript
from clonk_claudecode.engine.live_session import LiveSession
from clonk_claudecode.engine.slots import Slot
from clonk_claudecode.engine.spec import SessionSpec
from clonk_claudecode.engine.turn import Turn
from clonk_core.testing.host import TestHost

COUNT = 10_000
FAST_S = 0.05

FILL = f"""
with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < {COUNT})
insert into sessions (
    id, name, claude_session_id, working_dir, model, permission_mode, message_count, created_at, last_active_at)
select 'sess_' || printf('%026d', n), 's' || n, 'uuid' || n, '/w', 'sonnet', 'default', 0,
    '2026-01-01T00:00:00.000+00:00', '2026-01-01T00:00:00.000+00:00' from numbers"""


def _fastest_s(seconds: list[float]) -> float:
    """The machine's other work makes single measurements longer, never shorter."""
    return min(seconds)


@pytest.fixture
async def many(hub: TestHost, tmp_path: Path) -> TestHost:
    with closing(sqlite3.connect(tmp_path / "data" / "claudecode.db")) as connection, connection:
        connection.execute(FILL)
    return hub


@pytest.mark.alone
@pytest.mark.parametrize("after", [None, "s5000"])
async def test_a_page_of_ten_thousand_sessions_comes_at_once(many: TestHost, after: str | None) -> None:
    seconds = []
    page: list[Any] = []
    for _ in range(10):
        begun = time.perf_counter()
        page = await many.client.call("claudecode.list", after=after)
        seconds.append(time.perf_counter() - begun)
        assert len(page) == 100
    assert _fastest_s(seconds) < FAST_S
    assert page[0]["name"] == ("s10000" if after is None else "s4999")


def test_a_transcript_is_found_among_ten_thousand_folders(tmp_path: Path) -> None:
    for number in range(COUNT):
        (tmp_path / "projects" / f"-data-workspaces-sess-{number}").mkdir(parents=True)
    (tmp_path / "projects" / "-data-workspaces-sess-5000" / "known.jsonl").touch()
    assert has_transcript(tmp_path, "known")
    assert not has_transcript(tmp_path, "unknown")
    assert not has_transcript(tmp_path / "nothing", "known")


def _slots_and_processes() -> set[int]:
    gc.collect()
    return {id(one) for one in gc.get_objects() if isinstance(one, Slot | LiveSession | Turn)}


async def test_the_engine_keeps_nothing_of_a_parked_session(
    engine: Engine, new_spec: Callable[..., SessionSpec], chat: Callable[..., Any]
) -> None:
    before = _slots_and_processes()
    spec = new_spec()
    await chat(spec, "hello")
    assert _slots_and_processes() - before
    await engine.park(spec.session_id)
    while engine.live_count:
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert _slots_and_processes() - before == set()
