"""From a conversation with the real binary to a pull request at a forge: main there never moves."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import pytest

from clonk_claudecode.testing.script import Reply, Rule, Text, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.testing.server_process import ServerProcess
from tests.gitsync.conftest import Place, git, keep_secret
from tests.gitsync.forges.loopback.forge import TOKEN, Repository
from tests.gitsync.forges.loopback.github import GitHub
from tests.gitsync.forges.loopback.serving import Server

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]

BRANCH = "claude/feature-auth"


@attrs.frozen
class Conversation:
    """A session in a workspace whose chats are committed by themselves.

    Attributes:
        client: Calls.
        place: The workspace and its remote.
        repository: The remote at the forge, with its pull requests.
    """

    client: HttpClient
    place: Place
    repository: Repository

    async def chat(self, prompt: str) -> Any:
        """Chat to the end, and return `done`."""
        events = await self.client.events("claudecode.chat", name="feature-auth", prompt=prompt)
        assert events[-1]["outcome"] == "complete", events[-1]
        return events[-1]

    async def call(self, method: str, **more: Any) -> Any:
        """Call a method of gitsync on the workspace."""
        answer = await self.client.call(f"gitsync.{method}", path=str(self.place.work), **more)
        self.check_main()
        return answer

    def check_main(self) -> None:
        """Main is where it was, was nowhere else meanwhile, and so is the workspace's own main."""
        bare = self.place.bare
        assert git(bare, "rev-parse", "main") == self.place.main
        assert all(pull.base == "main" and pull.head == BRANCH for pull in self.repository.pulls)
        assert git(bare, "reflog", "show", "main") == ""
        assert set(self.place.refs()) <= {"refs/heads/main", f"refs/heads/{BRANCH}"}
        assert git(self.place.work, "rev-parse", "main") == self.place.main


def script(work: Path) -> list[Rule]:
    """What Claude is going to do: files, and once what it must not."""

    def write(name: str, content: str) -> Reply:
        return Reply([ToolUse("Write", {"file_path": str(work / name), "content": content})])

    mischief = "git checkout -q main && echo by-claude >> a.txt && git -c user.name=C -c user.email=c@x commit -qam C"
    return [
        Rule("^add jwt$", [write("src/jwt.ts", "export {}\n"), write("README", "a readme\n"), Reply([Text("Added.")])]),
        Rule("^better$", [write("src/jwt.ts", "export const jwt = 1\n"), Reply([Text("Better.")])]),
        Rule("^mischief$", [Reply([ToolUse("Bash", {"command": mischief})]), Reply([Text("Oh.")])]),
    ]


