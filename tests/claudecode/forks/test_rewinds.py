"""Rewinds: a session goes back to one of its messages, with its files, and nothing is lost."""

from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_claudecode.testing.script import Reply, Rule, Text, ToolUse, Wait
from clonk_core.plugin import Conflict, NotFound


def write(folder: Path, text: str) -> ToolUse:
    """Have Claude write a file."""
    return ToolUse("Bash", {"command": f"echo {text} > {folder}/a.txt; echo {text} > {folder}/{text}.txt"})


@pytest.fixture
async def talked(talk: Any, model: Any, repo: Path) -> Any:
    """Two turns; each has written two files."""
    model.add(*(Rule(f"^{text}$", [write(repo, text), Text("written")]) for text in ("first", "second", "third")))
    await talk.create(folder=repo)
    await talk.say("first")
    await talk.say("second")
    return talk


def files(repo: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in sorted(repo.glob("*.txt"))}


async def test_conversation_and_files_go_back_and_what_was_left_can_be_forked_and_rewound_to(
    talked: Any, repo: Path, git: Any
) -> None:
    history = await talked.history()
    assert len(history) == 8
    checkpoints = await talked.call("checkpoints", name="one")
    assert [(one["snapshot_id"], one["kind"]) for one in checkpoints] == [
        (history[3]["snapshot_id"], "turn"),
        (history[7]["snapshot_id"], "turn"),
    ]
    (repo / "by-hand.txt").write_text("typed\n")
    (repo / "x.log").write_text("ignored\n")
    status = git(repo, "rev-parse", "HEAD"), (repo / ".git/index").read_bytes()

    rewound = await talked.call("rewind", name="one", snapshot_id=history[3]["snapshot_id"])

    assert rewound["files"] == "restored"
    assert rewound["message_count"] == 4
    assert rewound["abandoned_snapshot_id"] == history[7]["snapshot_id"]
    assert files(repo) == {"a.txt": "first", "first.txt": "first"}
    assert (repo / "x.log").exists()
    assert (git(repo, "rev-parse", "HEAD"), (repo / ".git/index").read_bytes()) == status
    assert git(repo, "show", f"{rewound['checkpoint']['commit']}:by-hand.txt") == "typed"
    assert await talked.history() == history[:4]
    session = await talked.call("get", name="one")
    assert (session["snapshot_id"], session["message_count"]) == (history[3]["snapshot_id"], 4)
    assert session["state"] == "parked"

    told = await talked.told("third", "one")
    said_first = [("user", "first"), ("assistant", "tool_use"), ("user", "tool_result (Bash completed with no output)")]
    assert [(role, text) for role, text in told if text != "(Bash completed with no output)"][:1] == said_first[:1]
    assert ("user", "second") not in told
    assert ("user", "third") in told
    current = await talked.history()
    assert [one["content"] for one in current if isinstance(one["content"], str)] == ["first", "third"]
    assert files(repo) == {"a.txt": "third", "first.txt": "first", "third.txt": "third"}

    # What was abandoned is a fork away, with the files as they were before the rewind.
    fork = await talked.call(
        "fork", name="one", snapshot_id=history[7]["snapshot_id"], new_name="left", files="worktree"
    )
    assert files(Path(fork["working_dir"])) == {
        "a.txt": "second",
        "by-hand.txt": "typed",
        "first.txt": "first",
        "second.txt": "second",
    }
    assert await talked.history("left") == history
    # Also a message in its middle, and also in place; then what is current now is what was left.
    middle = await talked.call("fork", name="one", snapshot_id=history[5]["snapshot_id"], new_name="middle")
    assert await talked.history("middle") == history[:6]
    assert middle["message_count"] == 6
    back = await talked.call("rewind", name="one", snapshot_id=history[7]["snapshot_id"])
    assert await talked.history() == history
    assert files(repo)["a.txt"] == "second"
    await talked.call("rewind", name="one", snapshot_id=back["abandoned_snapshot_id"])
    assert await talked.history() == current
    assert files(repo) == {"a.txt": "third", "first.txt": "first", "third.txt": "third"}
    told = await talked.told("fourth", "one")
    assert [text for role, text in told if role == "user" and not text.startswith("tool_result")] == [
        "first",
        "third",
        "fourth",
    ]


