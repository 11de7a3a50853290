"""Scopes: what one covers, also where it is narrowed to some targets."""

import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from clonk_core.errors import Forbidden, SchemaError, Unauthenticated
from clonk_core.gateway.scopes import check_scope, target_of
from clonk_core.messages import STRANGER, Caller
from clonk_core.methods import Method
from clonk_core.names import SCOPE, scope_allows, scope_covers
from clonk_core.plugin import Activation, method
from clonk_core.schema.registry import Registry


class Rooms(Activation):
    """Rooms."""

    namespace = "rooms"

    @method(target="name")
    async def enter(self, name: str, loudly: bool = False) -> None:
        """Enter."""

    @method(scope=("read", "enter"), target="name")
    async def look(self, name: str) -> None:
        """Look."""

    @method(scope="read")
    async def count(self) -> None:
        """Count all rooms."""

    @method(scope="read", narrows=True)
    async def list(self) -> None:
        """List rooms."""

    @method(public=True)
    async def hours(self) -> None:
        """When they are open."""

    @method(anonymous=True)
    async def door(self) -> None:
        """Where the door is."""

    @method(target="path")
    async def open_path(self, path: Path | None = None) -> None:
        """Open a path."""


@pytest.fixture
def methods() -> dict[str, Method]:
    return {one.name.partition(".")[2]: one for one in Registry().add(Rooms())}


def caller(*scopes: str) -> Caller:
    return Caller(id="k", kind="key", scopes=frozenset(scopes))


def allowed(who: Caller, method: Method, params: Any = None) -> bool:
    try:
        check_scope(who, method, params)
    except (Forbidden, Unauthenticated):
        return False
    return True


@pytest.mark.parametrize(
    ("held", "wanted", "covered"),
    [
        ("*", "rooms:enter", True),
        ("rooms:*", "rooms:enter", True),
        ("rooms:enter", "rooms:enter", True),
        ("rooms:read", "rooms:enter", False),
        ("room:*", "rooms:enter", False),
        ("rooms:enter@a-*", "rooms:enter", False),
        ("other:*", "rooms:enter", False),
    ],
)
def test_a_scope_covers_itself_and_what_is_below_it(held: str, wanted: str, covered: bool) -> None:
    assert scope_allows(frozenset({held}), wanted) is covered


@pytest.mark.parametrize(
    ("scope", "target", "covered"),
    [
        ("rooms:enter@ci-*", "ci-1", True),
        ("rooms:enter@ci-*", "prod", False),
        ("rooms:enter@ci-*", "xci-1", False),
        ("rooms:enter@ci-?", "ci-12", False),
        ("rooms:enter@[ab]*", "a1", True),
        ("rooms:*@ci-*", "ci-1", True),
        ("*@ci-*", "ci-1", True),
        ("*@ci-*", "prod", False),
        ("rooms:read@ci-*", "ci-1", False),
        ("rooms:enter@CI-*", "ci-1", False),
    ],
)
def test_a_narrowed_scope_covers_the_targets_of_its_pattern(scope: str, target: str, covered: bool) -> None:
    assert scope_allows(frozenset({scope}), "rooms:enter", target) is covered


def test_a_narrowed_caller_reaches_its_targets_however_the_argument_is_given(methods: dict[str, Method]) -> None:
    who = caller("rooms:enter@ci-*")
    assert allowed(who, methods["enter"], {"name": "ci-1"})
    assert allowed(who, methods["enter"], ["ci-1"])
    for params in (None, {}, [], {"name": "prod"}, ["prod"], {"name": 1}, {"name": None}, {"name": ["ci-1"]}, "ci-1"):
        assert not allowed(who, methods["enter"], params)


def test_one_of_several_scopes_is_enough(methods: dict[str, Method]) -> None:
    assert allowed(caller("rooms:enter"), methods["look"], {"name": "x"})
    assert allowed(caller("rooms:read"), methods["look"], {"name": "x"})
    assert allowed(caller("rooms:enter@a*"), methods["look"], {"name": "ab"})
    assert not allowed(caller("rooms:enter@a*"), methods["look"], {"name": "b"})


def test_what_has_no_target_is_closed_to_narrowed_callers_unless_it_narrows_itself(methods: dict[str, Method]) -> None:
    who = caller("rooms:read@ci-*")
    assert not allowed(who, methods["count"])
    assert not methods["count"].may_be_called_by(who)
    assert allowed(who, methods["list"])
    assert methods["list"].may_be_called_by(who)