@pytest.mark.deadline(120)
async def test_a_conversation_becomes_commits_on_a_branch_of_its_own_and_main_never_moves(
    start_server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    place = Place(tmp_path.resolve() / "place")
    git(place.bare, "config", "core.logAllRefUpdates", "always")  # from now on: main has no entry
    git(place.bare, "config", "http.receivepack", "true")
    model.add(*script(place.work))
    await keep_secret(tmp_path, TOKEN)
    forge = GitHub()
    repository = forge.repositories.setdefault("org/repo", Repository(place.bare))
    with Server(forge):
        settings = {
            "storage": {"data_dir": str(tmp_path / "host")},
            "workspaces": {"roots": [str(place.root)]},
            "gitsync": {
                "allowed_remotes": [f"{forge.url}/*"],
                "credentials": [{"host": forge.host, "forge": True}],
                "forges": [{"host": forge.host, "kind": "github", "api_url": forge.api_url, "token": "forge"}],
            },
        }
        async with start_server(**settings) as server, HttpClient(server.http_url) as client:
            await _the_whole_way(Conversation(client, place, repository), f"{forge.url}/org/repo.git")
    assert TOKEN not in server.log_text


async def _the_whole_way(talk: Conversation, remote: str) -> None:
    await talk.call("register", remote=remote, branch="main", auto_commit=True)
    await talk.client.call(
        "claudecode.create",
        name="feature-auth",
        working_dir=str(talk.place.work),
        permission_mode="acceptEdits",
        allowed_tools=["Bash"],
    )
    first = await _a_chat_is_committed_by_itself(talk)
    await _what_it_changed_is_shown_and_brought_to_the_remote(talk, first)
    await _a_pull_request_is_made(talk, first)
    second = await _a_second_chat_goes_on_from_there(talk, first)
    await _the_pull_request_is_brought_up_to_date(talk, second)
    await _what_is_on_main_here_does_not_get_to_main_there(talk, second)


async def _a_chat_is_committed_by_itself(talk: Conversation) -> str:
    done = await talk.chat("add jwt")
    talk.check_main()
    work = talk.place.work
    status = await talk.call("status")
    assert (status["status"], status["branch"], status["work_branch"]) == ("no_remote", BRANCH, BRANCH)
    (made, before) = await talk.call("log")
    assert (made["commit"], made["subject"], made["parents"]) == (status["commit"], "add jwt", [talk.place.main])
    assert (made["author"], before["subject"]) == ("Clonk", "first")
    trailers = git(work, "log", "-1", "--format=%(trailers:only)").splitlines()
    assert trailers == ["Clonk-Session: feature-auth", f"Clonk-Snapshot: {done['snapshot_id']}"]
    assert set(talk.place.refs()) == {"refs/heads/main"}, "nothing is pushed unasked"
    return str(made["commit"])


async def _what_it_changed_is_shown_and_brought_to_the_remote(talk: Conversation, commit: str) -> None:
    assert await talk.call("diff") == ""
    diff = await talk.call("diff", against="main", format="files")
    assert [(one["path"], one["change"]) for one in diff["files"]] == [("README", "added"), ("src/jwt.ts", "added")]
    assert "+export {}" in await talk.call("diff", against="main", paths=["src"])
    answer = await talk.call("sync", message="of no use: it is committed")
    assert answer == {
        "status": "pushed",
        "commit": commit[:7],
        "branch": BRANCH,
        "remote": "origin",
        "files_changed": 2,
        "insertions": 2,
        "deletions": 0,
    }
    assert talk.place.refs()[f"refs/heads/{BRANCH}"] == commit
    assert (await talk.call("status"))["status"] == "clean"


async def _a_pull_request_is_made(talk: Conversation, commit: str) -> None:
    made = await talk.call("create_pr", title="Add JWT validation", body="So that nobody else comes in.")
    told = [made[name] for name in ("number", "state", "head", "base", "commit", "created", "pushed")]
    assert told == [1, "open", BRANCH, "main", commit, True, False]
    assert (await talk.call("get_pr"))["title"] == "Add JWT validation"


async def _the_pull_request_is_brought_up_to_date(talk: Conversation, commit: str) -> None:
    again = await talk.call("create_pr", title="Add better JWT validation", body="All of it.", draft=False)
    assert [again[name] for name in ("number", "created", "commit")] == [1, False, commit]
    (listed,) = (await talk.call("list_prs"))["requests"]
    assert (listed["number"], listed["title"], listed["head"]) == (1, "Add better JWT validation", BRANCH)
    assert len(talk.repository.pulls) == 1


async def _a_second_chat_goes_on_from_there(talk: Conversation, first: str) -> str:
    await talk.call("update", auto_push=True)
    await talk.chat("better")
    status = await talk.call("status")
    assert status["branch"] == BRANCH
    # Pushed by itself, soon; or by this, in its place.
    assert (await talk.call("sync"))["status"] in {"pushed", "up_to_date"}
    second = talk.place.refs()[f"refs/heads/{BRANCH}"]
    assert second == status["commit"]
    assert git(talk.place.bare, "rev-parse", f"{second}^") == first
    assert git(talk.place.bare, "show", f"{second}:src/jwt.ts") == "export const jwt = 1"
    return second


async def _what_is_on_main_here_does_not_get_to_main_there(talk: Conversation, before: str) -> None:
    """Claude goes to main by itself and commits there. It gets to a branch of Clonk's own; the remote's main stays."""
    place = talk.place
    await talk.chat("mischief")
    assert git(place.work, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(place.work, "rev-parse", "main") != place.main
    answer = await talk.client.call("gitsync.sync", path=str(place.work))
    assert (answer["status"], answer["branch"]) == ("pushed", "claude/work")
    for params in ({"branch": "main"}, {"branch": "main", "force": True}, {"branch": "refs/heads/main"}):
        with pytest.raises(RemoteError) as refused:
            await talk.client.call("gitsync.push", path=str(place.work), **params)
        assert refused.value.kind == "gitsync.branch_protected"
    theirs = {"refs/heads/main": place.main, f"refs/heads/{BRANCH}": before}
    assert place.refs() == {**theirs, "refs/heads/claude/work": git(place.work, "rev-parse", "main")}
    assert git(place.bare, "reflog", "show", "main") == ""