async def test_files_stay_where_that_is_wished_and_where_nothing_was_recorded(
    talked: Any, repo: Path, tmp_path: Path
) -> None:
    history = await talked.history()
    rewound = await talked.call("rewind", name="one", snapshot_id=history[3]["snapshot_id"], files=False)
    assert (rewound["files"], rewound["checkpoint"]) == ("kept", None)
    assert files(repo)["a.txt"] == "second"
    # A prompt comes before the first checkpoint; the folder of a session of its own is no repository.
    rewound = await talked.call("rewind", name="one", snapshot_id=history[0]["snapshot_id"])
    assert rewound["files"] == "kept"
    with pytest.raises(Conflict) as refused:
        await talked.call("rewind", name="one", snapshot_id=history[0]["snapshot_id"], files=True)
    assert refused.value.kind == "claudecode.no_checkpoint"
    assert [one["content"] for one in await talked.history()] == ["first"]


async def test_going_back_to_the_last_message_discards_what_was_done_by_hand_each_time(
    talked: Any, repo: Path, git: Any
) -> None:
    history = await talked.history()
    for _time in range(2):
        (repo / "a.txt").write_text("by hand\n")
        rewound = await talked.call("rewind", name="one", snapshot_id=history[7]["snapshot_id"])
        assert files(repo)["a.txt"] == "second"
        assert rewound["abandoned_snapshot_id"] is None
        assert git(repo, "show", f"{rewound['checkpoint']['commit']}:a.txt") == "by hand"
        assert await talked.history() == history
    kinds = [one["kind"] for one in await talked.call("checkpoints", name="one")]
    assert kinds == ["turn", "turn", "discarded", "discarded"]


async def test_in_the_middle_of_a_merge_nothing_goes_back(talked: Any, repo: Path, git: Any) -> None:
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "x")
    git(repo, "checkout", "-q", "-b", "other", "HEAD^")
    (repo / "other.txt").write_text("x\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "y")
    git(repo, "merge", "-q", "--no-commit", "main")
    history = await talked.history()
    before = files(repo), await talked.call("get", name="one")
    with pytest.raises(Conflict, match="merge") as refused:
        await talked.call("rewind", name="one", snapshot_id=history[3]["snapshot_id"])
    assert refused.value.kind == "claudecode.not_restorable"
    session = await talked.call("get", name="one")
    assert (files(repo), session | {"state": "idle"}) == (before[0], before[1] | {"state": "idle"})
    assert await talked.history() == history
    projects = list(Path(talked.hub.app.settings.storage.data_dir).glob("claudecode/claude/projects/*/*.jsonl"))
    assert len(projects) == 1
    rewound = await talked.call("rewind", name="one", snapshot_id=history[3]["snapshot_id"], files=False)
    assert rewound["message_count"] == 4


async def test_a_session_at_work_is_not_rewound_and_one_that_is_rewound_takes_no_prompt(
    talked: Any, model: Any, repo: Path
) -> None:
    model.add(Rule("long", [Reply((Text("begun "), Wait("gate"), Text("done")))]))
    history = await talked.history()
    await talked.call("fork", name="one", snapshot_id=history[7]["snapshot_id"], new_name="beside")
    async with talked.hub.client.stream("claudecode.chat", name="one", prompt="long") as stream:
        await model.wait_reached("gate")
        for name in ("one", "beside"):  # the other one works on the same files
            with pytest.raises(Conflict) as refused:
                await talked.call("rewind", name=name, snapshot_id=history[3]["snapshot_id"])
            assert refused.value.kind == "claudecode.session_busy"
            assert refused.value.data["subscription"] == stream.subscription
        await talked.call("rewind", name="beside", snapshot_id=history[3]["snapshot_id"], files=False)
        model.release("gate")
        assert [event async for _seq, event in stream][-1]["outcome"] == "complete"

    outcomes: list[str] = []

    async def attempt(what: str, **params: Any) -> None:
        try:
            if what == "chat":
                events = await talked.hub.client.events("claudecode.chat", name="one", prompt="at the same time")
                outcomes.append(events[-1]["error"]["data"]["kind"] if events[-1]["error"] else "done")
            else:
                await talked.call(what, **params)
                outcomes.append("done")
        except Conflict as error:
            outcomes.append(error.kind)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: attempt("rewind", name="one", snapshot_id=history[3]["snapshot_id"]))
        nursery.start_soon(lambda: attempt("rewind", name="one", snapshot_id=history[3]["snapshot_id"]))
        nursery.start_soon(lambda: attempt("chat"))
    assert set(outcomes) <= {"done", "claudecode.session_busy"}
    history = await talked.history()
    prompts = [one["content"] for one in history if isinstance(one["content"], str)]
    assert prompts in (["first"], ["first", "at the same time"], ["first", "second", "long", "at the same time"])
    told = await talked.told("the end", "one")
    assert [text for _role, text in told if text in {*prompts, "second", "long"}] == prompts


