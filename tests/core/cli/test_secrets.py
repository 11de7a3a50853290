"""`clonk secrets`: beside a server and without one; no value on any command line or in any answer."""

import base64
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clonk_core.cli.secrets import note_change
from clonk_core.gateway_messages import AuditEntry

Clonk = Callable[..., Any]
VALUE = "s3cret-value"

PLUGIN = '''
"""Shows what a plugin gets."""
from clonk_core.plugin import Activation, Host, hookimpl, method

class Keeper(Activation):
    """Keeper."""
    namespace = "keeper"

    def __init__(self, host: Host) -> None:
        self._host = host

    @method(scope="read")
    async def length(self, name: str) -> int | None:
        """Length of a secret."""
        value = await self._host.secret(name)
        return None if value is None else len(value)

@hookimpl
def clonk_activations(host):
    return [Keeper(host)]
'''


def test_a_secret_is_set_listed_and_deleted_and_never_shown(clonk: Clonk, place: Any) -> None:
    done = clonk("secrets", "set", "token", stdin=VALUE + "\n")
    assert (done.code, done.out, done.err) == (0, "token is set\n", "")
    listed = clonk("secrets", "list")
    assert listed.code == 0
    assert listed.out.startswith("token  ")
    (entry,) = clonk("secrets", "list", "--json").lines
    assert sorted(entry) == ["created_at", "key_id", "name", "updated_at"]
    assert entry["key_id"] in listed.out
    assert VALUE not in listed.out
    for path in (place.folder / "data").iterdir():
        assert VALUE.encode() not in path.read_bytes()
    done = clonk("secrets", "delete", "token")
    assert (done.code, done.out) == (0, "token is deleted\n")
    assert clonk("secrets", "list").out == ""
    again = clonk("secrets", "delete", "token")
    assert (again.code, again.out) == (1, "")
    assert "'token'" in again.err


def test_the_data_directory_and_the_configuration_can_be_named(clonk: Clonk, place: Any) -> None:
    (place.folder / "other.yaml").write_text("storage: {data_dir: other}\n")
    assert clonk("secrets", "set", "a", "--config", "other.yaml", stdin="1").code == 0
    assert clonk("secrets", "set", "b", "--data-dir", "third/and/below", stdin="2").code == 0
    assert "a  " in clonk("secrets", "list", "--data-dir", "other").out
    assert "b  " in clonk("secrets", "list", "--data-dir", "third/and/below").out
    assert clonk("secrets", "list").out == ""


@pytest.mark.parametrize(
    ("written", "length"),
    [("value", 5), ("value\n", 5), ("value\r\n", 5), ("value\n\n", 6), (" value ", 7), ("x" * 65536 + "\n", 65536)],
)
def test_one_line_end_is_dropped_from_input_and_files(clonk: Clonk, place: Any, written: str, length: int) -> None:
    (place.folder / "plugins" / "keeper.py").write_text(PLUGIN)
    (place.folder / "value").write_bytes(written.encode())
    assert clonk("secrets", "set", "from-file", "--file", "value").code == 0
    assert clonk("call", "keeper.length", "name=from-file", "--local").json == length


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (("set", "1token"), VALUE, "no name of a secret"),
        (("set", "to ken"), VALUE, "no name of a secret"),
        (("set", "token"), "", "0 bytes"),
        (("set", "token"), "\n", "0 bytes"),
        (("set", "token"), "s3cret-value" * 6000, "1 to 65536"),
        (("set", "token"), "s3cret-value\0", "zero byte"),
        (("set", "token", "--file", "nowhere"), "", "nowhere cannot be read"),
        (("delete", "to.ken"), "", "no name of a secret"),
        (("set", "token", "s3cret"), VALUE, "standard input"),
        (("set",), VALUE, "NAME"),
        (("rotate", "extra"), "", "extra"),
    ],
)
def test_wrong_usage_is_code_2_and_tells_no_value(
    clonk: Clonk, place: Any, arguments: tuple[str, ...], stdin: str, says: str
) -> None:
    done = clonk("secrets", *arguments, stdin=stdin)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert "s3cret" not in done.err
    assert not (place.folder / "data").exists()


def test_what_is_no_text_is_refused_and_not_told(clonk: Clonk, place: Any) -> None:
    (place.folder / "value").write_bytes(b"s3cret\xff")
    for debug in ({}, {"CLONK_DEBUG": "1"}):
        done = clonk("secrets", "set", "token", "--file", "value", environ=debug)
        assert done.code != 0
        assert "no text" in done.err
        assert "s3cret" not in done.err


def test_on_a_terminal_the_value_is_asked_for_and_not_shown(clonk: Clonk, place: Any) -> None:
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "clonk_core", "secrets", "set", "token"],
        cwd=place.folder,
        env=place.environ,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    shown = b""
    while b"token: " not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, VALUE.encode() + b"\n")
    while True:
        try:
            piece = os.read(terminal, 1000)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    assert process.wait(60) == 0
    assert b"token is set" in shown
    assert VALUE.encode() not in shown
    assert "token  " in clonk("secrets", "list").out


