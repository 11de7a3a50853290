"""`clonk keys`: API keys of a data directory, with a server beside it and without one."""

import hashlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, wrap_client_stream

Clonk = Callable[..., Any]

NOTICED_WITHIN_S = 5.0
"""What the documentation promises of a running server."""

SECRET = r"clonk_ci_[A-Za-z0-9_-]{43}"


@pytest.fixture
def folder(place: Any) -> Path:
    found: Path = place.folder / "data"
    return found


@pytest.fixture
def key(clonk: Clonk) -> str:
    """A key `ci` for everything."""
    return str(clonk("keys", "create", "ci", "--scope", "*").out.strip())


def whoami(url: str, key: str) -> tuple[int, Any]:
    """Call a server with a key; return status and answer."""
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "auth.whoami"}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/mcp", data=call, headers=headers), timeout=30) as ok:
            return ok.status, json.load(ok)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_status(url: str, key: str, status: int) -> float:
    """Call until that is the answer; return how long it took, in seconds."""
    began = time.monotonic()
    while whoami(url, key)[0] != status:
        assert time.monotonic() - began < NOTICED_WITHIN_S
        time.sleep(0.1)
    return time.monotonic() - began


def rows(clonk: Clonk) -> list[Any]:
    """The audit log's rows about keys."""
    found: list[Any] = clonk("audit", "tail", "--json", "--kind", "key", "--limit", "100").lines
    return found


# ── making ───────────────────────────────────────────────────────────────────


def test_a_key_is_made_with_everything_that_can_be_said_of_it(clonk: Clonk, folder: Path) -> None:
    flags = "--scope claudecode:chat@ci-* --scope arbor:read --tenant default --rate-limit 100/min --burst 20"
    flags += " --bytes-limit 50MiB/min --max-runs 3 --allow-from 10.0.0.0/8 --allow-from ::1 --expires-in 90d"
    done = clonk("keys", "create", "ci", *flags.split(), "--description", "for CI", "--json")
    assert (done.code, done.err) == (0, "")
    made = done.json
    shown = clonk("keys", "show", "ci").json
    assert made["info"] == shown
    expected = {
        "id": "ci",
        "state": "good",
        "scopes": ["arbor:read", "claudecode:chat@ci-*"],
        "tenant": "default",
        "source": "database",
        "description": "for CI",
        "rate_limit": "100/min",
        "burst": 20,
        "bytes_limit": "50MiB/min",
        "max_runs": 3,
        "allowed_networks": ["10.0.0.0/8", "::1"],
        "created_by": "local",
        "rotated_at": None,
        "revoked_at": None,
    }
    assert {name: shown[name] for name in expected} == expected
    left = datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < left < timedelta(days=90)
    assert (folder.stat().st_mode & 0o777, (folder / "clonk.db").stat().st_mode & 0o077) == (0o700, 0)


def test_without_json_the_key_is_all_that_is_printed(clonk: Clonk) -> None:
    done = clonk("keys", "create", "ci", "--scope", "*")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1
    assert done.out.startswith("clonk_ci_")
    assert "clonk keys" in clonk("keys", "show", "ci").json["description"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("create", "KEY_ID"),
        ("create ci", "--scope"),
        ("create ci --scope", "--scope"),
        ("create ci --scope chat", "--scope"),
        ("create local --scope *", "KEY_ID"),
        ("create a/b --scope *", "KEY_ID"),
        ("create ci --scope * --rate-limit fast", "--rate-limit"),
        ("create ci --scope * --rate-limit 5MiB/s", "--rate-limit"),
        ("create ci --scope * --bytes-limit 5/s", "--bytes-limit"),
        ("create ci --scope * --rate-limit 5/s --burst 0", "--burst"),
        ("create ci --scope * --rate-limit 5/s --burst many", "--burst"),
        ("create ci --scope * --burst 5", "--burst"),
        ("create ci --scope * --max-runs=-1", "--max-runs"),
        ("create ci --scope * --allow-from 10.0.0.0/99", "--allow-from"),
        ("create ci --scope * --tenant a,b", "--tenant"),
        ("create ci --scope * --expires-in soon", "soon"),
        ("create ci --scope * --expires-in 0s", "--expires-in"),
        ("create ci --scope * --expires-in 999999999d", "36500d"),
        ("create ci --scope * --description " + "x" * 201, "--description"),
        ("create ci --scope * --nonsense", "--nonsense"),
        ("rotate ci --keep-old-for 31d", "30d"),
        ("rotate ci --keep-old-for 1", "10min"),
        ("show", "KEY_ID"),
        ("revoke", "KEY_ID"),
        ("hash", "standard input"),
        ("list --config nothing.yaml", "nothing.yaml"),
    ],
)
def test_a_wrong_word_is_told_in_one_line_with_code_2(clonk: Clonk, arguments: str, says: str) -> None:
    done = clonk("keys", *arguments.split())
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    # The configuration's problems have a line that says that they are such.
    assert len(done.err.removeprefix("clonk: the configuration is wrong:\n").splitlines()) == 1


