"""The store's copy and the binary's file, whichever of them has what: after `prepare` both have all of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from claude_agent_sdk import project_key_for_directory

from clonk_claudecode.engine.project_folder import folder_name
from clonk_claudecode.engine.spec import SessionSpec
from clonk_claudecode.errors import BinaryBroken
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.mirror.files import ConversationFiles
from clonk_claudecode.mirror.keeper import Keeper
from clonk_claudecode.store.transcript_rows import MAIN
from clonk_claudecode.transcripts import read_entries
from clonk_core.plugin import Database

SUBAGENT = "subagents/agent-a1"


def message(number: int) -> dict[str, Any]:
    """An entry with a uuid."""
    return {"type": "user", "uuid": f"u{number}", "message": {"role": "user", "content": f"é {number}"}}


class Copies:
    """A conversation's file and the store's copy, and the keeper between them."""

    def __init__(self, database: Database, session: StoredSession, folder: Path, log: Any) -> None:
        self.config_dir = folder
        self.database = database
        self.log = log
        self.spec = SessionSpec(
            session_id=session.id,
            claude_session_id=session.claude_session_id,
            working_dir=Path(session.working_dir),
        )
        self.new_keeper()

    def new_keeper(self) -> None:
        """As after a restart: nothing is remembered."""
        self.keeper = Keeper(self.database, self.config_dir, self.log)

    @property
    def files(self) -> ConversationFiles:
        return ConversationFiles(self.config_dir, self.spec.claude_session_id, self.spec.working_dir)

    def write(self, entries: Sequence[Any], path: str = MAIN, end: bytes = b"") -> None:
        file = self.files.file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries) + end)

    def add(self, *entries: Any) -> None:
        with self.files.file(MAIN).open("a") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in entries)

    async def store(self, entries: Sequence[Any], path: str = MAIN) -> None:
        await self.keeper.keep(self.spec, str(self.files.file(path)), entries)

    def in_file(self, path: str = MAIN) -> list[Any]:
        return [json.loads(line) for line in self.files.file(path).read_text().splitlines()]

    async def in_store(self, path: str = MAIN) -> list[Any]:
        return [json.loads(one.text) async for one in read_entries(self.database, self.spec.claude_session_id, path)]


@pytest.fixture
def copies(database: Database, session: StoredSession, tmp_path: Path, diary: Any) -> Copies:
    return Copies(database, session, tmp_path / "claude", diary)


async def test_of_a_conversation_that_is_nowhere_there_is_nothing_to_resume(copies: Copies) -> None:
    assert not await copies.keeper.prepare(copies.spec)
    assert not copies.files.file(MAIN).exists()


async def test_a_file_that_is_gone_is_written_from_the_store(copies: Copies) -> None:
    entries = [message(1), {"type": "custom-title", "customTitle": "t"}, message(2)]
    await copies.store(entries)
    await copies.store([message(3), {"type": "agent_metadata", "agentType": "Explore"}], SUBAGENT)
    assert await copies.keeper.prepare(copies.spec)
    assert copies.in_file() == entries
    assert copies.files.file(MAIN).stat().st_mode & 0o777 == 0o600
    assert copies.in_file(SUBAGENT) == [message(3)]
    metadata = copies.files.file(SUBAGENT).with_name("agent-a1.meta.json")
    assert json.loads(metadata.read_text()) == {"agentType": "Explore"}


async def test_more_than_a_page_of_entries_is_written_in_order(copies: Copies) -> None:
    entries = [message(number) for number in range(450)]
    await copies.store(entries)
    await copies.keeper.prepare(copies.spec)
    assert copies.in_file() == entries


async def test_the_file_of_an_earlier_version_is_taken_into_the_store(copies: Copies) -> None:
    copies.write([message(1), message(2)])
    copies.write([message(3)], SUBAGENT)
    copies.files.file(SUBAGENT).with_name("agent-a1.meta.json").write_text('{"agentType": "Plan"}')
    for _start in range(2):
        assert await copies.keeper.prepare(copies.spec)
        assert await copies.in_store() == [message(1), message(2)]
        assert await copies.in_store(SUBAGENT) == [message(3), {"agentType": "Plan", "type": "agent_metadata"}]
        copies.new_keeper()


@pytest.mark.parametrize("is_new", [True, False])
async def test_what_only_the_file_has_is_added_to_the_store_once(copies: Copies, is_new: bool) -> None:
    copies.write([message(1), {"type": "mode"}])
    await copies.keeper.prepare(copies.spec)
    copies.add({"type": "mode"}, message(2), {"type": "api-request", "id": "x"}, {"type": "cost-state"})
    if is_new:
        copies.new_keeper()
    for _ in range(2):
        await copies.keeper.catch_up(copies.spec)
        assert await copies.in_store() == [message(1), *2 * [{"type": "mode"}], message(2), {"type": "cost-state"}]
    assert len(copies.in_file()) == 6


async def test_what_was_mirrored_is_not_taken_from_the_file_again(copies: Copies) -> None:
    copies.write([message(1)])
    await copies.keeper.prepare(copies.spec)
    copies.add({"type": "mode"}, message(2), {"type": "mode"})
    await copies.store([{"type": "mode"}, message(2), {"type": "mode"}])
    await copies.keeper.catch_up(copies.spec)
    assert await copies.in_store() == copies.in_file()
    assert len(await copies.in_store()) == 4


async def test_a_file_that_lost_its_end_is_written_anew(copies: Copies) -> None:
    copies.write([message(1), message(2), message(3)])
    await copies.keeper.prepare(copies.spec)
    copies.write([message(1)])
    await copies.keeper.prepare(copies.spec)
    assert copies.in_file() == await copies.in_store() == [message(1), message(2), message(3)]


@pytest.mark.parametrize("torn", [b'{"type":"user","uuid":"u3', b"\0" * 40, b'{"type":"user"}'])
async def test_half_a_line_at_the_end_is_cut_off(copies: Copies, torn: bytes) -> None:
    copies.write([message(1), message(2)], end=torn)
    await copies.keeper.prepare(copies.spec)
    assert copies.in_file() == await copies.in_store() == [message(1), message(2)]
    copies.add(message(3))
    await copies.keeper.catch_up(copies.spec)
    assert await copies.in_store() == [message(1), message(2), message(3)]


async def test_the_file_wins_that_went_on_longer_after_they_parted(copies: Copies) -> None:
    await copies.store([message(1), message(2)])
    copies.write([message(1), message(13), message(14)])
    await copies.keeper.prepare(copies.spec)
    # Nothing is lost, and the last message, which the conversation goes on from, is the file's.
    assert copies.in_file() == await copies.in_store() == [message(1), message(2), message(13), message(14)]


async def test_the_store_wins_that_went_on_longer_and_the_file_is_set_aside(copies: Copies) -> None:
    await copies.store([message(1), message(2), message(3)])
    copies.write([message(1), message(13)])
    await copies.keeper.prepare(copies.spec)
    assert copies.in_file() == await copies.in_store() == [message(1), message(2), message(3)]
    aside = copies.files.file(MAIN).with_name(f"{copies.spec.claude_session_id}.jsonl.replaced")
    assert len(aside.read_text().splitlines()) == 2
    assert ("warning", "a transcript had parted from its file") in [line[:2] for line in copies.log.lines]


async def test_a_session_that_works_elsewhere_takes_its_files_along(copies: Copies, tmp_path: Path) -> None:
    copies.write([message(1)])
    copies.write([message(2)], SUBAGENT)
    before = copies.files.file(MAIN)
    (tmp_path / "other").mkdir()
    copies.spec = SessionSpec(
        session_id=copies.spec.session_id,
        claude_session_id=copies.spec.claude_session_id,
        working_dir=tmp_path / "other",
    )
    assert await copies.keeper.prepare(copies.spec)
    assert copies.files.file(MAIN).parent.name == folder_name(str(tmp_path / "other"))
    assert not before.exists()
    assert copies.in_file(SUBAGENT) == [message(2)]


async def test_entries_of_another_conversation_or_with_a_strange_path_are_not_kept(copies: Copies) -> None:
    folder = copies.files.file(MAIN).parent
    own = copies.spec.claude_session_id
    for place in ("0b39a1d2-5b2f-4c3e-9a77-0123456789ab.jsonl", f"{own}/../{own}.jsonl", f"{own}/x/../../y.jsonl"):
        await copies.keeper.keep(copies.spec, str(folder / place), [message(1)])
    await copies.keeper.keep(copies.spec, "/etc/passwd", [message(1)])
    assert not await copies.keeper.prepare(copies.spec)


@pytest.mark.parametrize(
    ("working_dir", "name"),
    [
        ("/srv/my app_1.x", "-srv-my-app-1-x"),
        ("/é/\U0001f600", "-----"),
        ("/" + "a" * 250, "-" + "a" * 199 + "-feo44x"),
    ],
)
def test_the_folder_of_a_working_directory_is_called_as_the_binary_calls_it(working_dir: str, name: str) -> None:
    assert folder_name(working_dir) == name
    if working_dir.isascii():
        assert folder_name(working_dir) == project_key_for_directory(working_dir)


async def test_a_session_that_goes_on_in_another_conversation_leaves_the_first_one_alone(copies: Copies) -> None:
    await copies.store([message(1), message(2), message(3)])
    first = copies.spec
    copies.spec = attrs.evolve(first, claude_session_id="0b39a1d2-5b2f-4c3e-9a77-0123456789ab")
    copies.write([message(1)])
    assert await copies.keeper.prepare(copies.spec)
    assert copies.in_file() == await copies.in_store() == [message(1)]
    copies.spec = first
    assert await copies.in_store() == [message(1), message(2), message(3)]


async def test_a_file_that_may_be_written_to_stays_as_it_is_and_one_that_is_gone_is_written(copies: Copies) -> None:
    await copies.store([message(1), message(2)])
    assert await copies.keeper.prepare(copies.spec, in_use=True)
    assert copies.in_file() == [message(1), message(2)]
    copies.write([message(1)], end=b'{"half')
    before = copies.files.file(MAIN).read_bytes()
    assert await copies.keeper.prepare(copies.spec, in_use=True)
    assert copies.files.file(MAIN).read_bytes() == before


async def test_a_file_in_which_nothing_can_be_read_is_set_aside(copies: Copies) -> None:
    copies.write([], end=b"\0" * 100)
    assert not await copies.keeper.prepare(copies.spec)
    assert copies.files.states() == {}
    (aside,) = copies.config_dir.glob("projects/*/*.jsonl.replaced")
    assert aside.read_bytes() == b"\0" * 100


@pytest.mark.parametrize("what", ["file", "folder", "all folders"])
async def test_links_that_a_session_has_put_are_not_followed(copies: Copies, tmp_path: Path, what: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    name = copies.files.file(MAIN).name
    (secret / name).write_text(json.dumps(message(1)) + "\n")
    place = {
        "file": copies.files.file(MAIN),
        "folder": copies.files.file(MAIN).parent,
        "all folders": copies.config_dir / "projects",
    }[what]
    place.parent.mkdir(parents=True)
    if what == "all folders":
        (secret / copies.files.file(MAIN).parent.name).symlink_to(secret)
    place.symlink_to(secret / name if what == "file" else secret)
    await copies.keeper.catch_up(copies.spec)
    assert not await copies.keeper.prepare(copies.spec)
    assert await copies.in_store() == []
    # Neither is anything written through them.
    await copies.store([message(2)])
    if what == "file":
        assert await copies.keeper.prepare(copies.spec)
        assert copies.in_file() == [message(2)]
    else:
        with pytest.raises(BinaryBroken):
            await copies.keeper.prepare(copies.spec)
    assert (secret / name).read_text() == json.dumps(message(1)) + "\n"
