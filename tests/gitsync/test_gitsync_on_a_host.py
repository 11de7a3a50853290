"""Gitsync as callers see it: through the whole gateway of a real host."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clonk_core.client.inside import InsideClient
from clonk_core.interfaces.door import Connection
from clonk_core.plugin import CallError
from clonk_core.testing.contract import check_activation
from clonk_core.testing.host import TestHost, open_host
from clonk_gitsync.activation import GitSync
from tests.core.gateway.guarded import key_settings, secret_of

REMOTE = "git@github.com:org/repo.git"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "root"
    (root / "a").mkdir(parents=True)
    return root


@pytest.fixture
async def host(tmp_path: Path, root: Path) -> AsyncIterator[TestHost]:
    settings = {"workspaces": {"roots": [str(root)]}}
    async with open_host(tmp_path / "host", packages=["gitsync"], settings=settings) as opened:
        yield opened


async def test_a_folder_is_registered_listed_and_forgotten(host: TestHost, root: Path) -> None:
    config = await host.client.call("gitsync.register", str(root / "a"), REMOTE, "main")
    assert config == {
        "path": str(root / "a"), "remote": REMOTE, "branch": "main", "auto_commit": False, "auto_push": False,
        "base": None, "protect": [], "source": "registered",
    }  # fmt: skip
    assert await host.client.call("gitsync.list") == [config]
    assert await host.client.call("gitsync.unregister", path=str(root / "a")) is True
    assert await host.client.call("gitsync.list") == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"path": "/"}, "invalid_params"),
        ({"path": "missing"}, "invalid_params"),
        ({"branch": "other"}, "gitsync.already_registered"),
        ({"branch": "a b"}, "invalid_params"),
        ({"remote": "ext::sh -c id"}, "invalid_params"),
    ],
)
async def test_refusals_bear_a_kind_to_act_on(host: TestHost, root: Path, change: dict[str, Any], kind: str) -> None:
    params = {"path": "a", "remote": REMOTE, "branch": "main"}
    await host.client.call("gitsync.register", **{**params, "path": str(root / "a")})
    params |= change
    with pytest.raises(CallError) as caught:
        await host.client.call("gitsync.register", **{**params, "path": str(root / params["path"])})
    assert caught.value.kind == kind


async def test_the_list_needs_the_scope_read(host: TestHost) -> None:
    schemas = await host.client.call("hub.schema", "gitsync.list")
    assert [one["scope"] for one in schemas["methods"]] == ["gitsync:read"]


async def test_gitsync_keeps_the_contract_of_every_activation(tmp_path: Path) -> None:
    roots = {"workspaces": {"roots": [str(tmp_path)]}}
    folder = {"path": str(tmp_path), "remote": REMOTE, "branch": "main"}
    examples: dict[str, dict[str, Any]] = {
        "gitsync.register": folder,
        "gitsync.list": {"limit": 1},
        "gitsync.unregister": {"path": str(tmp_path)},
    }
    await check_activation(GitSync, tmp_path, examples, settings=roots)


def client_of(host: TestHost, key_id: str) -> InsideClient:
    connection = Connection(transport="http", peer="test", id="conn_x", address="127.0.0.1", bearer=secret_of(key_id))
    return InsideClient(host.dispatch, connection)


async def test_a_narrowed_key_reaches_the_folders_that_fit_alone(tmp_path: Path, root: Path) -> None:
    (root / "b").mkdir()
    scopes = [f"gitsync:*@{root}/a*"]
    keys = [key_settings("root"), key_settings("narrow", scopes), key_settings("reader", ["gitsync:read"])]
    settings = {"workspaces": {"roots": [str(root)]}, "auth": {"api_keys": keys}}
    async with open_host(tmp_path / "guarded", packages=["gitsync"], settings=settings) as host:
        everything, narrow, reader = (client_of(host, name) for name in ("root", "narrow", "reader"))
        for name in ("a", "b"):
            await everything.call("gitsync.register", path=str(root / name), remote=REMOTE, branch="main")
        for method, more in (
            ("get", {}), ("status", {}), ("diff", {}), ("log", {}), ("commit", {"message": "x"}), ("push", {}),
            ("pull", {}), ("create_branch", {"name": "x"}), ("sync", {}), ("update", {"branch": "x"}), ("get_pr", {}),
            ("list_prs", {}), ("create_pr", {"title": "x", "body": ""}),
        ):  # fmt: skip
            with pytest.raises(CallError) as caught:
                await narrow.call(f"gitsync.{method}", path=str(root / "a" / ".." / "b"), **more)
            assert caught.value.kind == "forbidden", method
        assert (await narrow.call("gitsync.status", path=str(root / "a")))["status"] == "missing"
        async with narrow.stream("gitsync.sync_all") as stream:
            told = [event for _seq, event in [one async for one in stream] if event["type"] == "workspace"]
        assert [one["path"] for one in told] == [str(root / "a")]
        with pytest.raises(CallError) as caught:
            async with narrow.stream("gitsync.clone", remote=REMOTE) as stream:
                pass
        assert caught.value.kind == "forbidden"
        for method, more in (
            ("sync", {}), ("push", {}), ("pull", {}), ("unregister", {}), ("create_pr", {"title": "x", "body": ""}),
        ):  # fmt: skip
            with pytest.raises(CallError) as caught:
                await reader.call(f"gitsync.{method}", path=str(root / "a"), **more)
            assert (caught.value.kind, caught.value.data["scope"]) == ("forbidden", f"gitsync:{method}")
        assert (await reader.call("gitsync.status", path=str(root / "a")))["status"] == "missing"
