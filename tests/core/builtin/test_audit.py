"""`audit` and `host.audit` on a whole host."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from clonk_core.gateway.audit import AuditLog
from clonk_core.gateway_messages import AuditEntry
from clonk_core.interfaces.door import Connection
from clonk_core.messages import Caller, Request
from clonk_core.plugin import Activation, Call, CallError, Host, method
from clonk_core.testing.host import TestHost, open_host

ANN = Caller(id="ann", kind="key", scopes=frozenset({"audit:read"}))
MALLORY = Caller(id="mallory", kind="key", tenant="other", scopes=frozenset({"*"}))


class Worker(Activation):
    """Writes down what it does."""

    namespace = "worker"

    def __init__(self, host: Host) -> None:
        self._host = host

    @method()
    async def work(self, call: Call, text: str = "") -> str:
        """Use a tool."""
        await self._host.audit(
            "Bash", target="first", outcome="denied", duration_ms=1.5, detail={"input": text, "digest": "a" * 64}
        )
        return call.id

    @method()
    async def stream(self, call: Call) -> AsyncIterator[str]:
        """Use a tool in a run."""
        await self._host.audit("Write", kind="system")
        yield call.run_id or ""


@pytest.fixture
def activations() -> Any:
    return [Worker]


async def _write(host: TestHost, **members: Any) -> None:
    entry = AuditEntry(**{"kind": "call", "caller": ANN, "action": "dice.roll", **members})
    await host.app.realm.audit.write(entry)


async def _call_as(host: TestHost, caller: Caller, method_name: str, **params: Any) -> Any:
    """Call past the door: what is shown is the activation's own business."""
    found = host.app.realm.method(method_name)
    return await host.app.realm.invoke(found, params, caller, "req_test")


async def _rows(host: TestHost, **params: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await host.client.call("audit.query", **params)
    return rows


async def test_what_was_written_is_found_by_every_filter(host: TestHost) -> None:
    await _write(host, action="tests.one", target="a", outcome="forbidden", run_id="sub_1")
    await _write(host, action="tests.two", target="b", caller=MALLORY)
    for params in (
        {"caller": "ann", "action": "tests.*"},
        {"kind": "call", "target": "a"},
        {"run_id": "sub_1"},
        {"outcome": "forbidden", "action": "tests.one"},
        {"tenant": "default", "action": "tests.*"},
        {"action": "tests.*", "limit": 1, "after": 0},
    ):
        assert [row["action"] for row in await _rows(host, **params)] == ["tests.one"]
    both = await _rows(host, action="tests.*")
    assert [row["action"] for row in both] == ["tests.two", "tests.one"]
    assert [row["action"] for row in await _rows(host, action="tests.*", before=both[0]["seq"])] == ["tests.one"]
    assert await _rows(host, action="tests.*", until="2020-01-01T00:00:00Z") == []
    assert len(await _rows(host, action="tests.*", since="2020-01-01T00:00:00Z")) == 2


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 1001}, {"before": 3, "after": 1}, {"kind": "other"}, {"since": "yesterday"}]
)
async def test_wrong_filters_are_refused(host: TestHost, params: Mapping[str, Any]) -> None:
    with pytest.raises(CallError) as caught:
        await _rows(host, **params)
    assert caught.value.kind == "invalid_params"


async def test_a_tenant_sees_its_own_rows_alone_whatever_it_asks_for(host: TestHost) -> None:
    await _write(host, action="tests.one")
    await _write(host, action="tests.two", caller=MALLORY)
    seen = []
    for caller in (ANN, MALLORY, attrs.evolve(ANN, scopes=frozenset({"*"})), attrs.evolve(MALLORY, kind="local")):
        reply = await _call_as(host, caller, "audit.query", action="tests.*", tenant=None)
        seen.append(reply.result.count(b'"seq"'))
        other = await _call_as(host, caller, "audit.query", action="tests.*", tenant="other")
        seen.append(other.result.count(b"tests.one"))
    assert seen == [1, 0, 1, 0, 2, 0, 2, 0]


async def test_rows_can_be_followed(host: TestHost) -> None:
    await _write(host, action="tests.one")
    await _write(host, action="tests.two")
    seen: list[str] = []
    async with host.client.stream("audit.follow", after=0, action="tests.*") as events:
        async for _, row in events:
            seen.append(row["action"])
            if len(seen) == 2:
                await _write(host, action="tests.three")
            if len(seen) == 3:
                break
    assert seen == ["tests.one", "tests.two", "tests.three"]


async def test_the_chain_can_be_checked(host: TestHost) -> None:
    await _write(host)
    report = await host.client.call("audit.verify")
    assert report["intact"]
    assert report["problems"] == []
    seq, _, text = report["head"].partition(":")
    assert (await host.client.call("audit.verify", head=report["head"]))["intact"]
    other = await host.client.call("audit.verify", head=f"{seq}:{text[::-1]}")
    assert [problem["kind"] for problem in other["problems"]] == ["head"]
    with pytest.raises(CallError) as caught:
        await host.client.call("audit.verify", head="nonsense")
    assert (caught.value.kind, caught.value.data["path"]) == ("invalid_params", "$.head")


async def test_an_activation_writes_down_what_it_does_for_its_caller(host: TestHost) -> None:
    call_id = await host.client.call("worker.work", text="x" * 5000)
    (row,) = await _rows(host, kind="tool")
    caller = host.app.realm.current_caller("worker").tenant
    assert (row["action"], row["target"], row["outcome"], row["duration_ms"]) == ("Bash", "first", "denied", 1.5)
    assert (row["caller"], row["caller_kind"], row["tenant"]) == ("local", "local", caller)
    assert (row["request_id"], row["run_id"], row["transport"]) == (call_id, None, "inside")
    assert row["detail"]["digest"] == "a" * 64
    assert len(row["detail"]["input"]) < 1100
    (run_id, _) = await host.client.events("worker.stream")
    (row,) = await _rows(host, action="Write")
    assert (row["run_id"], row["kind"]) == (run_id, "system")


async def test_a_package_in_the_background_is_its_own_caller(host: TestHost) -> None:
    await host.app.realm.write_down(AuditEntry(kind="tool", caller=ANN, action="tests.background"))
    (row,) = await _rows(host, action="tests.background")
    assert (row["request_id"], row["run_id"]) == (None, None)


async def test_where_the_log_is_off_it_says_so_and_nothing_else_fails(tmp_path: Path) -> None:
    off = {"audit": {"enabled": False}}
    async with open_host(tmp_path / "data", activations=[Worker], settings=off) as host:
        assert await host.client.call("worker.work")
        for name in ("audit.query", "audit.verify", "audit.follow"):
            with pytest.raises(CallError) as caught:
                connection = Connection(transport="inside", peer="test", id="conn_test")
                await host.dispatch(Request(method=name, id=1), connection)
            assert caught.value.kind == "unavailable"


async def test_the_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        async with open_host(tmp_path / "data") as host:
            assert isinstance(host.app.realm.audit, AuditLog)
            await _write(host, action="tests.one")
            assert (await host.client.call("audit.verify"))["intact"]
    async with open_host(tmp_path / "data") as host:
        rows = await _rows(host, action="tests.one")
    assert len(rows) == 2