def test_an_id_is_never_used_again(clonk: Clonk, key: str) -> None:
    for _ in range(2):
        done = clonk("keys", "create", "ci", "--scope", "*")
        assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
        assert "'ci' already" in done.err
        assert clonk("keys", "revoke", "ci").code == 0


def test_of_two_that_make_one_id_at_once_one_gets_it(place: Any, clonk: Clonk) -> None:
    makers = [place.start("keys", "create", name, "--scope", "*") for name in ("ci", "ci", "other", "another")]
    ends = [(*maker.communicate(timeout=60), maker.returncode) for maker in makers]
    assert sorted(code for _, _, code in ends) == [0, 0, 0, 1]
    assert sorted(len(out.split()) for out, _, _ in ends) == [0, 1, 1, 1]
    assert sorted(key["id"] for key in clonk("keys", "list", "--json").lines) == ["another", "ci", "other"]
    assert clonk("audit", "verify").code == 0


# ── looking, changing ────────────────────────────────────────────────────────


def test_keys_are_listed_for_people_and_for_programs(clonk: Clonk, place: Any, key: str) -> None:
    (place.folder / "fixed.yaml").write_text(
        (place.folder / "clonk.yaml").read_text()
        + f'auth: {{api_keys: [{{id: fixed, scopes: ["arbor:read"], secret_hash: "sha256:{"0" * 64}"}}]}}\n'
    )
    clonk("keys", "create", "gone", "--scope", "arbor:read", "--rate-limit", "5/s")
    clonk("keys", "revoke", "gone")
    columns = [line.split()[:3] for line in clonk("keys", "list", "--config", "fixed.yaml").out.splitlines()]
    assert columns == [["ci", "good", "*"], ["fixed", "good", "arbor:read"], ["gone", "revoked", "arbor:read"]]
    listed = clonk("keys", "list", "--json", "--config", "fixed.yaml").lines
    assert [one["source"] for one in listed] == ["database", "configuration", "database"]
    assert listed[2] == clonk("keys", "show", "gone").json
    for command in ("revoke", "rotate"):
        done = clonk("keys", command, "fixed", "--config", "fixed.yaml")
        assert (done.code, len(done.err.splitlines())) == (1, 1)
        assert "configuration file" in done.err


@pytest.mark.parametrize("command", ["show", "revoke", "rotate"])
def test_a_key_that_is_not_there_is_told_in_one_line_with_code_1(clonk: Clonk, command: str) -> None:
    done = clonk("keys", command, "nobody")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert "'nobody'" in done.err


def test_a_secret_is_replaced_and_the_old_one_stays_as_long_as_was_said(clonk: Clonk, key: str) -> None:
    after_an_hour = clonk("keys", "rotate", "ci", "--json").json
    assert after_an_hour["key"] not in (key, "")
    until = datetime.fromisoformat(after_an_hour["info"]["previous_until"])
    assert timedelta(minutes=59) < until - datetime.now(UTC) <= timedelta(hours=1)
    at_once = clonk("keys", "rotate", "ci", "--keep-old-for", "0s")
    assert at_once.out.strip() not in (key, after_an_hour["key"])
    assert datetime.fromisoformat(clonk("keys", "show", "ci").json["previous_until"]) <= datetime.now(UTC)
    clonk("keys", "revoke", "ci")
    assert clonk("keys", "rotate", "ci").code == 1


def test_a_hash_is_what_the_configuration_takes(clonk: Clonk, key: str) -> None:
    done = clonk("keys", "hash", stdin=f"{key}\n")
    assert (done.code, done.out) == (0, f"sha256:{hashlib.sha256(key.encode()).hexdigest()}\n")
    empty = clonk("keys", "hash", stdin="\n")
    assert (empty.code, empty.out) == (2, "")


def test_every_change_is_a_row_of_the_audit_log_and_no_secret_is_anywhere(clonk: Clonk, folder: Path, key: str) -> None:
    second = clonk("keys", "rotate", "ci", "--keep-old-for", "10min").out.strip()
    shown = [clonk("keys", *words).out for words in (("list",), ("list", "--json"), ("show", "ci"))]
    clonk("keys", "revoke", "ci")
    clonk("keys", "revoke", "nobody")
    found = rows(clonk)
    assert [row["action"] for row in found] == ["keys.create", "keys.rotate", "keys.revoke"]
    assert {(row["target"], row["caller"], row["peer"], row["outcome"]) for row in found} == {
        ("ci", "local", "command line", "ok")
    }
    assert found[0]["detail"] == {"scopes": ["*"], "tenant": "default"}
    kept = b"".join(path.read_bytes() for path in folder.glob("clonk.db*"))
    for text in (key, second):
        secret = text.removeprefix("clonk_ci_")
        assert secret.encode() not in kept
        assert not any(secret in one for one in (*shown, json.dumps(found)))


# ── where ────────────────────────────────────────────────────────────────────