def test_a_running_server_finds_what_was_set_changed_and_rotated(clonk: Clonk, place: Any, request: Any) -> None:
    (place.folder / "plugins" / "keeper.py").write_text(PLUGIN)
    served = request.getfixturevalue("served")

    def length(name: str) -> Any:
        return clonk("call", "keeper.length", f"name={name}", "--url", served.url).json

    assert length("token") is None
    clonk("secrets", "set", "token", stdin="12345")
    assert length("token") == 5
    clonk("secrets", "set", "token", stdin="123")
    assert length("token") == 3
    rotated = clonk("secrets", "rotate")
    assert (rotated.code, rotated.err) == (0, "")
    assert rotated.out.startswith("1 secret is encrypted anew, under the key ")
    assert length("token") == 3
    clonk("secrets", "delete", "token")
    assert length("token") is None


def test_a_secret_that_cannot_be_read_is_unavailable_and_the_log_says_why(
    clonk: Clonk, place: Any, request: Any
) -> None:
    (place.folder / "plugins" / "keeper.py").write_text(PLUGIN)
    clonk("secrets", "set", "token", stdin=VALUE)
    (place.folder / "data" / "secret.key").unlink()
    served = request.getfixturevalue("served")
    done = clonk("call", "keeper.length", "name=token", "--url", served.url)
    assert done.code == 1
    assert "(unavailable)" in done.err
    assert "secret.key" not in done.err
    served.stop()
    assert any("secret.key" in line and "'token'" in line for line in served.log)


def test_a_configured_key_is_exchanged_with_the_old_one_named(clonk: Clonk, place: Any) -> None:
    config = place.folder / "clonk.yaml"
    config.write_text(config.read_text() + "secrets: {key_file: key}\n")
    done = clonk("secrets", "set", "token", stdin=VALUE)
    assert done.code == 2
    assert "secrets.key_file" in done.err
    for name in ("key", "new"):
        made = base64.b64encode(os.urandom(32))
        (place.folder / name).write_bytes(made)
        (place.folder / name).chmod(0o600)
    assert clonk("secrets", "set", "token", stdin=VALUE).code == 0
    (place.folder / "key").rename(place.folder / "old")
    (place.folder / "new").rename(place.folder / "key")
    assert "'token'" in clonk("secrets", "rotate").err
    done = clonk("secrets", "rotate", "--old-key-file", "old")
    assert (done.code, done.err) == (0, "")
    (place.folder / "old").unlink()
    assert clonk("secrets", "rotate").out.startswith("0 secrets are")
    assert not (place.folder / "data" / "secret.key").exists()
    (place.folder / "key").chmod(0o644)
    done = clonk("secrets", "set", "token", stdin=VALUE)
    assert done.code == 2
    assert "0644" in done.err


def test_a_rotation_that_was_cut_off_is_finished_by_the_next_command_or_start(
    clonk: Clonk, place: Any, request: Any
) -> None:
    data: Path = place.folder / "data"
    clonk("secrets", "set", "token", stdin=VALUE)
    before = clonk("secrets", "list", "--json").lines[0]["key_id"]
    for finish in ("command", "start"):
        # As a rotation that was killed before its commit leaves it.
        made = base64.b64encode(os.urandom(32))
        (data / "secret.key.new").write_bytes(made)
        (data / "secret.key.new").chmod(0o600)
        if finish == "start":
            request.getfixturevalue("served").stop()
            assert not (data / "secret.key.new").exists()
        after = clonk("secrets", "list", "--json").lines[0]["key_id"]
        assert not (data / "secret.key.new").exists()
        assert after != before
        before = after


def test_one_that_cannot_be_finished_is_told_and_stands_in_no_ones_way(clonk: Clonk, place: Any) -> None:
    data: Path = place.folder / "data"
    clonk("secrets", "set", "token", stdin=VALUE)
    clonk("secrets", "set", "other", stdin=VALUE)
    (data / "secret.key").rename(data / "secret.key.new")
    made = base64.b64encode(os.urandom(32))
    (data / "secret.key").write_bytes(made)
    (data / "secret.key").chmod(0o600)
    # The key that is in use is in the new one's place: that is how a rotation looks before its last step.
    assert clonk("secrets", "list").code == 0
    (data / "secret.key").write_bytes(made)
    (data / "secret.key.new").write_bytes(made)
    (data / "secret.key.new").chmod(0o600)
    done = clonk("secrets", "delete", "token")
    assert (done.code, done.out) == (0, "token is deleted\n")
    assert "cannot be finished" in done.err
    assert "'other'" in done.err


async def test_a_change_is_written_into_the_audit_log_when_there_is_one() -> None:
    entries: list[AuditEntry] = []

    class Writer:
        async def write(self, entry: AuditEntry) -> None:
            entries.append(entry)

    await note_change(None, "secrets set", tenant="default", target="token")
    await note_change(Writer(), "secrets rotate", tenant="one", count=2)
    (entry,) = entries
    assert (entry.kind, entry.action, entry.caller.tenant, entry.outcome) == ("secret", "secrets rotate", "one", "ok")
    assert json.dumps(dict(entry.detail)) == '{"count": 2}'
