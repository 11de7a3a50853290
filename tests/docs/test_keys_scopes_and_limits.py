"""The how-to "Keys, scopes and limits" says which scope opens which method, and what a pattern is compared with."""

import re
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from clonk_core.app import draw, open_app
from clonk_core.methods import Method

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "keys-scopes-and-limits.md"
MODES = {"claudecode:bypass"}
"""Scopes that open no method but something that a method does."""


@pytest.fixture
async def methods(tmp_path: Path) -> Sequence[Method]:
    """Every method of the installed plugins."""
    blueprint = draw(environ={"CLONK_STORAGE__DATA_DIR": str(tmp_path)})
    async with open_app(blueprint) as app:
        return app.realm.registry.methods


def rows(header: str) -> list[tuple[list[str], str]]:
    """Return the rows of a table of two columns: what is in backticks in the first, and the second."""
    table = PAGE.read_text().split(f"| {header} |\n", 1)[1].split("\n\n", 1)[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    return [(re.findall("`(.*?)`", first), second) for first, second in cells]


def whole(names: Sequence[str], namespace: str) -> list[str]:
    """Return names of methods with their namespace, which a list names once."""
    found: list[str] = []
    for name in names:
        namespace = name.rpartition(".")[0] or namespace
        found.append(name if "." in name else f"{namespace}.{name}")
    return found


async def test_the_table_of_scopes_is_that_of_the_methods(methods: Sequence[Method]) -> None:
    told: dict[str, set[str]] = {}
    for scopes, opens in rows("scope | opens"):
        for scope in scopes:
            if scope.endswith(":*") or scope in MODES:
                continue
            own = "the method of that name" in opens
            names = [scope.replace(":", ".")] if own else whole(re.findall("`(.*?)`", opens), scope.split(":")[0])
            told[scope] = set(names)
    found: dict[str, set[str]] = defaultdict(set)
    for method in methods:
        for scope in () if method.public else method.scopes:
            found[scope].add(method.name)
    assert told == found


async def test_methods_that_need_no_scope_are_named(methods: Sequence[Method]) -> None:
    text = PAGE.read_text()
    for_all = re.search(r"Every caller that is known may call (.*?), and what strangers may", text, re.DOTALL)
    for_strangers = re.search(r"Without a credential one may call (.*?), and look at", text, re.DOTALL)
    assert for_all is not None
    assert for_strangers is not None
    assert set(re.findall("`(.*?)`", for_strangers[1])) == {one.name for one in methods if one.anonymous}
    assert set(re.findall("`(.*?)`", for_all[1])) == {one.name for one in methods if one.public and not one.anonymous}


async def test_the_table_of_patterns_has_every_method_that_can_be_narrowed(methods: Sequence[Method]) -> None:
    told = [name for names, _ in rows("method | the pattern is compared with") for name in whole(names, "")]
    can = {method.name for method in methods if method.target or method.narrows}
    assert {name for name in can if not any(fnmatchcase(name, pattern) for pattern in told)} == set()
    assert {pattern for pattern in told if not any(fnmatchcase(name, pattern) for name in can)} == set()
