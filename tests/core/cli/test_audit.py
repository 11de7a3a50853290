"""`clonk audit`: rows and their chain, read from the data directory beside whoever writes it."""

import json
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.gateway.audit import AuditLog
from clonk_core.gateway_messages import AuditEntry
from clonk_core.messages import Caller
from clonk_core.storage.core_tables import open_core_database

Clonk = Callable[..., Any]


async def _write(folder: Path, count: int, **members: Any) -> None:
    folder.mkdir(exist_ok=True)
    async with open_core_database(folder) as database:
        log = AuditLog(database)
        for number in range(count):
            entry = {"kind": "call", "caller": Caller(id="ann"), "action": "dice.roll", "target": f"t{number}"}
            await log.write(AuditEntry(**{**entry, **members}))


@pytest.fixture
def folder(place: Any) -> Path:
    """The data directory, with a log of 30 rows and one of another kind."""
    folder: Path = place.folder / "data"
    trio.run(_write, folder, 30)

    async def write_another() -> None:
        await _write(folder, 1, action="Bash\x1b[2J", kind="tool", outcome="error", caller=Caller(id="bob"))

    trio.run(write_another)
    return folder


def test_the_newest_rows_are_printed_in_columns(clonk: Clonk, folder: Path) -> None:
    done = clonk("audit", "tail", "--limit", "3")
    lines = [line.split() for line in done.out.splitlines()]
    assert done.code == 0
    assert [line[0] for line in lines] == ["29", "30", "31"]
    assert lines[0][2:] == ["call", "ann", "dice.roll", "t28", "ok"]
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("flags", "seqs"),
    [
        (("--limit", "2"), [30, 31]),
        (("--limit", "0"), []),
        (("--kind", "tool"), [31]),
        (("--caller", "ann", "--limit", "1"), [30]),
        (("--action", "dice.*", "--target", "t4"), [5]),
        (("--outcome", "error", "--since", "1h"), [31]),
        (("--until", "2020-01-01"), []),
        (("--tenant", "other"), []),
        (("--run", "sub_1"), []),
    ],
)
def test_filters_choose_rows_and_json_has_all_of_them(
    clonk: Clonk, folder: Path, flags: tuple[str, ...], seqs: list[int]
) -> None:
    done = clonk("audit", "tail", "--json", "--data-dir", str(folder), *flags)
    assert (done.code, [row["seq"] for row in done.lines]) == (0, seqs)
    assert all(len(row["hash"]) == 64 for row in done.lines)


@pytest.mark.parametrize(
    "flags",
    [("tail", "--since", "tomorrow"), ("tail", "--limit", "-1"), ("tail", "--kind", "x"), ("verify", "--head", "x")],
)
def test_what_cannot_be_read_is_a_wrong_command_line(clonk: Clonk, folder: Path, flags: tuple[str, ...]) -> None:
    assert clonk("audit", *flags).code == 2


def test_the_chain_is_checked_and_the_head_is_printed(clonk: Clonk, folder: Path) -> None:
    done = clonk("audit", "verify")
    assert done.code == 0
    head = next(line for line in done.out.splitlines() if line.startswith("head: ")).removeprefix("head: ")
    assert head.startswith("31:")
    trio.run(_write, folder, 1)
    again = clonk("audit", "verify", "--json", "--head", head)
    assert (again.code, again.json["intact"], again.json["rows"]) == (0, True, 32)


def test_what_was_touched_is_told_with_its_place_and_code_1(clonk: Clonk, folder: Path) -> None:
    head = clonk("audit", "verify", "--json").json["head"]
    database = sqlite3.connect(folder / "clonk.db")
    database.execute("update audit set caller = 'eve' where seq = 7")
    database.execute("delete from audit where seq > 20")
    database.commit()
    database.close()
    done = clonk("audit", "verify", "--head", head)
    assert done.code == 1
    assert "changed at row 7" in done.out
    assert "head at row 31" in done.out
    report = clonk("audit", "verify", "--json", "--head", head).json
    assert [(problem["kind"], problem["seq"]) for problem in report["problems"]] == [("changed", 7), ("head", 31)]


@pytest.mark.parametrize("command", ["tail", "verify"])
def test_a_folder_without_a_log_is_told_and_left_as_it_is(clonk: Clonk, tmp_path: Path, command: str) -> None:
    done = clonk("audit", command, "--data-dir", str(tmp_path / "nothing"))
    assert (done.code, done.out) == (1, "")
    assert "--data-dir" in done.err
    assert not (tmp_path / "nothing").exists()
    old = tmp_path / "old"
    old.mkdir()
    database = sqlite3.connect(old / "clonk.db")
    database.execute("create table runs (id text)")
    database.close()
    before = (old / "clonk.db").read_bytes()
    done = clonk("audit", command, "--data-dir", str(old))
    assert done.code == 1
    assert "no audit log yet" in done.err
    assert (old / "clonk.db").read_bytes() == before


def test_rows_of_a_running_server_are_followed_as_they_come(place: Any, served: Any) -> None:
    # The server holds the directory; the command reads beside it.
    trio.run(_write, place.folder / "data", 1)
    process = place.start("audit", "tail", "--follow", "--json", "--caller", "ann")
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    targets = [json.loads(process.stdout.readline())["target"]]
    trio.run(_write, place.folder / "data", 2)
    targets += [json.loads(process.stdout.readline())["target"] for _ in range(2)]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    watchdog.cancel()
    assert targets == ["t0", "t0", "t1"]
