"""Whose a workspace is, where a clone goes by itself, and databases of earlier versions."""

import hashlib
from pathlib import Path
from typing import Any

import apsw
import pytest

from clonk_core.client.inside import InsideClient
from clonk_core.interfaces.door import Connection
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost, open_host
from tests.core.gateway.guarded import key_settings, secret_of
from tests.gitsync.conftest import Place, git

MIGRATIONS = Path(__file__).parents[2] / "clonk_gitsync/src/clonk_gitsync/migrations"

CALLS: dict[str, dict[str, Any]] = {
    "list": {}, "get": {"path": ...}, "status": {"path": ...}, "diff": {"path": ...}, "log": {"path": ...},
    "commit": {"path": ..., "message": "x"}, "push": {"path": ...}, "pull": {"path": ...}, "sync": {"path": ...},
    "create_branch": {"path": ..., "name": "x"}, "unregister": {"path": ...}, "update": {"path": ..., "branch": "x"},
    "get_pr": {"path": ...}, "list_prs": {"path": ...}, "create_pr": {"path": ..., "title": "x", "body": ""},
}  # fmt: skip
"""Every plain method that is about a workspace."""


def client_of(host: TestHost, key_id: str) -> InsideClient:
    connection = Connection(transport="http", peer="test", id="conn_x", address="127.0.0.1", bearer=secret_of(key_id))
    return InsideClient(host.dispatch, connection)


async def test_a_key_of_another_tenant_sees_and_moves_nothing(place: Place, tmp_path: Path) -> None:
    keys = [key_settings("ours"), key_settings("theirs", tenant="other")]
    settings = {**place.settings(), "auth": {"api_keys": keys}}
    path = str(place.work)
    async with open_host(tmp_path / "host", packages=["gitsync"], settings=settings) as host:
        ours, theirs = client_of(host, "ours"), client_of(host, "theirs")
        known = await ours.call("gitsync.register", path=path, remote=place.remote, branch="main")
        (place.work / "a.txt").write_text("changed\n")
        offered = {one["name"] for one in (await ours.call("hub.schema", "gitsync"))["methods"]}
        streaming = {"gitsync.sync_all", "gitsync.clone"}
        assert offered == {f"gitsync.{name}" for name in CALLS} | streaming | {"gitsync.register"}
        for name, params in CALLS.items():
            with pytest.raises(CallError) as caught:
                await theirs.call(
                    f"gitsync.{name}", **{key: path if one is ... else one for key, one in params.items()}
                )
            assert caught.value.kind == "not_found", name
            assert path not in caught.value.message, name
        for name, params in (("sync_all", {}), ("clone", {"remote": place.remote})):
            with pytest.raises(CallError):
                await theirs.events(f"gitsync.{name}", **params)
        assert await ours.call("gitsync.list") == [known]
        assert (await ours.call("gitsync.sync", path=path))["status"] == "pushed"
    assert set(place.refs()) == {"refs/heads/main", "refs/heads/claude/work"}


async def test_two_hosts_in_one_process_know_nothing_of_each_other(place: Place, tmp_path: Path) -> None:
    """As two tenants' worlds do: each has its own workspaces, also for one folder."""
    path = str(place.work)
    async with (
        open_host(tmp_path / "one", packages=["gitsync"], settings=place.settings()) as one,
        open_host(tmp_path / "two", packages=["gitsync"], settings=place.settings()) as two,
    ):
        await one.client.call("gitsync.register", path=path, remote=place.remote, branch="main")
        assert await two.client.call("gitsync.list") == []
        with pytest.raises(CallError) as caught:
            await two.client.call("gitsync.sync", path=path)
        assert caught.value.kind == "gitsync.not_registered"


async def test_a_clone_goes_to_the_workspaces_of_the_data_directory_when_no_path_is_said(
    place: Place, tmp_path: Path
) -> None:
    settings = place.settings()
    del settings["workspaces"]
    async with open_host(tmp_path / "host", packages=["gitsync"], settings=settings) as host:
        target = tmp_path.resolve() / "host" / "workspaces" / "repo"
        events = await host.client.events("gitsync.clone", remote=place.remote)
        (cloned,) = (event for event in events if event["type"] == "cloned")
        assert (cloned["workspace"]["path"], cloned["workspace"]["source"]) == (str(target), "cloned")
        assert any(event["type"] == "progress" for event in events)
        (target / "a.txt").write_text("changed\n")
        assert (await host.client.call("gitsync.sync", path=str(target)))["branch"] == "claude/repo"
        # A second one of that name has to say where.
        with pytest.raises(CallError) as caught:
            await host.client.events("gitsync.clone", remote=place.remote)
        assert caught.value.kind == "gitsync.already_registered"
        await host.client.call("gitsync.unregister", path=str(target))
        done = (await host.client.events("gitsync.clone", remote=place.remote))[-1]
        assert done["error"]["data"]["kind"] == "conflict"
    assert git(target, "show", "HEAD:a.txt") == "changed", "what was there stays"


async def test_a_database_of_the_first_version_opens_and_its_workspaces_are_synced(
    place: Place, tmp_path: Path
) -> None:
    first = MIGRATIONS / "0001_workspaces.sql"
    (tmp_path / "host").mkdir()
    connection = apsw.Connection(str(tmp_path / "host" / "gitsync.db"))
    connection.execute(first.read_text())
    connection.execute(
        "create table schema_migrations (package text not null, number bigint not null, name text not null,"
        " checksum text not null, applied_at text not null, primary key (package, number))"
    )
    connection.execute(
        "insert into schema_migrations values ('clonk_gitsync.migrations', 1, '0001_workspaces.sql', ?, '')",
        (hashlib.sha256(first.read_bytes()).hexdigest(),),
    )
    rows = [
        (str(place.work), place.remote, "main", 1, 0),
        (str(place.root / "gone"), "git@github.com:org/repo.git", "feature/x", 0, 1),
    ]
    for row in rows:
        connection.execute("insert into workspaces values (?, ?, ?, ?, ?, '2025-01-16T12:00:00Z')", row)
    connection.close()
    async with open_host(tmp_path / "host", packages=["gitsync"], settings=place.settings()) as host:
        listed = await host.client.call("gitsync.list")
        assert sorted(
            (one["path"], one["remote"], one["branch"], int(one["auto_commit"]), int(one["auto_push"]))
            for one in listed
        ) == sorted(rows)
        assert {(one["base"], tuple(one["protect"]), one["source"]) for one in listed} == {(None, (), "registered")}
        (place.work / "a.txt").write_text("changed\n")
        assert (await host.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"
        changed = await host.client.call("gitsync.update", path=str(place.work), base="develop", protect=["qa/*"])
        assert (changed["base"], changed["protect"]) == ("develop", ["qa/*"])