def test_strangers_reach_only_what_is_anonymous(methods: dict[str, Method]) -> None:
    reached = {name for name, one in methods.items() if allowed(STRANGER, one, {})}
    assert reached == {"door"}
    assert {name for name, one in methods.items() if one.may_be_called_by(STRANGER)} == {"door"}
    nobody = caller()
    assert {name for name, one in methods.items() if allowed(nobody, one, {})} == {"door", "hours"}


def test_what_is_shown_is_what_may_be_called(methods: dict[str, Method]) -> None:
    for scopes in ((), ("*",), ("rooms:*",), ("rooms:read",), ("rooms:enter",), ("rooms:enter@*",), ("other:*",)):
        who = caller(*scopes)
        for one in methods.values():
            assert one.may_be_called_by(who) == allowed(who, one, {"name": "any", "path": "/any"}), (scopes, one.name)


def test_paths_are_resolved_before_they_are_compared(methods: dict[str, Method], tmp_path: Path) -> None:
    (tmp_path / "ci-1").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "ci-link").symlink_to(tmp_path / "secret")
    who = caller(f"rooms:open_path@{os.path.realpath(tmp_path)}/ci-*")
    assert allowed(who, methods["open_path"], {"path": str(tmp_path / "ci-1")})
    for path in (tmp_path / "ci-1" / ".." / "secret", tmp_path / "ci-link", tmp_path / "secret", "ci-1", "x\0y"):
        assert not allowed(who, methods["open_path"], {"path": str(path)})


def test_the_target_of_a_call_without_one_is_none(methods: dict[str, Method]) -> None:
    assert target_of(methods["count"], {"name": "a"}) is None
    assert target_of(methods["enter"], {"name": "a"}) == "a"


@pytest.mark.parametrize("scope", ["*", "a:*", "a:b", "a:b@x*", "*@x", "a_1:b_2"])
def test_what_is_a_scope(scope: str) -> None:
    assert SCOPE.fullmatch(scope)


@pytest.mark.parametrize("scope", ["", "a", "A:b", "a:", ":b", "a:b@", "a:b@x y", "a:b@x@y", "a:b\n", "**", "a.b:c"])
def test_what_is_none(scope: str) -> None:
    assert not SCOPE.fullmatch(scope)


@pytest.mark.parametrize(
    ("held", "given", "covers"),
    [
        ("*", "*", True),
        ("*", "a:b@x", True),
        ("a:*", "a:b", True),
        ("a:*", "a:*", True),
        ("a:b", "a:b@x*", True),
        ("a:*", "*", False),
        ("a:*", "*@x", False),
        ("a:b", "a:*", False),
        ("a:b@x*", "a:b", False),
        ("a:b@x*", "a:b@x*", True),
        ("a:b@x*", "a:b@y*", False),
        ("a:*", "ab:c", False),
        ("a:b@x*", "a:b@x1", True),
        ("a:*@x*", "a:b@x1", True),
        ("a:*@x*", "a:*@x1", True),
        ("*@x*", "a:b@x1", True),
        ("*@x*", "*@x1", True),
        ("a:b@x*", "a:b@y1", False),
        ("a:b@x*", "a:*@x1", False),
        ("a:b@x*", "*@x1", False),
        ("a:b@x?", "a:b@x*", False),
        ("a:b@x[ab]", "a:b@x[ab]?", False),
        ("a:b@*x", "a:b@[*]x", False),
    ],
)
def test_a_scope_that_is_given_on_is_no_more_than_the_giver_holds(held: str, given: str, covers: bool) -> None:
    assert scope_covers(frozenset({held}), given) is covers


def test_a_target_that_is_no_parameter_and_scopes_that_are_none_are_refused_at_load() -> None:
    class Wrong(Activation):
        """Wrong."""

        namespace = "wrong"

        @method(target="nowhere")
        async def go(self, name: str) -> None:
            """Go."""

    class Empty(Activation):
        """Empty."""

        namespace = "empty"

        @method(scope=())
        async def go(self) -> None:
            """Go."""

    for activation in (Wrong(), Empty()):
        with pytest.raises(SchemaError, match=r"\.go: "):
            Registry().add(activation)


def test_methods_know_all_their_scopes(methods: dict[str, Method]) -> None:
    assert methods["look"].scopes == ("rooms:read", "rooms:enter")
    assert attrs.evolve(methods["look"], also_scopes=()).scopes == ("rooms:read",)