async def test_what_is_unknown_is_not_found(talked: Any) -> None:
    await talked.create("other")
    history = await talked.history()
    for name, snapshot_id in (("one", "node_none"), ("other", history[0]["snapshot_id"]), ("nobody", "node_none")):
        with pytest.raises(NotFound):
            await talked.call("rewind", name=name, snapshot_id=snapshot_id)


async def test_deleting_a_session_takes_everything_along(talked: Any, repo: Path, tmp_path: Path, git: Any) -> None:
    history = await talked.history()
    snapshots = [history[3]["snapshot_id"], history[7]["snapshot_id"]]
    await talked.call("rewind", name="one", snapshot_id=snapshots[0])
    clean = await talked.call("fork", name="one", snapshot_id=snapshots[1], new_name="clean", files="worktree")
    dirty = await talked.call("fork", name="one", snapshot_id=snapshots[1], new_name="dirty", files="worktree")
    copied = await talked.call("fork", name="one", snapshot_id=snapshots[1], new_name="copied", files="copy")
    (Path(dirty["working_dir"]) / "new.txt").write_text("work\n")
    refs = git(Path(copied["working_dir"]), "for-each-ref", "--format=%(refname)", "refs/clonk").split()
    assert refs
    assert all(copied["id"] in ref for ref in refs)
    for name in ("one", "clean", "dirty", "copied"):
        await talked.call("delete", name=name)
    assert git(repo, "for-each-ref", "refs/clonk") == ""
    assert not Path(clean["working_dir"]).exists()
    assert not Path(copied["working_dir"]).exists()
    assert (Path(dirty["working_dir"]) / "new.txt").read_text() == "work\n"
    assert clean["working_dir"] not in git(repo, "worktree", "list")
    assert list((tmp_path / "data/claudecode/checkpoints").iterdir()) == []
    assert list((tmp_path / "data/claudecode/claude/projects").glob("*/*.jsonl")) == []


async def test_a_worktree_stands_at_the_commit_with_the_files_as_changes(talked: Any, repo: Path, git: Any) -> None:
    history = await talked.history()
    head = git(repo, "rev-parse", "HEAD")
    fork = await talked.call(
        "fork", name="one", snapshot_id=history[3]["snapshot_id"], new_name="tree", files="worktree"
    )
    folder = Path(fork["working_dir"])
    assert git(folder, "rev-parse", "HEAD") == head
    assert git(folder, "status", "--porcelain").splitlines() == ["M a.txt", "?? first.txt"]
    told = await talked.told("third", "tree")
    assert ("user", "second") not in told
    # It goes on by itself: checkpoints of its own, in the same repository.
    (last,) = (await talked.call("checkpoints", name="tree"))[-1:]
    assert last["ref"].startswith(f"refs/clonk/checkpoints/{fork['id']}/")
    assert git(repo, "rev-parse", last["ref"]) == last["commit"]
    again = await talked.call("fork", name="tree", snapshot_id=history[1]["snapshot_id"], new_name="early")
    assert again["message_count"] == 2
    rewound = await talked.call("rewind", name="tree", snapshot_id=history[3]["snapshot_id"])
    assert rewound["files"] == "restored"
    assert files(folder) == {"a.txt": "first", "first.txt": "first"}
