"""Secrets at rest: kept, tampered with, read with the wrong key, rotated beside others, cut off at every point."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from clonk_core.errors import ConfigError, StorageError
from clonk_core.interfaces.storage import Database, Transaction
from clonk_core.storage.core_tables import open_core_database
from clonk_core.storage.open_secrets import finish_rotation, look_at_secrets, open_secrets
from clonk_core.storage.secret_key import KEY_FILE, NEXT_KEY_FILE, SecretKey, choose_key_source
from clonk_core.storage.secrets import MAX_VALUE_BYTES, SecretStore

MakeKeyFile = Callable[..., SecretKey]
own = partial(choose_key_source, key_file=None, key_command=())

CHILD = """
import os, sys, trio
from pathlib import Path
from clonk_core.storage import secret_key, secrets
from clonk_core.storage.open_secrets import open_secrets

folder, what = Path(sys.argv[1]), sys.argv[2]
calls = 0

def die(*_arguments):
    os._exit(9)

def die_at_second(function):
    def called(*arguments):
        global calls
        calls += 1
        return function(*arguments) if calls == 1 else die()
    return called

def then_die(function):
    def called(*arguments):
        function(*arguments)
        die()
    return called

if what == "the new key is half written":
    os.fsync = die
elif what == "the new key is written beside its place":
    Path.rename = die
elif what == "the first secret is encrypted anew":
    secrets._encrypted = then_die(secrets._encrypted)
elif what == "everything is ready to be committed":
    secrets._rotate = then_die(secrets._rotate)
elif what == "it is committed":
    secrets._settle = die
elif what == "the new key is about to take the old one's place":
    Path.replace = die
elif what == "the new key has taken the old one's place":
    secret_key._sync_folder = die_at_second(secret_key._sync_folder)

async def main():
    keys = secret_key.choose_key_source(key_file=None, key_command=(), data_dir=folder)
    async with open_secrets(folder, keys) as (store, _):
        print("ready", flush=True)
        sys.stdin.readline()
        if what == "set":
            for number in range(10):
                await store.set("default", f"{sys.argv[3]}{number}", f"value-{sys.argv[3]}-{number}")
        elif what == "rotate often":
            for number in range(10):
                await store.rotate()
        else:
            await store.rotate()

