"""`clonk call` and its kin against a server that asks who calls: with a key, a wrong one, none, and too small a one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Clonk = Callable[..., Any]

COMMANDS = [("call", "dice.roll"), ("call", "dice.stream", "count=1"), ("methods",), ("schema",), ("plugins",)]

KEYS = """
auth:
  api_keys:
    - {id: all, scopes: ["*"], secret_hash: "sha256:%s"}
    - {id: small, scopes: ["arbor:read"], secret_hash: "sha256:%s"}
"""


def secret(key_id: str) -> str:
    return f"clonk_{key_id}_of-the-test"


@pytest.fixture
def url(guarded: Any, clonk: Clonk, request: pytest.FixtureRequest) -> str:
    """A server with two keys of its configuration."""
    hashes = [clonk("keys", "hash", stdin=secret(key_id)).out.strip().removeprefix("sha256:") for key_id in KEY_IDS]
    with (guarded.folder / "clonk.yaml").open("a") as file:
        file.write(KEYS % tuple(hashes))
    return str(request.getfixturevalue("served").url)


KEY_IDS = ("all", "small")


def test_a_key_is_taken_from_the_environment_or_a_file(url: str, clonk: Clonk, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(secret("all") + "\n")
    for environ in (
        {"CLONK_API_KEY": secret("all")},
        {"CLONK_API_KEY": f" {secret('all')}\n", "CLONK_API_KEY_FILE": "/nonexistent"},
        {"CLONK_API_KEY_FILE": str(tmp_path / "key")},
    ):
        done = clonk("call", "auth.whoami", "--json", environ={"CLONK_URL": url, **environ})
        assert (done.code, done.json["caller"], done.err) == (0, "all", "")
    environ = {"CLONK_URL": url, "CLONK_API_KEY": secret("all")}
    for command in COMMANDS:
        done = clonk(*command, environ=environ)
        assert (done.code, done.err) == (0, "")
        assert done.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_without_a_good_key_one_line_says_which_variable_to_look_at(
    url: str, clonk: Clonk, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "wrong").write_text("clonk_nobody_wrong\n")
    for environ, says in (
        ({}, "set CLONK_API_KEY, or CLONK_API_KEY_FILE"),
        ({"CLONK_API_KEY": "clonk_nobody_wrong"}, "not known, or is good no more; look at CLONK_API_KEY "),
        ({"CLONK_API_KEY_FILE": str(tmp_path / "wrong")}, "look at CLONK_API_KEY_FILE "),
    ):
        done = clonk(*command, environ={"CLONK_URL": url, **environ})
        assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
        assert says in done.err
        assert done.err.endswith(" (unauthenticated)\n")


def test_a_file_without_a_key_is_told_with_its_variable(url: str, clonk: Clonk) -> None:
    for path, says in (("/nonexistent", "/nonexistent cannot be read"), (os.devnull, f"no key in {os.devnull}")):
        done = clonk("call", "hub.info", environ={"CLONK_URL": url, "CLONK_API_KEY_FILE": path})
        assert (done.code, done.out) == (2, "")
        assert "CLONK_API_KEY_FILE: " in done.err
        assert says in done.err


def test_programs_get_the_refusal_as_json(url: str, clonk: Clonk) -> None:
    done = clonk("call", "dice.roll", "--json", environ={"CLONK_URL": url})
    assert (done.code, done.json["error"]["code"]) == (1, 401)
    assert done.json["error"]["data"] == {"kind": "unauthenticated"}


@pytest.mark.parametrize(
    ("arguments", "scope"),
    [
        (("dice.roll",), "dice:read"),
        (("dice.roll", "sides=20"), "dice:read"),
        (("dice.roll", "no-equals-sign"), "dice:read"),
        (("dice.stream", "count=1"), "dice:read"),
        (("dice.busy",), "dice:busy"),
        (("keys.list",), "keys:admin"),
    ],
)
def test_a_key_that_may_not_is_told_which_scope_it_lacks(
    url: str, clonk: Clonk, arguments: tuple[str, ...], scope: str
) -> None:
    environ = {"CLONK_URL": url, "CLONK_API_KEY": secret("small")}
    done = clonk("call", *arguments, "--json", environ=environ)
    assert (done.code, done.json["error"]["data"]["kind"]) == (1, "forbidden")
    assert done.json["error"]["data"]["scope"] == scope
    assert len(done.err.splitlines()) == 1
    assert f"'{scope}'" in done.err


def test_a_key_sees_the_methods_it_may_call_alone(url: str, clonk: Clonk) -> None:
    environ = {"CLONK_URL": url, "CLONK_API_KEY": secret("small")}
    names = {line["name"] for line in clonk("methods", "--json", environ=environ).lines}
    assert {"auth.whoami", "hub.info"} <= names
    assert not {name for name in names if name.startswith(("dice.", "keys."))}
    unknown = clonk("call", "dice.rol", "--json", environ=environ)
    assert (unknown.code, unknown.json["error"]["data"]["kind"]) == (1, "method_not_found")
    forbidden = clonk("plugins", environ=environ)
    assert (forbidden.code, forbidden.out, len(forbidden.err.splitlines())) == (1, "", 1)
    assert "'hub:read'" in forbidden.err
    assert json.loads(clonk("schema", "hub.info", environ=environ).out)["methods"][0]["name"] == "hub.info"
