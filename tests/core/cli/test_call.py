"""`clonk call` and its kin, in this process (`--local`) and against a running server."""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Clonk = Callable[..., Any]


@pytest.fixture(params=["local", "server"])
def reach(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Flags that say where calls go."""
    if request.param == "local":
        return ("--local",)
    return ("--url", request.getfixturevalue("shared_server").url)


def test_an_answer_is_printed_as_json(clonk: Clonk, reach: tuple[str, ...]) -> None:
    done = clonk("call", "dice.roll", "sides=20", *reach)
    assert (done.code, done.json, done.err) == (0, {"value": 20}, "")
    assert clonk("call", "dice.roll", "--json", *reach).out == '{"value":6}\n'


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("text=5",), "5"),
        (("text=5", "times=2"), "55"),
        (("text=a b=c", "times:=null"), "a b=c"),
        (("text=--not-a-flag",), "--not-a-flag"),
    ],
)
def test_arguments_are_read_by_the_methods_schema(clonk: Clonk, arguments: tuple[str, ...], answer: str) -> None:
    assert clonk("call", "dice.echo", *arguments, "--local").json == answer


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (("dice.rol",), "method_not_found", "dice.roll"),
        (("dice",), "method_not_found", "dice"),
        (("dice.roll", "sides=many"), "invalid_params", "sides"),
        (("dice.roll", "edges=5"), "invalid_params", "edges"),
        (("dice.busy",), "dice.table_busy", "the table is busy"),
    ],
)
def test_an_error_is_a_sentence_with_its_kind_and_code_1(
    clonk: Clonk, reach: tuple[str, ...], arguments: tuple[str, ...], kind: str, says: str
) -> None:
    done = clonk("call", *arguments, "--json", *reach)
    assert done.code == 1
    assert done.json["error"]["data"]["kind"] == kind
    assert says in done.err
    assert done.err.endswith(f"({kind})\n")
    assert len(done.err.splitlines()) == 1


def test_the_events_of_a_stream_are_printed_one_a_line(clonk: Clonk, reach: tuple[str, ...]) -> None:
    done = clonk("call", "dice.stream", "count=3", "--json", *reach)
    assert (done.code, done.err) == (0, "")
    assert [line["seq"] for line in done.lines] == [1, 2, 3, 4]
    assert [line["result"] for line in done.lines[:3]] == [{"value": 0}, {"value": 1}, {"value": 2}]
    assert done.lines[3]["result"]["outcome"] == "complete"
    assert len({line["subscription"] for line in done.lines}) == 1


def test_text_is_printed_as_text(clonk: Clonk, reach: tuple[str, ...]) -> None:
    done = clonk("call", "dice.talk", *reach)
    assert done.code == 0
    assert done.out.startswith("one two\n[done]")


def test_a_stream_that_fails_is_told_and_has_code_1(clonk: Clonk, reach: tuple[str, ...]) -> None:
    done = clonk("call", "dice.fall", "--json", *reach)
    assert done.code == 1
    assert done.lines[-1]["result"]["error"]["data"]["kind"] == "dice.table_busy"
    assert "the table is busy now (dice.table_busy)" in done.err


def test_a_durable_stream_that_is_left_can_be_resumed(place: Any, served: Any, clonk: Clonk) -> None:
    process = place.start("call", "dice.wait", "--json", "--url", served.url)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    hint = re.search(r"clonk call (rpc.resume subscription=\S+ after=[01]);", err)
    assert hint is not None
    done = clonk("call", "rpc.cancel", f"subscription={first['subscription']}", "--url", served.url)
    assert done.code == 0
    rest = clonk("call", *hint[1].split(), "--json", "--url", served.url)
    assert rest.code == 1
    assert rest.lines[-1]["result"]["outcome"] == "cancelled"


def test_without_a_server_it_says_how_to_start_one_and_has_code_3(clonk: Clonk) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        for arguments in (("call", "hub.info"), ("methods",), ("schema",), ("plugins",)):
            done = clonk(*arguments, environ={"CLONK_URL": url})
            assert (done.code, done.out) == (3, "")
            assert "clonk serve" in done.err
            assert url in done.err


def test_methods_are_listed_with_what_they_do(clonk: Clonk, reach: tuple[str, ...]) -> None:
    done = clonk("methods", "dice", *reach)
    assert done.code == 0
    assert "dice.roll" in done.out
    assert "Throw one die." in done.out
    assert [line["name"] for line in clonk("methods", "dice", "--json", *reach).lines][:2] == ["dice.busy", "dice.echo"]


def test_schemas_are_printed(clonk: Clonk, reach: tuple[str, ...]) -> None:
    page = clonk("schema", "dice.roll", *reach).json
    assert page["methods"][0]["params"]["properties"]["sides"]["type"] == "integer"
    assert clonk("schema", "--openrpc", *reach).json["openrpc"].startswith("1.")
    assert clonk("schema", "nothing.here", *reach).code == 1


def test_plugins_are_listed_and_a_broken_one_has_code_1(clonk: Clonk, place: Any) -> None:
    assert clonk("plugins", "--local").code == 0
    (place.folder / "plugins" / "broken.py").write_text("raise OSError('no luck')")
    done = clonk("plugins", "--json", "--local")
    assert done.code == 1
    states = {line["name"]: line["state"] for line in done.lines}
    assert (states["dice"], states["broken"], states["arbor"]) == ("loaded", "failed", "disabled")
    assert "no luck" in clonk("plugins", "--local").out


def test_ctrl_c_ends_a_local_call_at_once_and_cleanly(place: Any) -> None:
    process: subprocess.Popen[str] = place.start("call", "dice.wait", "--json", "--local")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
