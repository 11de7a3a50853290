"""A start after a kill in the middle of a fork, a rewind, a deletion or a turn: it is finished, or it never was."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest

from clonk_claudecode.testing.script import Rule, Text, ToolUse


@attrs.frozen
class Disk:
    """What a hub that is not running has left."""

    data: Path
    history: list[Any]
    session: Any

    def change(self, database: str, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.data / f"{database}.db")) as connection, connection:
            connection.execute(statement, values)

    def note(self, key: str, kind: str, detail: dict[str, Any]) -> None:
        self.change("claudecode", "insert into unfinished values (?, ?, ?)", key, kind, json.dumps(detail))

    def unfinished(self) -> list[Any]:
        with closing(sqlite3.connect(self.data / "claudecode.db")) as connection:
            return connection.execute("select * from unfinished").fetchall()

    def transcripts(self) -> set[str]:
        return {path.stem for path in self.data.glob("claudecode/claude/projects/*/*.jsonl")}


@pytest.fixture
async def disk(open_hub: Any, model: Any, repo: Path, tmp_path: Path) -> Disk:
    """After two turns, each of which has written a file."""
    for word in ("first", "second"):
        command = f"echo {word} > a.txt; echo {word} > {word}.txt"
        model.add(Rule(f"^{word}$", [ToolUse("Bash", {"command": command}), Text("written")]))
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="one", working_dir=str(repo))
        for word in ("first", "second"):
            await hub.client.events("claudecode.chat", name="one", prompt=word)
        history = await hub.client.call("claudecode.history", name="one")
        session = await hub.client.call("claudecode.get", name="one")
    return Disk(tmp_path / "data", history, session)


def files(repo: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in sorted(repo.glob("*.txt"))}


async def look(hub: Any) -> tuple[int, str]:
    """How long the conversation is, by all who know it, and its head."""
    session = await hub.client.call("claudecode.get", name="one")
    history = await hub.client.call("claudecode.history", name="one")
    assert session["message_count"] == len(history)
    assert session["snapshot_id"] == history[-1]["snapshot_id"]
    ancestors = await hub.client.call("arbor.node_ancestors", node_id=session["snapshot_id"])
    assert len(ancestors) == len(history) - 1
    return len(history), session["claude_session_id"]


@pytest.mark.parametrize("moment", ["noted", "recorded", "files"])
async def test_a_rewind_is_finished(disk: Disk, open_hub: Any, repo: Path, git: Any, moment: str) -> None:
    new_id = str(uuid4())
    (repo / "by-hand.txt").write_text("typed\n")
    if moment != "noted":  # as a rewind that was refused at its last step has recorded them, and undone what it did
        disk.change("claudecode", "create trigger no before insert on rewinds begin select raise(abort, 'no'); end")
        async with open_hub() as hub:
            with pytest.raises(Exception, match="incident"):
                await hub.client.call("claudecode.rewind", name="one", snapshot_id=disk.history[3]["snapshot_id"])
        disk.change("claudecode", "drop trigger no")
        assert files(repo)["by-hand.txt"] == "typed"
    intent = {
        "session_id": disk.session["id"],
        "snapshot_id": disk.history[3]["snapshot_id"],
        "claude_session_id": new_id,
        "with_files": True,
    }
    disk.note(f"rewind {disk.session['id']}", "rewind", intent)
    if moment != "noted":
        (old,) = disk.data.glob("claudecode/claude/projects/*/*.jsonl")
        (old.parent / f"{new_id}.jsonl").write_bytes(old.read_bytes()[:5000])
        (disk.data / f"claudecode/checkpoints/{disk.session['id']}/index.lock").touch()
    if moment == "files":
        (repo / "a.txt").write_text("first\n")
        (repo / "second.txt").unlink()
    for _start in range(2):
        async with open_hub() as hub:
            assert await look(hub) == (4, new_id)
            assert files(repo) == {"a.txt": "first", "first.txt": "first"}
    assert disk.unfinished() == []
    async with open_hub() as hub:
        # What was left is all there, the files too.
        last = disk.history[7]["snapshot_id"]
        fork = await hub.client.call("claudecode.fork", name="one", snapshot_id=last, new_name="left", files="worktree")
        assert fork["message_count"] == 8
        assert files(Path(fork["working_dir"])) == {
            "a.txt": "second",
            "by-hand.txt": "typed",
            "first.txt": "first",
            "second.txt": "second",
        }
        events = await hub.client.events("claudecode.chat", name="one", prompt="again")
        assert events[-1]["outcome"] == "complete"


async def test_a_rewind_that_cannot_be_finished_never_was(disk: Disk, open_hub: Any, repo: Path, git: Any) -> None:
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "x")
    git(repo, "checkout", "-q", "-b", "other", "HEAD^")
    git(repo, "commit", "-q", "--allow-empty", "-m", "y")
    git(repo, "merge", "-q", "--no-commit", "main")
    before = files(repo)
    intent = {
        "session_id": disk.session["id"],
        "snapshot_id": disk.history[3]["snapshot_id"],
        "claude_session_id": str(uuid4()),
        "with_files": True,
    }
    disk.note(f"rewind {disk.session['id']}", "rewind", intent)
    async with open_hub() as hub:
        assert await look(hub) == (8, disk.session["claude_session_id"])
    assert files(repo) == before
    assert disk.unfinished() == []
    assert disk.transcripts() == {disk.session["claude_session_id"]}


async def test_a_fork_that_was_not_stored_never_was(disk: Disk, open_hub: Any, repo: Path, git: Any) -> None:
    ids = {kind: f"sess_{kind}" for kind in ("worktree", "copy")}
    head = git(repo, "rev-parse", "HEAD")
    for kind, session_id in ids.items():
        (old,) = disk.data.glob(f"claudecode/claude/projects/*/{disk.session['claude_session_id']}.jsonl")
        (old.parent / f"uuid-{kind}.jsonl").write_bytes(old.read_bytes()[:5000])
        folder = (disk.data / "workspaces" / session_id).resolve()
        if kind == "worktree":
            git(repo, "worktree", "add", "-q", "--detach", "--no-checkout", str(folder), head)
            (folder / "half.txt").write_text("x\n")
        else:
            (folder / "deep").mkdir(parents=True)
            (folder / "deep/file").write_text("x\n")
            (folder / "deep").chmod(0o500)
        git(repo, "update-ref", f"refs/clonk/checkpoints/{session_id}/1", head)
        detail = {
            "session_id": session_id,
            "transcripts": [f"uuid-{kind}"],
            "repositories": [str(repo / ".git"), "/nonexistent/.git"],
            "worktree": {"repository": str(repo / ".git"), "top": str(folder), "commit_id": head}
            if kind == "worktree"
            else None,
            "folder": str(folder),
            "unused": True,
        }
        disk.note(session_id, "remove", detail)
    async with open_hub() as hub:
        assert [one["name"] for one in await hub.client.call("claudecode.list")] == ["one"]
    assert not list((disk.data / "workspaces").glob("sess_*"))
    assert disk.transcripts() == {disk.session["claude_session_id"]}
    refs = git(repo, "for-each-ref", "--format=%(refname)", "refs/clonk").split()
    assert refs
    assert all(disk.session["id"] in ref for ref in refs)
    assert len(git(repo, "worktree", "list").splitlines()) == 1
    assert disk.unfinished() == []


async def test_a_store_that_refuses_the_fork_leaves_nothing_behind(
    disk: Disk, open_hub: Any, repo: Path, git: Any
) -> None:
    disk.change("claudecode", "create trigger no before insert on sessions begin select raise(abort, 'no'); end")
    async with open_hub() as hub:
        for kind in ("worktree", "copy", "shared"):
            with pytest.raises(Exception, match="incident"):
                await hub.client.call(
                    "claudecode.fork", name="one", snapshot_id=disk.history[3]["snapshot_id"], files=kind
                )
        assert await look(hub) == (8, disk.session["claude_session_id"])
    assert not list((disk.data / "workspaces").glob("sess_*"))
    assert disk.transcripts() == {disk.session["claude_session_id"]}
    assert disk.unfinished() == []
    assert len(git(repo, "worktree", "list").splitlines()) == 1


async def test_a_store_that_refuses_the_rewind_has_the_files_where_they_were(
    disk: Disk, open_hub: Any, repo: Path
) -> None:
    disk.change("claudecode", "create trigger no before insert on rewinds begin select raise(abort, 'no'); end")
    before = files(repo)
    async with open_hub() as hub:
        with pytest.raises(Exception, match="incident"):
            await hub.client.call("claudecode.rewind", name="one", snapshot_id=disk.history[3]["snapshot_id"])
        assert files(repo) == before
        assert await look(hub) == (8, disk.session["claude_session_id"])
    assert disk.transcripts() == {disk.session["claude_session_id"]}
    assert disk.unfinished() == []


async def test_the_files_of_a_turn_that_was_cut_off_are_recorded_at_the_next_start(
    disk: Disk, open_hub: Any, repo: Path, git: Any
) -> None:
    disk.change("claudecode", "update turns set ended_at = null, outcome = null where id = ?", _last_turn(disk))
    disk.change("claudecode", "delete from checkpoints where number = 2")
    (repo / "half.txt").write_text("half\n")
    async with open_hub() as hub:
        made = await hub.client.call("claudecode.checkpoints", name="one")
        assert [one["snapshot_id"] for one in made] == [
            disk.history[3]["snapshot_id"],
            disk.history[7]["snapshot_id"],
        ]
        assert git(repo, "show", f"{made[1]['commit']}:half.txt") == "half"


def _last_turn(disk: Disk) -> str:
    return str(disk.history[-1]["subscription"])


async def test_the_store_alone_is_enough_to_fork_and_for_the_fork(
    disk: Disk, open_hub: Any, model: Any, repo: Path
) -> None:
    projects = disk.data / "claudecode/claude/projects"
    shutil.rmtree(projects)
    async with open_hub() as hub:
        for name, number in (("early", 3), ("late", 7)):
            snapshot_id = disk.history[number]["snapshot_id"]
            await hub.client.call("claudecode.fork", name="one", snapshot_id=snapshot_id, new_name=name)
        await hub.client.call("claudecode.rewind", name="one", snapshot_id=disk.history[3]["snapshot_id"])
    shutil.rmtree(projects)
    for name, words in (("early", ["first"]), ("late", ["first", "second"]), ("one", ["first"])):
        async with open_hub() as hub:
            await hub.client.events("claudecode.chat", name=name, prompt="and now")
        told = str(model.turns[-1].messages)
        assert [word for word in ("first", "second") if f"echo {word} > a.txt" in told] == words
