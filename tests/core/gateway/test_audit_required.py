"""What cannot be written down is not done: calls that change something while the audit log cannot be written."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from clonk_core.client.inside import InsideClient
from clonk_core.errors import CallError, Forbidden, Unavailable
from clonk_core.interfaces.door import Connection
from clonk_core.plugin import Activation, method
from clonk_core.testing.host import TestHost
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of


class Marks(Activation):
    """Remembers."""

    namespace = "marks"

    def __init__(self) -> None:
        self.set: list[str] = []

    @method(scope="write")
    async def put(self, text: str) -> str:
        """Keep a text."""
        self.set.append(text)
        return text

    @method(scope="write")
    async def stream(self, text: str) -> AsyncIterator[str]:
        """Keep a text, and say so."""
        self.set.append(text)
        yield text

    @method(scope="read", read_only=True)
    async def get(self) -> tuple[str, ...]:
        """Return the texts."""
        return tuple(self.set)


def rename_table(data_dir: Path, old: str, new: str) -> None:
    # By the same library as the server's: closing another one's file would take away the locks of this process.
    connection = apsw.Connection(str(data_dir / "clonk.db"))
    connection.set_busy_timeout(30_000)
    connection.execute(f"alter table {old} rename to {new}")
    connection.close()


@contextmanager
def without_an_audit_log(data_dir: Path) -> Iterator[None]:
    """Take the table away under the server, as a broken disk would."""
    rename_table(data_dir, "audit", "audit_away")
    try:
        yield
    finally:
        rename_table(data_dir, "audit_away", "audit")


def client_of(host: TestHost, key_id: str = "a") -> InsideClient:
    connection = Connection(transport="http", peer="test", id="conn_x", address="127.0.0.1", bearer=secret_of(key_id))
    return InsideClient(host.dispatch, connection)


async def kind_of(client: InsideClient, method: str, **params: Any) -> str:
    try:
        await client.call(method, **params)
    except CallError as error:
        return error.kind
    return "ok"


async def rows(client: InsideClient, **filters: Any) -> list[Any]:
    found = await client.call("audit.query", caller="a", **filters)
    return [row for row in reversed(found) if not row["action"].startswith("audit.")]


async def test_after_a_lost_row_nothing_is_changed_until_rows_are_kept_again(
    open_guarded: OpenGuarded, tmp_path: Path
) -> None:
    marks = Marks()
    async with open_guarded(key_settings("a"), activations=[lambda: marks]) as host:
        client = client_of(host)
        await client.call("marks.put", text="before")
        with without_an_audit_log(tmp_path / "data"):
            assert await kind_of(client, "marks.put", text="first") == "unavailable"
            assert marks.set == ["before", "first"]  # found out when it was done; its success is not told
            for _ in range(3):
                assert await kind_of(client, "marks.put", text="next") == "unavailable"
                with pytest.raises(Unavailable):
                    async with client.stream("marks.stream", text="next"):
                        pass
                assert await client.call("marks.get") == ["before", "first"]
                # What needs no scope goes on: a run can be stopped.
                assert await kind_of(client, "rpc.cancel", subscription="sub_none") == "not_found"
        await client.call("marks.put", text="after")
        await client.call("marks.put", text="then")
        assert marks.set == ["before", "first", "after", "then"]
        assert (await client.call("audit.verify"))["intact"]
        kept = [(row["outcome"], row["detail"]["params"]["text"]) for row in await rows(client, action="marks.put")]
        assert kept == [("ok", "before"), ("begun", "after"), ("ok", "after"), ("ok", "then")]


async def test_where_rows_are_required_not_even_the_first_call_is_done_without_one(
    open_guarded: OpenGuarded, tmp_path: Path
) -> None:
    marks = Marks()
    settings = {"audit": {"required": True}}
    async with open_guarded(key_settings("a"), activations=[lambda: marks], settings=settings) as host:
        client = client_of(host)
        with without_an_audit_log(tmp_path / "data"):
            assert await kind_of(client, "marks.put", text="lost") == "unavailable"
            with pytest.raises(Unavailable):
                async with client.stream("marks.stream", text="lost"):
                    pass
            assert await client.call("marks.get") == []
            assert await kind_of(client, "keys.create", id="more", scopes=["*"]) == "unavailable"
        assert [key["id"] for key in await client.call("keys.list")] == ["a"]
        await client.call("marks.put", text="kept")
        assert marks.set == ["kept"]


async def test_where_rows_are_required_a_call_has_one_before_and_one_after(open_guarded: OpenGuarded) -> None:
    settings = {"audit": {"required": True}}
    async with open_guarded(key_settings("a"), activations=[Marks], settings=settings) as host:
        client = client_of(host)
        await client.call("marks.put", text="x")
        await client.call("marks.get")
        await kind_of(client, "marks.put", wrong="x")
        async with client.stream("marks.stream", text="y") as stream:
            async for _ in stream:
                pass
        found = await rows(client)
        told = [(row["action"], row["outcome"]) for row in found]
        assert told == [
            ("marks.put", "begun"),
            ("marks.put", "ok"),
            ("marks.get", "ok"),
            ("marks.put", "begun"),
            ("marks.put", "invalid_params"),
            ("marks.stream", "begun"),
            ("marks.stream", "ok"),
        ]
        for before, after in ((0, 1), (3, 4), (5, 6)):
            assert found[before]["request_id"] == found[after]["request_id"]
            assert found[before]["duration_ms"] is None


async def test_who_is_not_let_in_leaves_no_row_that_says_it_began(open_guarded: OpenGuarded) -> None:
    settings = {"audit": {"required": True}}
    keys = [key_settings("a"), key_settings("reader", ["marks:read"])]
    async with open_guarded(*keys, activations=[Marks], settings=settings) as host:
        with pytest.raises(Forbidden):
            await client_of(host, "reader").call("marks.put", text="x")
        [row] = await client_of(host).call("audit.query", caller="reader")
        assert row["outcome"] == "forbidden"


async def test_a_log_that_is_required_cannot_be_off(open_guarded: OpenGuarded) -> None:
    from clonk_core.errors import ConfigError

    with pytest.raises(ConfigError, match="required"):
        async with open_guarded(settings={"audit": {"required": True, "enabled": False}}):
            pass