trio.run(main)
"""

CRASHES = [
    "the new key is half written",
    "the new key is written beside its place",
    "the first secret is encrypted anew",
    "everything is ready to be committed",
    "it is committed",
    "the new key is about to take the old one's place",
    "the new key has taken the old one's place",
]


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> int:
    process.communicate("go\n", timeout=50)
    return process.returncode


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SecretStore]:
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (store, _):
        yield store


async def _change(folder: Path, sql: str, **bindings: object) -> None:
    def change(transaction: Transaction) -> None:
        transaction.execute(sql, bindings)

    async with open_core_database(folder) as database:
        await database.run(change)


async def test_a_secret_comes_back_until_it_is_replaced_or_deleted(store: SecretStore, tmp_path: Path) -> None:
    assert await store.get("default", "token") is None
    await store.set("default", "token", "first, with ümlaut\nand a line")
    assert await store.get("default", "token") == "first, with ümlaut\nand a line"
    await store.set("default", "token", "second")
    assert await store.get("default", "token") == "second"
    assert await store.delete("default", "token")
    assert not await store.delete("default", "token")
    assert await store.get("default", "token") is None
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


async def test_what_is_listed_has_no_values_and_tenants_are_apart(store: SecretStore) -> None:
    await store.set("default", "b", "value-of-b")
    await store.set("default", "a", "value-of-a")
    await store.set("other", "b", "value-of-others")
    found = await store.list("default")
    assert [entry.name for entry in found] == ["a", "b"]
    assert found[0].key_id == found[1].key_id
    assert found[0].created_at == found[0].updated_at
    assert "value" not in repr(found)
    assert await store.get("other", "b") == "value-of-others"
    assert await store.get("third", "b") is None


@pytest.mark.parametrize("name", ["", "1a", "a b", "a" * 65, "ä", "a.b", "a\n", "../a", "a\0"])
async def test_names_are_letters_digits_and_two_signs(store: SecretStore, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a secret"):
        await store.set("default", name, "value")


@pytest.mark.parametrize("value", ["", "x" * (MAX_VALUE_BYTES + 1), "ä" * (MAX_VALUE_BYTES // 2 + 1), "s3cret\0"])
async def test_a_value_has_1_byte_to_64_kib_of_text(store: SecretStore, value: str) -> None:
    with pytest.raises(ValueError, match="'name'") as caught:
        await store.set("default", "name", value)
    assert value[:6] not in str(caught.value) or not value
    await store.set("default", "name", "x" * MAX_VALUE_BYTES)
    assert await store.get("default", "name") == "x" * MAX_VALUE_BYTES


async def test_no_value_and_no_key_is_in_the_files_of_the_database(store: SecretStore, tmp_path: Path) -> None:
    await store.set("default", "token", "a-value-to-look-for")
    await store.rotate()
    key = (tmp_path / KEY_FILE).read_bytes().strip()
    (material,) = [one.material for one in await own(data_dir=tmp_path).load()]
    for path in tmp_path.glob("clonk.db*"):
        content = path.read_bytes()
        assert b"a-value-to-look-for" not in content
        assert key not in content
        assert material not in content


async def test_the_same_value_is_never_encrypted_the_same_way(store: SecretStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        await store.set("default", name, "the same")
    async with open_core_database(tmp_path) as database:
        rows = await database.read(lambda t: t.all("select nonce, ciphertext from secrets"))
    assert len({nonce for nonce, _ in rows}) == len({ciphertext for _, ciphertext in rows}) == 2


# ── tampering ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "sql",
    [
        "update secrets set ciphertext = cast(substr(ciphertext, 1, length(ciphertext) - 1) || x'00' as blob)",
        "update secrets set ciphertext = x'00' || substr(ciphertext, 2)",
        "update secrets set ciphertext = x''",
        "update secrets set ciphertext = 'text'",
        "update secrets set nonce = zeroblob(12)",
        "update secrets set nonce = x'00'",
        "update secrets set nonce = 5",
        "update secrets set name = 'moved' where name = 'b'",
        "update secrets set tenant = 'moved' where name = 'b'",
        "update secrets set (nonce, ciphertext) = (select nonce, ciphertext from secrets where name = 'a')",
    ],
)
async def test_a_row_that_was_changed_is_an_error_that_names_the_secret(
    store: SecretStore, tmp_path: Path, sql: str
) -> None:
    await store.set("default", "a", "value-of-a")
    await store.set("default", "b", "value-of-b")
    await _change(tmp_path, sql)
    tenant, name = ("moved" if "tenant" in sql else "default"), ("moved" if "name = 'moved'" in sql else "b")
    with pytest.raises(StorageError, match=f"'{name}' was changed") as caught:
        await store.get(tenant, name)
    assert "value" not in str(caught.value)
    with pytest.raises(StorageError, match="was changed"):
        await store.rotate()
    assert not (tmp_path / NEXT_KEY_FILE).exists()  # nothing is under it, and nothing stands in the way of the others
    if " where " in sql:
        assert await store.get("default", "a") == "value-of-a"
    await store.delete(tenant, name)
    await store.set(tenant, name, "again")
    assert await store.get(tenant, name) == "again"


# ── keys ─────────────────────────────────────────────────────────────────────


async def test_a_wrong_key_is_an_error_that_names_the_secret_and_both_places(
    tmp_path: Path, make_key_file: MakeKeyFile
) -> None:
    make_key_file(tmp_path / "one")
    make_key_file(tmp_path / "two")
    keys = [choose_key_source(key_file=tmp_path / name, key_command=(), data_dir=tmp_path) for name in ("one", "two")]
    async with open_secrets(tmp_path, keys[0]) as (store, _):
        await store.set("default", "token", "value")
    async with open_secrets(tmp_path, keys[1]) as (store, _):
        for attempt in (store.get("default", "token"), store.set("default", "other", "value"), store.rotate()):
            with pytest.raises(ConfigError, match=r"'token' .* secrets\.key_file") as caught:
                await attempt
            assert "value" not in str(caught.value)
        assert [entry.name for entry in await store.list("default")] == ["token"]
        assert await store.delete("default", "token")
        await store.set("default", "other", "value")  # nothing is under the old key any more
        assert await store.get("default", "other") == "value"


async def test_a_key_that_was_lost_is_not_replaced_silently(store: SecretStore, tmp_path: Path) -> None:
    await store.set("default", "token", "value")
    (tmp_path / KEY_FILE).unlink()
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (fresh, _):
        for attempt in (fresh.get("default", "token"), fresh.set("default", "other", "value"), fresh.rotate()):
            with pytest.raises(ConfigError, match="'token'"):
                await attempt
    assert list(tmp_path.glob("secret.key*")) == []


async def test_a_key_file_that_others_can_read_stops_every_use(store: SecretStore, tmp_path: Path) -> None:
    await store.set("default", "token", "value")
    (tmp_path / KEY_FILE).chmod(0o640)
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (fresh, _):
        for attempt in (fresh.get("default", "token"), fresh.set("default", "other", "value"), fresh.rotate()):
            with pytest.raises(ConfigError, match="0640"):
                await attempt


async def test_a_configured_key_is_exchanged_under_a_running_server(tmp_path: Path, make_key_file: MakeKeyFile) -> None:
    key_file = tmp_path / "key"
    make_key_file(key_file)
    keys = partial(choose_key_source, key_file=key_file, key_command=(), data_dir=tmp_path)
    async with open_secrets(tmp_path, keys()) as (server, _), open_secrets(tmp_path, keys()) as (command, _):
        await command.set("default", "token", "value")
        await server.learn_keys()
        old = (await keys().load())[0]
        new = make_key_file(key_file)
        assert await server.get("default", "token") == "value"  # it still has the old one
        assert await command.rotate([old]) == (1, new.id)
        assert await server.get("default", "token") == "value"  # it has read the new one
        assert await command.rotate([old]) == (0, new.id)
    async with open_secrets(tmp_path, keys()) as (fresh, _):
        assert await fresh.get("default", "token") == "value"


async def test_a_key_behind_a_command_is_asked_for_again_when_it_no_longer_fits(
    tmp_path: Path, make_key_file: MakeKeyFile
) -> None:
    old = make_key_file(tmp_path / "key")
    keys = partial(choose_key_source, key_file=None, key_command=("cat", str(tmp_path / "key")), data_dir=tmp_path)
    async with open_secrets(tmp_path, keys()) as (server, _), open_secrets(tmp_path, keys()) as (command, _):
        await server.set("default", "token", "value")
        make_key_file(tmp_path / "key")
        await command.rotate([old])
        assert await server.get("default", "token") == "value"


async def test_secrets_move_from_the_key_of_the_data_directory_to_a_configured_one_and_back(
    store: SecretStore, tmp_path: Path, make_key_file: MakeKeyFile
) -> None:
    await store.set("default", "token", "value")
    (own_key,) = await own(data_dir=tmp_path).load()
    given = make_key_file(tmp_path / "given")
    keys = choose_key_source(key_file=tmp_path / "given", key_command=(), data_dir=tmp_path)
    async with open_secrets(tmp_path, keys) as (other, _):
        assert await other.rotate([own_key]) == (1, given.id)
        assert await other.get("default", "token") == "value"
    (tmp_path / KEY_FILE).unlink()
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (back, _):
        await back.rotate([given])
        assert await back.get("default", "token") == "value"
    assert [path.name for path in tmp_path.glob("secret.key*")] == [KEY_FILE]


# ── rotation ─────────────────────────────────────────────────────────────────


async def test_a_rotation_makes_a_new_key_and_running_processes_go_on(store: SecretStore, tmp_path: Path) -> None:
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (server, _):
        await store.set("default", "a", "value-of-a")
        await store.set("other", "b", "value-of-b")
        await server.learn_keys()
        before = (tmp_path / KEY_FILE).read_bytes()
        for _ in range(3):
            count, key_id = await store.rotate()
            assert count == 2
            assert {entry.key_id for entry in await store.list("default")} == {key_id}
            assert await server.get("default", "a") == "value-of-a"
            assert await server.get("other", "b") == "value-of-b"
        assert (tmp_path / KEY_FILE).read_bytes() != before
        assert [path.name for path in tmp_path.glob("secret.key*")] == [KEY_FILE]
        await server.set("default", "c", "value-of-c")
        assert await store.get("default", "c") == "value-of-c"


async def test_a_process_with_an_old_key_writes_under_the_new_one_also_when_there_was_nothing(
    store: SecretStore, tmp_path: Path
) -> None:
    await store.set("default", "a", "value")
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (server, _):
        await server.learn_keys()
        await store.delete("default", "a")
        _, key_id = await store.rotate()
        await server.set("default", "b", "value")
        assert {entry.key_id for entry in await server.list("default")} == {key_id}
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (fresh, _):
        assert await fresh.get("default", "b") == "value"


async def test_a_commit_is_on_the_disk_before_the_old_key_goes(tmp_path: Path) -> None:
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (_, database):
        assert await database.run(lambda t: t.one("pragma synchronous")) == (2,)


@pytest.mark.parametrize("point", CRASHES)
async def test_a_rotation_that_is_killed_loses_nothing_and_is_finished_later(
    store: SecretStore, tmp_path: Path, point: str
) -> None:
    for name in ("a", "b", "c"):
        await store.set("default", name, f"value-of-{name}")
    before = (await store.list("default"))[0].key_id
    assert await trio.to_thread.run_sync(go, start(tmp_path, point)) == 9

    async def check(secrets: SecretStore) -> None:
        for name in ("a", "b", "c"):
            assert await secrets.get("default", name) == f"value-of-{name}"
        assert len({entry.key_id for entry in await secrets.list("default")}) == 1

    await check(store)  # of a process that ran all the time
    keys = own(data_dir=tmp_path)
    had_begun = keys.is_rotating
    async with look_at_secrets(tmp_path, keys) as fresh:
        assert fresh is not None
        await check(fresh)
    await store.set("default", "a", "value-of-a")
    await finish_rotation(tmp_path, keys, Diary())
    assert not keys.is_rotating
    assert len(await keys.load()) == 1
    await check(store)
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (fresh, _):
        await check(fresh)
        if had_begun:
            assert (await fresh.list("default"))[0].key_id != before
        await fresh.rotate()
        await check(fresh)
    assert [path.name for path in tmp_path.glob("secret.key*")] == [KEY_FILE]


class Diary:
    """A log that keeps nothing."""

    def debug(self, event: str, **members: object) -> None: ...
    def info(self, event: str, **members: object) -> None: ...
    def error(self, event: str, **members: object) -> None: ...
    def exception(self, event: str, **members: object) -> None: ...
    def warning(self, event: str, **members: object) -> None:
        raise AssertionError(f"{event} {members}")


async def test_the_first_secrets_of_several_processes_are_under_one_key(tmp_path: Path) -> None:
    processes = [start(tmp_path, "set", word) for word in ("a", "b", "c")]
    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(trio.to_thread.run_sync, go, process)
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (store, _):
        entries = await store.list("default")
        assert len(entries) == 30
        for entry in entries:
            assert await store.get("default", entry.name) == f"value-{entry.name[0]}-{entry.name[1:]}"


async def test_rotations_and_changes_of_several_processes_lose_nothing(store: SecretStore, tmp_path: Path) -> None:
    await store.set("default", "steady", "value")
    processes = [start(tmp_path, "rotate often"), start(tmp_path, "rotate often"), start(tmp_path, "set", "x")]
    codes: list[int] = []

    async def finish(process: "subprocess.Popen[str]") -> None:
        codes.append(await trio.to_thread.run_sync(go, process))

    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(finish, process)
        while len(codes) < len(processes):
            assert await store.get("default", "steady") == "value"
            await trio.sleep(0.01)
    assert codes == [0, 0, 0]
    async with open_secrets(tmp_path, own(data_dir=tmp_path)) as (fresh, _):
        for number in range(10):
            assert await fresh.get("default", f"x{number}") == f"value-x-{number}"
        assert await fresh.get("default", "steady") == "value"
    assert [path.name for path in tmp_path.glob("secret.key*")] == [KEY_FILE]


# ── a look ───────────────────────────────────────────────────────────────────


async def test_a_look_makes_nothing(tmp_path: Path) -> None:
    async with look_at_secrets(tmp_path, own(data_dir=tmp_path)) as found:
        assert found is None
    assert list(tmp_path.iterdir()) == []
    database: Database
    async with open_core_database(tmp_path) as database:
        assert database.name == "clonk"
    async with look_at_secrets(tmp_path, own(data_dir=tmp_path)) as found:
        assert found is not None
        assert await found.get("default", "token") is None
    assert list(tmp_path.glob("secret.key*")) == []
