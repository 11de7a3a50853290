"""What a forge does not do is told in its own words, by kind, without secrets, and nothing is sent elsewhere."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from clonk_core.plugin import CallError
from clonk_gitsync.forges import api
from tests.gitsync.forges.conftest import KINDS, OpenWorld, World
from tests.gitsync.forges.loopback.forge import READING, TOKEN, Answer
from tests.gitsync.forges.loopback.github import GitHub
from tests.gitsync.forges.loopback.serving import Server


async def error_of(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_wrong_token_is_told_as_such(open_world: OpenWorld, kind: str) -> None:
    async with open_world(KINDS[kind](), token="wrong-token-4713", committed=False) as world:
        error = await error_of(world.call("list_prs"))
        assert error.kind == "gitsync.forge_refused"
        assert (error.data["reason"], error.data["status"]) == ("authentication", 401)
        assert error.data["said"]
        assert "wrong-token-4713" not in world.host.log_text + error.message


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_token_that_may_only_read_reads_and_is_refused_the_rest(open_world: OpenWorld, kind: str) -> None:
    forge = KINDS[kind]()
    forge.git_tokens = {READING}
    async with open_world(forge, token=READING) as world:
        assert (await world.call("list_prs"))["requests"] == []
        error = await error_of(world.create())
        assert (error.kind, error.data["reason"], error.data["status"]) == ("gitsync.forge_refused", "forbidden", 403)


async def test_a_repository_that_the_forge_does_not_have_is_told_as_such(world: World) -> None:
    world.forge.repositories["org/moved"] = world.forge.repositories.pop("org/repo")
    error = await error_of(world.call("list_prs"))
    assert (error.kind, error.data["reason"], error.data["status"]) == ("gitsync.forge_refused", "not_found", 404)


async def test_a_base_that_is_no_branch_is_refused_in_the_forges_words(world: World) -> None:
    error = await error_of(world.create(base="nowhere"))
    expected = {
        "github": ("invalid", 422, "Validation Failed; base invalid"),
        "gitlab": ("invalid", 422, 'Target branch "nowhere" does not exist'),
        "gitea": ("not_found", 404, "The target couldn't be found."),
    }
    assert tuple(error.data[name] for name in ("reason", "status", "said")) == expected[world.forge.kind]
    assert (await error_of(world.create(base="-x"))).kind == "invalid_params"


async def test_a_reviewer_that_the_forge_does_not_know_is_refused_and_a_repeated_call_finishes(world: World) -> None:
    error = await error_of(world.create(reviewers=["nobody"]))
    expected = {"github": "gitsync.forge_refused", "gitlab": "invalid_params", "gitea": "gitsync.forge_refused"}
    assert error.kind == expected[world.forge.kind]
    answer = await world.create(reviewers=["alice"])
    assert (answer["number"], answer["reviewers"]) == (1, ["alice"])
    assert (await error_of(world.create(reviewers=["-x"]))).kind == "invalid_params"
    assert (await error_of(world.create(labels=["a,b"]))).kind == "invalid_params"


async def test_a_conflict_that_is_no_open_request_is_told_as_such(one_world: World) -> None:
    one_world.forge.next.append(("POST", "", Answer(status=409, value={"message": ["is locked"]})))
    error = await error_of(one_world.create())
    assert (error.data["reason"], error.data["status"], error.data["said"]) == ("conflict", 409, "is locked")


# ── Limits ────────────────────────────────────────────────────────────────────


async def test_a_limit_that_lasts_is_told_with_its_end(world: World) -> None:
    world.forge.next.append(("GET", "", world.forge.limited(900)))
    error = await error_of(world.call("list_prs"))
    assert error.kind == "gitsync.forge_limited"
    assert 880 <= error.data["retry_after_s"] <= 901
    assert len(world.forge.seen) == 1


async def test_a_limit_without_a_time_is_taken_for_a_minute(one_world: World) -> None:
    one_world.forge.next.append(("GET", "", Answer(status=429, value={"message": "slow down"})))
    assert (await error_of(one_world.call("list_prs"))).data["retry_after_s"] == 60


async def test_a_limit_that_is_over_soon_is_waited_for(open_world: OpenWorld) -> None:
    forge = GitHub()
    async with open_world(forge) as world:
        forge.next += [("POST", "/pulls$", forge.secondarily_limited(1)), ("POST", "/labels$", forge.limited(30))]
        assert (await world.create())["created"] is True
        # One whose end lies further ahead is not.
        assert (await error_of(world.create(labels=["bug"]))).kind == "gitsync.forge_limited"
        assert len(world.repository.pulls) == 1


# ── No answer ─────────────────────────────────────────────────────────────────


BROKEN: dict[str, tuple[Answer, str]] = {
    "gone": (Answer(status=0), "unreachable"),
    "error of the server": (Answer(status=502, value="<html>Bad gateway</html>"), "failed"),
    "page of a portal": (Answer(value="<html>Log in</html>"), "not_understood"),
    "no list": (Answer(value={"message": "hello"}), "not_understood"),
    "list of something else": (Answer(value=[{"id": 1}, 2]), "not_understood"),
    "deep": (Answer(value="[" * 100_000), "not_understood"),
    "empty": (Answer(status=204), "not_understood"),
    "a lead elsewhere": (Answer(status=307, headers={"Location": "/elsewhere"}), "redirected"),
}


async def test_what_is_no_answer_is_told_as_such_and_the_next_call_works(open_world: OpenWorld) -> None:
    async with open_world(KINDS["gitlab"](), committed=False) as world:
        for name, (answer, reason) in BROKEN.items():
            world.forge.next.append(("GET", "", answer))
            error = await error_of(world.call("list_prs"))
            assert (error.kind, error.data["reason"]) == ("gitsync.forge_failed", reason), name
            assert (await world.call("list_prs"))["requests"] == [], name


async def test_an_answer_that_is_too_large_or_too_slow_is_given_up(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(KINDS["gitea"](), committed=False) as world:
        monkeypatch.setattr(api, "MAX_ANSWER", 10_000)
        world.forge.next.append(("GET", "", Answer(value="x" * 100_000)))
        assert (await error_of(world.call("list_prs"))).data["reason"] == "too_large"
        monkeypatch.setattr(api, "REQUEST_S", 0.2)
        released = threading.Event()
        world.forge.before = lambda _request: bool(released.wait(30))
        assert (await error_of(world.call("list_prs"))).data["reason"] == "too_slow"
        released.set()


async def test_a_forge_where_nobody_listens_is_unreachable(open_world: OpenWorld) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        forge = KINDS["github"]()
        async with open_world(forge, committed=False, entry={"api_url": f"http://127.0.0.1:{port}/api/v3"}) as world:
            assert (await error_of(world.call("list_prs"))).data["reason"] == "unreachable"


async def test_a_forge_that_shows_no_trusted_certificate_is_not_spoken_to(open_world: OpenWorld) -> None:
    async with open_world(KINDS["github"](), committed=False, entry={"api_url": "https://{host}/api/v3"}) as world:
        assert (await error_of(world.call("list_prs"))).data["reason"] == "unreachable"
        assert TOKEN not in world.host.log_text


# ── Secrets ───────────────────────────────────────────────────────────────────


async def test_a_redirect_is_never_followed_with_the_token(world: World) -> None:
    elsewhere = GitHub()
    with Server(elsewhere):
        for status in (301, 302, 303, 307, 308):
            target = {"Location": f"{elsewhere.url}{world.forge.prefix}/repos/org/repo/pulls"}
            world.forge.next.append(("GET", "", Answer(status=status, headers=target)))
            error = await error_of(world.call("list_prs"))
            assert error.data["reason"] == "redirected"
        # Nor is a page behind a link that leads elsewhere.
        link = {"Link": f'<{elsewhere.api_url}/next?page=2>; rel="next"'}
        world.forge.next.append(("GET", "", Answer(value=[], headers=link)))
        page = await world.call("list_prs")
        await world.call("list_prs", after=page["after"])
        assert elsewhere.seen == []
        assert world.forge.seen[-1].query["page"] == "2"


async def test_the_token_is_in_no_log_error_answer_audit_row_or_file(world: World, tmp_path: Path) -> None:
    echo = Answer(status=422, value={"message": f"what is {TOKEN}?", "errors": [f"Bearer {TOKEN}"]})
    world.forge.next.append(("POST", "", echo))
    error = await error_of(world.create())
    assert "***" in error.data["said"]
    answer = await world.create()
    world.forge.next.append(("GET", "", Answer(status=0)))
    unreachable = await error_of(world.call("get_pr"))
    rows = await world.host.client.call("audit.query", after=0)
    assert any(row["action"] == "gitsync.create_pr" for row in rows)
    told = [error.message, json.dumps(error.data), unreachable.message, json.dumps([answer, rows]), world.host.log_text]
    assert not any(TOKEN in text for text in told)
    for folder in (world.place.work, tmp_path / "host", world.place.bare):
        for file in folder.rglob("*"):
            assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    assert all(TOKEN not in f"{one.path}{one.query}{one.body}" for one in world.forge.seen)


@pytest.mark.parametrize("token", ["two\nlines", "ümlaut-token", "x" * 20_000])
async def test_a_secret_that_is_no_token_is_told_without_showing_it(open_world: OpenWorld, token: str) -> None:
    async with open_world(KINDS["github"](), token=token, committed=False) as world:
        error = await error_of(world.call("list_prs"))
        assert (error.kind, error.data["name"]) == ("unavailable", "forge")
        assert token not in world.host.log_text + error.message
        assert not world.forge.seen


async def test_a_forge_without_its_secret_names_it(open_world: OpenWorld) -> None:
    async with open_world(KINDS["github"](), entry={"token": "missing"}, committed=False) as world:
        error = await error_of(world.call("list_prs"))
        assert (error.kind, error.data["name"]) == ("unavailable", "missing")


@pytest.mark.parametrize("entry", [{"host": "example.com"}, {"kind": "nowhere"}])
async def test_a_host_without_a_forge_is_told_as_such(open_world: OpenWorld, entry: dict[str, Any]) -> None:
    async with open_world(KINDS["github"](), entry=entry, committed=False) as world:
        error = await error_of(world.call("list_prs"))
        assert (error.kind, error.data["host"]) == ("gitsync.no_forge", world.forge.host)
        assert not world.forge.seen
