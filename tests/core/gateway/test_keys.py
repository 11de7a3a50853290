"""API keys: made, presented, changed and taken back."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.errors import CallError, Conflict, Forbidden, InvalidParams, NotFound, RateLimited, Unauthenticated
from clonk_core.gateway.key_store import KeyStore
from clonk_core.gateway.keys import EMPTY_HASH, ApiKey, KeyRing, hash_of, new_secret, parsed_address
from clonk_core.gateway.office import KeyOffice
from clonk_core.gateway_messages import KeyRequest
from clonk_core.interfaces.door import Connection
from clonk_core.messages import LOCAL_CALLER, Caller, Reply, Request
from clonk_core.storage.core_tables import open_core_database
from clonk_core.testing.host import TestHost
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of


def connection(secret: str | None, transport: Any = "http", address: str = "192.0.2.1") -> Connection:
    return Connection(
        transport=transport, peer=f"{address}:5", id=f"conn_{time.monotonic_ns()}", bearer=secret, address=address
    )


async def whoami(host: TestHost, secret: str | None, **options: Any) -> bytes:
    answer = await host.dispatch(Request(method="auth.whoami", id=1, size=50), connection(secret, **options))
    assert isinstance(answer, Reply)
    return answer.result


async def refused(host: TestHost, secret: str | None, **options: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await whoami(host, secret, **options)
    return caught.value


def test_a_new_key_has_256_bits_and_bears_its_id() -> None:
    keys = {new_secret("ci") for _ in range(1000)}
    assert len(keys) == 1000
    for key in keys:
        prefix, _, secret = key.partition("clonk_ci_")
        assert prefix == ""
        assert len(secret) == 43


async def test_a_key_of_the_configuration_lets_in(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("ci", ["arbor:read"])) as host:
        assert b'"caller":"ci","kind":"key"' in await whoami(host, secret_of("ci"))
        for wrong in (secret_of("ci") + "x", secret_of("ci")[:-1], secret_of("CI"), "ci", "x", " ", "\udc80"):
            assert isinstance(await refused(host, wrong), Unauthenticated)


async def test_the_placeholders_of_the_specification_let_nobody_in(open_guarded: OpenGuarded) -> None:
    entries = [
        {"id": "default", "secret_hash": f"sha256:{EMPTY_HASH}", "scopes": ["*"]},
        {"id": "other", "secret_hash": "sha256:...", "scopes": ["*"]},
    ]
    async with open_guarded(*entries) as host:
        for secret in ("", "...", "sha256:...", EMPTY_HASH, f"sha256:{EMPTY_HASH}"):
            assert isinstance(await refused(host, secret or None), Unauthenticated)
        assert [key.state for key in host.app.gateway.keys.list(LOCAL_CALLER)] == ["placeholder", "placeholder"]
        assert not host.app.gateway.keys.lets_anyone_in
        assert isinstance(await refused(host, ""), Unauthenticated)


async def test_a_hash_is_no_key(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("ci")) as host:
        assert isinstance(await refused(host, hash_of(secret_of("ci"))), Unauthenticated)


async def test_a_key_is_made_shown_once_and_taken_back(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("root")) as host:
        made = await host.client.call("keys.create", id="ci", scopes=["arbor:read"], description="for CI")
        assert made["key"].startswith("clonk_ci_")
        assert made["info"]["state"] == "good"
        assert b'"caller":"ci"' in await whoami(host, made["key"])
        assert [key["id"] for key in await host.client.call("keys.list")] == ["ci", "root"]
        shown = await host.client.call("keys.show", id="ci")
        assert (shown["created_by"], shown["description"]) == ("local", "for CI")
        assert made["key"] not in str(shown)
        assert (await host.client.call("keys.revoke", id="ci"))["state"] == "revoked"
        assert isinstance(await refused(host, made["key"]), Unauthenticated)
        assert (await host.client.call("keys.revoke", id="ci"))["state"] == "revoked"
        with pytest.raises(Conflict):
            await host.client.call("keys.create", id="ci", scopes=["arbor:read"])
        with pytest.raises(Conflict):
            await host.client.call("keys.rotate", id="ci")


async def test_no_secret_is_kept_or_logged(open_guarded: OpenGuarded, tmp_path: Path) -> None:
    async with open_guarded(key_settings("root")) as host:
        made = (await host.client.call("keys.create", id="ci", scopes=["*"]))["key"]
        rotated = (await host.client.call("keys.rotate", id="ci"))["key"]
        await whoami(host, rotated)
        await refused(host, rotated + "y")
        log = host.log_text
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("clonk.db*"))
    for secret in (made, rotated, secret_of("root")):
        tail = secret.rpartition("_")[2]
        assert secret not in log
        assert tail not in log
        assert secret.encode() not in stored
        assert tail.encode() not in stored


async def test_rotation_keeps_the_old_secret_for_the_time_chosen(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    async with open_core_database(tmp_path) as database:
        ring = KeyRing([], lambda: now)
        office = KeyOffice(KeyStore(database), ring, None, lambda: now)
        _, first = await office.create(LOCAL_CALLER, KeyRequest(id="a", scopes=("*",)))
        info, second = await office.rotate(LOCAL_CALLER, "a", 60)
        assert info.previous_until == datetime.fromtimestamp(now + 60, UTC)
        assert ring.find(first)
        assert ring.find(second)
        now += 59
        assert ring.find(first)
        now += 1
        assert not ring.find(first)
        assert ring.find(second)
        _, third = await office.rotate(LOCAL_CALLER, "a", 60)
        _, fourth = await office.rotate(LOCAL_CALLER, "a", 0)
        assert not ring.find(second)
        assert not ring.find(third)
        assert ring.find(fourth)


async def test_a_clock_that_jumps_back_lets_no_expired_key_stay_forgotten(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    key = ApiKey(
        id="a", hashes=(hash_of("s"),), scopes=frozenset("*"), expires_at=datetime.fromtimestamp(now + 10, UTC)
    )
    ring = KeyRing([key], lambda: now)
    found = ring.find("s")
    assert found is not None
    assert found.good_until == now + 10
    now += 11
    assert not ring.find("s")
    assert not ring.lets_anyone_in
    now -= 5  # the clock was set: the key is judged by the time that it is
    assert ring.find("s")


async def test_a_key_works_only_from_its_networks(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a", allowed_networks=["10.0.0.0/8", "2001:db8::/32"])) as host:
        for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"):
            await whoami(host, secret_of("a"), address=address)
        for address in ("11.0.0.1", "::1", "2001:db9::1", "", "nonsense"):
            error = await refused(host, secret_of("a"), address=address)
            assert isinstance(error, Forbidden)


def test_addresses_are_read_with_their_clothes_off() -> None:
    assert str(parsed_address("::ffff:1.2.3.4")) == "1.2.3.4"
    assert str(parsed_address("fe80::1%eth0")) == "fe80::1"
    assert parsed_address("x") is None


async def test_whoever_keeps_keys_becomes_no_more_by_it(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("root")) as host:
        keeper = Caller(id="keeper", kind="key", scopes=frozenset({"keys:admin", "arbor:*"}))
        keys = host.app.gateway.keys
        for scopes in (("*",), ("claudecode:chat",), ("arbor:read", "gitsync:*"), ("*@x",)):
            with pytest.raises(Forbidden):
                await keys.create(keeper, KeyRequest(id="more", scopes=scopes))
        with pytest.raises(Forbidden):
            await keys.create(keeper, KeyRequest(id="there", scopes=("arbor:read",), tenant="other"))
        await keys.create(keeper, KeyRequest(id="less", scopes=("arbor:read", "arbor:read@x*")))
        await keys.create(LOCAL_CALLER, KeyRequest(id="strong", scopes=("*",)))
        with pytest.raises(Forbidden):
            await keys.rotate(keeper, "strong", 0)
        with pytest.raises(Forbidden):
            await keys.revoke(keeper, "strong")
        elsewhere = Caller(id="e", kind="key", tenant="other", scopes=frozenset({"*"}))
        assert list(keys.list(elsewhere)) == []
        with pytest.raises(NotFound):
            await keys.revoke(elsewhere, "strong")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"id": "local"}, "$.id"),
        ({"id": "a b"}, "$.id"),
        ({"id": ""}, "$.id"),
        ({"id": "x" * 65}, "$.id"),
        ({"scopes": ["Arbor:read"]}, "$.scopes"),
        ({"scopes": []}, "$.scopes"),
        ({"rate_limit": "fast"}, "$.rate_limit"),
        ({"allowed_networks": ["10.0.0.0/99"]}, "$.allowed_networks"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "$.expires_at"),
        ({"burst": 0}, "$.burst"),
    ],
)
async def test_words_against_the_rules_are_refused_with_their_place(
    open_guarded: OpenGuarded, change: dict[str, Any], path: str
) -> None:
    async with open_guarded(key_settings("root")) as host:
        with pytest.raises(InvalidParams) as caught:
            await host.client.call("keys.create", **{"id": "new", "scopes": ["*"], **change})
        assert caught.value.path.startswith(path)
        assert len(await host.client.call("keys.list")) == 1


async def test_keys_of_the_configuration_are_changed_there(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("fixed")) as host:
        for method in ("keys.revoke", "keys.rotate"):
            with pytest.raises(Conflict):
                await host.client.call(method, id="fixed")
            with pytest.raises(NotFound):
                await host.client.call(method, id="nobody")


async def test_of_two_makers_at_once_one_gets_the_id(open_guarded: OpenGuarded) -> None:
    outcomes: list[str] = []

    async def make(host: TestHost) -> None:
        try:
            await host.client.call("keys.create", id="same", scopes=["arbor:read"])
            outcomes.append("made")
        except Conflict:
            outcomes.append("conflict")

    async with open_guarded(key_settings("root")) as host, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(make, host)
    assert sorted(outcomes) == ["conflict"] * 4 + ["made"]


async def test_a_key_made_by_another_process_is_found_and_one_taken_back_is_not(
    open_guarded: OpenGuarded, tmp_path: Path
) -> None:
    async with open_guarded(key_settings("root")) as host, open_core_database(tmp_path / "data") as database:
        other = KeyOffice(KeyStore(database), KeyRing([], time.time), None, time.time)
        _, secret = await other.create(LOCAL_CALLER, KeyRequest(id="late", scopes=("arbor:read",)))
        with trio.fail_after(10):
            while isinstance(await outcome(host, secret), Unauthenticated):
                await trio.sleep(0.02)
        await other.revoke(LOCAL_CALLER, "late")
        with trio.fail_after(10):
            while not isinstance(await outcome(host, secret), Unauthenticated):
                await trio.sleep(0.02)


async def outcome(host: TestHost, secret: str) -> CallError | bytes:
    try:
        return await whoami(host, secret)
    except CallError as error:
        return error


async def test_a_limit_of_calls_is_kept_and_told(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a", rate_limit="3/h"), key_settings("b")) as host:
        link = connection(secret_of("a"))
        for left in (2, 1, 0):
            await host.dispatch(Request(method="auth.whoami", id=1), link)
            assert link.quota is not None
            assert (link.quota.limit, link.quota.remaining) == (3, left)
        with pytest.raises(RateLimited) as caught:
            await host.dispatch(Request(method="auth.whoami", id=1), link)
        assert 1000 < caught.value.data["retry_after_s"] <= 1200
        assert isinstance(await refused(host, secret_of("a")), RateLimited)
        await whoami(host, secret_of("b"))


async def test_a_limit_of_bytes_is_kept(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a", bytes_limit="1KiB/h")) as host:
        link = connection(secret_of("a"))
        await host.dispatch(Request(method="auth.whoami", id=1, size=2000), link)
        with pytest.raises(RateLimited) as caught:
            await host.dispatch(Request(method="auth.whoami", id=1, size=1), link)
        assert caught.value.data["limit_of"] == "bytes"


async def test_a_tenant_s_limit_holds_for_all_its_keys_together(open_guarded: OpenGuarded) -> None:
    auth = {"tenant_limits": [{"tenant": "default", "rate_limit": "4/h"}]}
    async with open_guarded(key_settings("a"), key_settings("b", rate_limit="3/h"), auth=auth) as host:
        await whoami(host, secret_of("a"))
        await whoami(host, secret_of("a"))
        await whoami(host, secret_of("b"))
        await whoami(host, secret_of("b"))
        for key in ("a", "b"):
            assert isinstance(await refused(host, secret_of(key)), RateLimited)


async def test_strangers_have_a_limit_for_each_address(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a"), auth={"stranger_limit": "2/h"}) as host:
        assert isinstance(await refused(host, None), Unauthenticated)
        assert isinstance(await refused(host, "wrong"), Unauthenticated)
        assert isinstance(await refused(host, None), RateLimited)
        assert isinstance(await refused(host, "wrong"), RateLimited)
        assert isinstance(await refused(host, None, address="192.0.2.2"), Unauthenticated)
        # Whoever has a good key is served, also from an address that others have used up.
        await whoami(host, secret_of("a"))
        assert isinstance(await refused(host, "wrong", address="2001:db8::1"), Unauthenticated)
        assert isinstance(await refused(host, "wrong", address="2001:db8::2"), Unauthenticated)
        assert isinstance(await refused(host, "wrong", address="2001:db8::3"), RateLimited)


@pytest.mark.alone
async def test_wrong_keys_are_answered_later_and_later(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("a"), auth={"max_failure_delay_s": 0.4}) as host:
        took = []
        for _ in range(7):
            began = trio.current_time()
            await refused(host, "wrong")
            took.append(trio.current_time() - began)
        assert min(took[3:]) >= 0.1
        assert took[5] >= 0.4
        began = trio.current_time()
        await whoami(host, secret_of("a"))
        assert trio.current_time() - began < took[5]


async def test_ten_thousand_keys_are_looked_up_like_one() -> None:
    keys = [ApiKey(id=f"k{n}", hashes=(hash_of(f"s{n}"),), scopes=frozenset("*")) for n in range(10_000)]
    ring = KeyRing(keys, time.time)
    found = ring.find("s9999")
    assert found is not None
    assert found.key.id == "k9999"
    assert ring.find("s10000") is None


async def test_keys_survive_a_restart(open_guarded: OpenGuarded) -> None:
    async with open_guarded(key_settings("root")) as host:
        secret = (await host.client.call("keys.create", id="ci", scopes=["*"], rate_limit="5/s", max_runs=2))["key"]
    async with open_guarded(key_settings("root")) as host:
        assert b'"caller":"ci"' in await whoami(host, secret)
        shown = await host.client.call("keys.show", id="ci")
        assert (shown["rate_limit"], shown["max_runs"]) == ("5/s", 2)


def test_a_key_that_is_rotated_and_expires_is_good_until_the_first_of_both() -> None:
    now = datetime.now(UTC)
    key = ApiKey(
        id="a",
        hashes=("new", "old"),
        scopes=frozenset("*"),
        expires_at=now + timedelta(seconds=50),
        previous_until=now + timedelta(seconds=10),
    )
    assert key.good_until("new") == key.expires_at.timestamp()  # type: ignore[union-attr]
    assert key.good_until("old") == key.previous_until.timestamp()  # type: ignore[union-attr]