def test_the_folder_is_the_one_that_is_named_and_is_made(clonk: Clonk, place: Any, folder: Path) -> None:
    assert clonk("keys", "create", "ci", "--scope", "*", "--data-dir", "new/below").code == 0
    (place.folder / "other.yaml").write_text("storage: {data_dir: new/below}\n")
    assert [key["id"] for key in clonk("keys", "list", "--json", "--config", "other.yaml").lines] == ["ci"]
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_told_in_one_line(clonk: Clonk, place: Any) -> None:
    (place.folder / "file").write_text("")
    wrong = [str(place.folder / "file"), "/proc/nothing"]
    if os.geteuid():
        (place.folder / "locked").mkdir(mode=0o500)
        wrong.append(str(place.folder / "locked"))
    for path in wrong:
        done = clonk("keys", "create", "ci", "--scope", "*", "--data-dir", path)
        assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
        assert path in done.err


def test_a_key_of_ones_own_in_the_environment_is_no_setting(clonk: Clonk, key: str) -> None:
    """What the first start tells to export must not stop the other commands."""
    for environ in ({"CLONK_API_KEY": key}, {"CLONK_API_KEY_FILE": "/nonexistent"}):
        for words in (("keys", "list"), ("config", "check"), ("doctor",), ("call", "hub.info", "--local")):
            done = clonk(*words, environ=environ)
            assert (done.code, "CLONK_API_KEY" in done.out + done.err) == (0, False)


def test_the_help_shows_what_a_scope_looks_like(clonk: Clonk) -> None:
    text = " ".join(clonk("keys", "create", "--help").out.replace("│", " ").split())
    assert "claudecode:chat, arbor:*, * or" in text
    assert "claudecode:chat@ci-*." in text
    assert "for ever when left out" in text
    for command in ("create", "list", "show", "revoke", "rotate", "hash"):
        assert command in clonk("keys", "--help").out
        assert clonk("keys", command, "--help").code == 0


# ── beside a server ──────────────────────────────────────────────────────────


async def _until_closed(url: str, key: str, change: Callable[[], Any]) -> tuple[int, str]:
    """Open a WebSocket with a key, do something, and return with what it was closed."""
    host, port = url.removeprefix("ws://").removesuffix("/ws").split(":")
    headers = [(b"Authorization", f"Bearer {key}".encode())]
    # The library leaves its socket open when the server closes first.
    async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as nursery:
        socket = await wrap_client_stream(nursery, stream, host, "/ws", extra_headers=headers)
        await socket.send_message('{"jsonrpc":"2.0","id":1,"method":"auth.whoami"}')
        assert json.loads(await socket.get_message())["result"]["caller"] == "ci"
        await trio.to_thread.run_sync(change)
        with trio.fail_after(NOTICED_WITHIN_S):
            with pytest.raises(ConnectionClosed):
                while True:
                    await socket.get_message()
        assert socket.closed is not None
        return socket.closed.code, str(socket.closed.reason)


def test_a_running_server_notices_every_change(guarded: Any, served: Any, clonk: Clonk) -> None:
    key = clonk("keys", "create", "ci", "--scope", "hub:read").out.strip()
    wait_status(served.url, key, 200)
    assert whoami(served.url, key)[1]["result"]["scopes"] == ["hub:read"]

    second = clonk("keys", "rotate", "ci").out.strip()
    wait_status(served.url, second, 200)
    assert whoami(served.url, key)[0] == 200
    third = clonk("keys", "rotate", "ci", "--keep-old-for", "0s").out.strip()
    wait_status(served.url, third, 200)
    assert {whoami(served.url, old)[0] for old in (key, second)} == {401}

    code, reason = trio.run(_until_closed, served.websocket_url, third, lambda: clonk("keys", "revoke", "ci"))
    assert code == 1008
    assert "revoked" in reason
    status, answer = whoami(served.url, third)
    assert (status, answer["error"]["data"]["kind"]) == (401, "unauthenticated")


def test_the_server_s_own_changes_are_seen_beside_it(guarded: Any, clonk: Clonk, key: str, request: Any) -> None:
    served = request.getfixturevalue("served")
    reach = ("--url", served.url)
    environ = {"CLONK_API_KEY": key}
    made = clonk("call", "keys.create", "id=more", 'scopes=["hub:read"]', "--json", *reach, environ=environ).json
    assert [one["id"] for one in clonk("keys", "list", "--json").lines] == ["ci", "more"]
    # Whatever `ci` has made goes with it, when that is said.
    assert clonk("keys", "revoke", "ci", "--made-too").code == 0
    wait_status(served.url, made["key"], 401)
    assert whoami(served.url, key)[0] == 401
    states = {one["id"]: one["state"] for one in clonk("keys", "list", "--json").lines}
    assert states == {"ci": "revoked", "more": "revoked"}
    assert [row["caller"] for row in rows(clonk)] == ["local", "ci", "local", "local"]
    assert clonk("audit", "verify").code == 0


def test_a_server_that_is_killed_leaves_the_keys_whole(guarded: Any, clonk: Clonk, key: str) -> None:
    process: subprocess.Popen[str] = guarded.start("serve")
    assert process.stderr is not None
    for line in process.stderr:
        if '"listening"' in line:
            break
    process.kill()
    process.wait(30)
    assert clonk("keys", "show", "ci").json["state"] == "good"
