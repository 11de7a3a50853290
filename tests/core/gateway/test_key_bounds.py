"""Keys that make keys: what they make reaches no further than they do, and lives no longer."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clonk_core.client.inside import InsideClient
from clonk_core.errors import Forbidden
from clonk_core.gateway_messages import KeyRequest
from clonk_core.interfaces.door import Connection
from clonk_core.messages import LOCAL_CALLER
from clonk_core.testing.host import TestHost
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of

BOUNDS = {
    "rate_limit": "600/min",
    "burst": 60,
    "bytes_limit": "60MiB/min",
    "max_runs": 4,
    "allowed_networks": ["127.0.0.0/8", "2001:db8::/32"],
    "expires_at": "2099-01-01T00:00:00Z",
}
KEEPER = key_settings("keeper", ["keys:admin", "arbor:*"], **BOUNDS)


async def ask(host: TestHost, key_id: str, method: str, **params: Any) -> Any:
    """Call with that key."""
    connection = Connection(transport="http", peer="test", id="conn_x", address="127.0.0.1", bearer=secret_of(key_id))
    return await InsideClient(host.dispatch, connection).call(method, **params)


async def test_a_key_made_by_a_key_has_its_maker_s_bounds_where_it_names_none(open_guarded: OpenGuarded) -> None:
    async with open_guarded(KEEPER) as host:
        info = (await ask(host, "keeper", "keys.create", id="made", scopes=["arbor:read"]))["info"]
    assert {name: info[name] for name in BOUNDS} == BOUNDS


@pytest.mark.parametrize(
    "narrower",
    [
        {"rate_limit": "600/min", "burst": 60},
        {"rate_limit": "1/s"},
        {"rate_limit": "36000/h", "burst": 1},
        {"bytes_limit": "1MiB/s"},
        {"max_runs": 1},
        {"allowed_networks": ["127.0.0.1"]},
        {"allowed_networks": ["127.64.0.0/10", "2001:db8:7::/48"]},
        {"expires_at": "2098-12-31T23:59:59Z"},
        {"expires_at": "2099-01-01T01:00:00+01:00"},
    ],
)
async def test_a_key_may_make_another_with_narrower_bounds(open_guarded: OpenGuarded, narrower: dict[str, Any]) -> None:
    async with open_guarded(KEEPER) as host:
        info = (await ask(host, "keeper", "keys.create", id="made", scopes=["arbor:read"], **narrower))["info"]
    for name in narrower.keys() - {"expires_at"}:
        assert info[name] == narrower[name]
    assert info["expires_at"] <= BOUNDS["expires_at"]


@pytest.mark.parametrize(
    ("bound", "wider"),
    [
        ("rate_limit", {"rate_limit": "601/min", "burst": 1}),
        ("rate_limit", {"rate_limit": "600/min"}),  # without a burst of its own: 600 at once
        ("rate_limit", {"rate_limit": "11/s"}),
        ("bytes_limit", {"bytes_limit": "61MiB/min"}),
        ("bytes_limit", {"bytes_limit": "1GiB/day"}),  # all of it at once
        ("max_runs", {"max_runs": 5}),
        ("allowed_networks", {"allowed_networks": ["0.0.0.0/0"]}),
        ("allowed_networks", {"allowed_networks": ["::/0"]}),
        ("allowed_networks", {"allowed_networks": ["126.0.0.0/7"]}),
        ("allowed_networks", {"allowed_networks": ["127.0.0.1", "10.0.0.1"]}),
        ("allowed_networks", {"allowed_networks": ["::ffff:127.0.0.1"]}),
        ("expires_at", {"expires_at": "2099-01-01T00:00:01Z"}),
        ("expires_at", {"expires_at": "2099-01-01T00:00:00-01:00"}),
    ],
)
async def test_a_key_cannot_make_one_with_wider_bounds(
    open_guarded: OpenGuarded, bound: str, wider: dict[str, Any]
) -> None:
    async with open_guarded(KEEPER) as host:
        with pytest.raises(Forbidden) as caught:
            await ask(host, "keeper", "keys.create", id="made", scopes=["arbor:read"], **wider)
        assert caught.value.data["bound"] == bound
        assert [key.id for key in host.app.gateway.keys.list(LOCAL_CALLER)] == ["keeper"]


async def test_the_server_s_default_is_the_rate_of_a_key_that_names_none(open_guarded: OpenGuarded) -> None:
    auth = {"rate_limit": "100/min"}
    async with open_guarded(key_settings("plain"), key_settings("rated", rate_limit="200/min"), auth=auth) as host:
        with pytest.raises(Forbidden) as caught:
            await ask(host, "plain", "keys.create", id="made", scopes=["*"], rate_limit="101/min")
        assert caught.value.data["bound"] == "rate_limit"
        info = (await ask(host, "plain", "keys.create", id="made", scopes=["*"]))["info"]
        assert info["rate_limit"] is None
        await ask(host, "plain", "keys.create", id="less", scopes=["*"], rate_limit="100/min")
        await ask(host, "rated", "keys.create", id="more", scopes=["*"], rate_limit="200/min")


async def test_a_key_gets_no_wider_bounds_by_rotating_another(open_guarded: OpenGuarded) -> None:
    async with open_guarded(KEEPER) as host:
        for number, (name, wide) in enumerate((*BOUNDS.items(), (None, None))):
            if name == "burst":
                continue
            left_out = {name, "burst"} if name == "rate_limit" else {name}
            given = {other: value for other, value in BOUNDS.items() if other not in left_out}
            await host.client.call("keys.create", id=f"k{number}", scopes=["arbor:read"], **given)
            if wide is None:
                assert (await ask(host, "keeper", "keys.rotate", id=f"k{number}"))["key"]
                continue
            with pytest.raises(Forbidden) as caught:
                await ask(host, "keeper", "keys.rotate", id=f"k{number}")
            assert caught.value.data["bound"] == name
            # Taking it back gives nothing to whoever does.
            assert (await ask(host, "keeper", "keys.revoke", id=f"k{number}"))["state"] == "revoked"


async def test_the_one_at_the_machine_may_give_any_bounds(open_guarded: OpenGuarded) -> None:
    async with open_guarded(KEEPER, auth={"rate_limit": "1/min"}) as host:
        made = await host.client.call("keys.create", id="wide", scopes=["*"], rate_limit="1000/s", max_runs=999)
    assert (made["info"]["rate_limit"], made["info"]["expires_at"]) == ("1000/s", None)


# ── taking back ──────────────────────────────────────────────────────────────


async def states(host: TestHost) -> dict[str, str]:
    return {key.id: key.state for key in host.app.gateway.keys.list(LOCAL_CALLER)}


@pytest.fixture
async def family(open_guarded: OpenGuarded) -> AsyncIterator[TestHost]:
    """`root` made `child` and `other`, and `child` made `grandchild`; somebody at the machine made `else`."""
    async with open_guarded(key_settings("keeper", ["keys:admin", "arbor:*"]), key_settings("root")) as host:
        keys, secrets = host.app.gateway.keys, {"root": secret_of("root")}
        for maker, made in (("root", "child"), ("root", "other"), ("child", "grandchild")):
            connection = Connection(transport="http", peer="test", id="conn_x", bearer=secrets[maker])
            client = InsideClient(host.dispatch, connection)
            scopes = ["*"] if made == "other" else ["keys:admin", "arbor:read"]
            secrets[made] = (await client.call("keys.create", id=made, scopes=scopes))["key"]
        await keys.create(LOCAL_CALLER, KeyRequest(id="else", scopes=("arbor:read",)))
        yield host


async def test_what_a_key_has_made_is_taken_back_with_it_where_that_is_wanted(family: TestHost) -> None:
    await family.client.call("keys.create", id="later", scopes=["arbor:read"])
    await ask(family, "root", "keys.revoke", id="child", made_too=True)
    found = await states(family)
    assert {key_id for key_id, state in found.items() if state == "revoked"} == {"child", "grandchild"}
    rows = await family.client.call("audit.query", action="keys.revoke", kind="key")
    assert [(row["target"], row["detail"]) for row in rows] == [
        ("grandchild", {"made_with": "child"}),
        ("child", {}),
    ]


async def test_what_a_key_has_made_stays_good_otherwise(family: TestHost) -> None:
    await ask(family, "root", "keys.revoke", id="child")
    assert {key_id for key_id, state in (await states(family)).items() if state == "revoked"} == {"child"}
    # Later on, too.
    await ask(family, "root", "keys.revoke", id="child", made_too=True)
    found = await states(family)
    assert {key_id for key_id, state in found.items() if state == "revoked"} == {"child", "grandchild"}


async def test_nothing_is_taken_back_when_one_of_them_may_do_more_than_the_caller(family: TestHost) -> None:
    before = await states(family)
    with pytest.raises(Forbidden):
        await ask(family, "keeper", "keys.revoke", id="other", made_too=True)
    assert await states(family) == before


# ── sessions that are shared ─────────────────────────────────────────────────


async def test_a_token_for_a_shared_session_is_within_the_bounds_of_the_key_that_shares_it(
    open_guarded: OpenGuarded, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    team = key_settings("team", ["claudecode:*@ci-*"], max_runs=2, allowed_networks=["127.0.0.0/8"])
    brief = key_settings("brief", ["claudecode:*@ci-*"], expires_at=datetime.now(UTC) + timedelta(hours=1))
    settings = {"workspaces": {"roots": [str(tmp_path / "work")]}}
    async with open_guarded(team, brief, packages=["claudecode"], settings=settings) as host:
        await ask(host, "team", "claudecode.create", name="ci-1", working_dir=str(tmp_path / "work"))
        share = await ask(host, "team", "claudecode.share", name="ci-1", access="chat")
        info = host.app.gateway.keys.get(LOCAL_CALLER, share["id"])
        assert info.scopes == ("claudecode:chat@ci-1", "claudecode:read@ci-1")
        assert (info.max_runs, info.allowed_networks, info.created_by) == (2, ("127.0.0.0/8",), "team")
        assert (await ask(host, "brief", "claudecode.share", name="ci-1", expires_in_s=600))["token"]
        with pytest.raises(Forbidden) as caught:
            await ask(host, "brief", "claudecode.share", name="ci-1", expires_in_s=7200)
        assert caught.value.data["bound"] == "expires_at"
