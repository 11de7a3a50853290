"""A request that is repeated with its key is answered with the run that the first one has started."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import trio

from clonk_core.client.base import RemoteError
from clonk_core.interfaces.door import Connection
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Caller, Request
from clonk_core.plugin import Activation, CallError, Conflict, MaxLen, method
from clonk_core.runs.limits import RunLimits
from clonk_core.testing.host import TestHost, open_host
from clonk_core.testing.serving import connected


class Works(Activation):
    """Counts how often its work was done."""

    namespace = "works"
    done = 0
    gate: trio.Event | None = None

    @method(durable=True, idempotency_key="key", errors=[Conflict])
    async def work(
        self, what: str, times: int = 1, key: Annotated[str, MaxLen(100)] | None = None
    ) -> AsyncIterator[str]:
        """Work once."""
        if what == "refused":
            raise Conflict("not now")
        if self.gate is not None:
            await self.gate.wait()

        async def events() -> AsyncIterator[str]:
            type(self).done += 1
            for _ in range(times):
                yield what

        return events()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Works.done = 0
    Works.gate = None


def _caller(name: str) -> Connection:
    caller = Caller(id=name, kind="key", scopes=frozenset({"works:*"}))
    return Connection(transport="inside", peer=name, id=f"conn_{name}", caller=caller)


async def _subscription(host: TestHost, caller: str = "one", **params: Any) -> str:
    answer = await host.dispatch(Request(method="works.work", params=params, id=1), _caller(caller))
    assert isinstance(answer, Following)
    return answer.run.id


@pytest.mark.parametrize("transport", ["http", "websocket", "stdio"])
async def test_a_repeated_request_gives_the_same_run_from_its_beginning(tmp_path: Path, transport: str) -> None:
    async with open_host(tmp_path / "data", activations=[Works]) as host, connected(host, transport) as client:
        answers = []
        for _ in range(2):
            async with client.stream("works.work", what="paint", times=2, key="k") as stream:
                answers.append((stream.subscription, [(seq, event) async for seq, event in stream]))
        assert answers[0] == answers[1]
        assert [seq for seq, _ in answers[0][1]] == [1, 2, 3]
        assert Works.done == 1
        with pytest.raises(RemoteError) as caught:
            await client.events("works.work", what="varnish", times=2, key="k")
        assert caught.value.kind == "conflict"
        assert caught.value.data["subscription"] == answers[0][0]


async def test_a_run_is_known_by_its_key_after_a_restart(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Works]) as host:
        first = await _subscription(host, what="paint", key="k")
    async with open_host(tmp_path / "data", activations=[Works]) as host:
        assert await _subscription(host, what="paint", key="k") == first
        events = await host.client.call("rpc.subscriptions")
    assert events == []  # the caller of the test itself has none
    assert Works.done == 1


async def test_of_many_at_the_same_instant_one_runs(tmp_path: Path) -> None:
    Works.gate = trio.Event()
    found: list[str] = []
    async with open_host(tmp_path / "data", activations=[Works]) as host:

        async def ask() -> None:
            found.append(await _subscription(host, what="paint", key="k"))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            Works.gate.set()
        assert len(set(found)) == 1
        await host.client.call("rpc.cancel", subscription=found[0])
    assert Works.done == 1


async def test_what_is_left_out_and_what_is_given_as_it_is_by_default_is_the_same_request(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Works]) as host:
        first = await _subscription(host, what="paint", key="k")
        assert await _subscription(host, what="paint", times=1, key="k") == first
        with pytest.raises(Conflict):
            await _subscription(host, what="paint", times=2, key="k")


async def test_keys_of_different_callers_and_requests_without_one_have_nothing_to_do_with_each_other(
    tmp_path: Path,
) -> None:
    async with open_host(tmp_path / "data", activations=[Works]) as host:
        runs = [await _subscription(host, caller, what="paint", key="k") for caller in ("one", "two")]
        runs += [await _subscription(host, what="paint") for _ in range(2)]
        runs += [await _subscription(host, what="paint", key=None)]
        assert len(set(runs)) == 5


async def test_a_request_that_was_refused_leaves_no_key_behind(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Works]) as host:
        for _ in range(2):
            with pytest.raises(Conflict) as caught:
                await _subscription(host, what="refused", key="k")
            assert caught.value.message == "not now"
        assert await _subscription(host, what="paint", key="k")


async def test_a_key_is_kept_as_long_as_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_host(tmp_path / "data", activations=[Works]) as host:
        first = await _subscription(host, what="paint", key="k")
        run = await host.app.realm.runs.find(_caller("one").caller or Caller(id="none"), first)
        async with run.follow() as batches:
            async for _ in batches:
                pass
        monkeypatch.setattr(host.app.realm.runs, "_limits", RunLimits(max_total_bytes=0))
        assert await host.app.realm.runs.sweep() == 1
        assert await _subscription(host, what="varnish", key="k") != first


async def test_a_repeated_request_takes_no_place_of_the_callers_runs(tmp_path: Path) -> None:
    settings = {"auth": {"enabled": False, "tenant_limits": [{"tenant": "default", "max_runs": 1}]}}
    async with open_host(tmp_path / "data", activations=[Waits], settings=settings) as host:
        answers = [await host.dispatch(_waiting("k"), _caller("one")) for _ in range(2)]
        ids = {answer.run.id for answer in answers if isinstance(answer, Following)}
        assert len(ids) == 1
        with pytest.raises(CallError) as caught:
            await host.dispatch(_waiting("another"), _caller("one"))
        assert caught.value.kind == "rate_limited"


def _waiting(key: str) -> Request:
    return Request(method="works.wait", params={"key": key}, id=1)


class Waits(Activation):
    """Does not end by itself."""

    namespace = "works"

    @method(durable=True, idempotency_key="key")
    async def wait(self, key: str | None = None) -> AsyncIterator[str]:
        """Wait until it is stopped."""
        yield "waiting"
        await trio.sleep_forever()
