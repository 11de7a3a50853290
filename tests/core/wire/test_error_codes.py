"""The table of error numbers: every leaf has its own, subclasses inherit, and nothing in an error breaks an answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonk_core import errors
from clonk_core.errors import CallError, Conflict, InvalidParams, MethodNotFound, NotFound, StorageFull, Unavailable
from clonk_core.messages import ErrorObject
from clonk_core.wire.error_codes import (
    CODES,
    code_and_status,
    code_of,
    error_from_object,
    error_object,
    http_status,
    kinds,
)
from clonk_core.wire.jsonrpc import error_bytes


class SessionBusy(Conflict):
    """The session is answering."""

    kind = "claudecode.session_busy"


def leaves(base: type[CallError]) -> list[type[CallError]]:
    return [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, base) and kind is not base
    ]


def test_every_error_of_the_tree_has_its_own_line() -> None:
    assert set(leaves(CallError)) | {CallError} == set(CODES)


def test_our_own_numbers_stay_out_of_the_reserved_range() -> None:
    protocol = {"parse_error", "invalid_request", "method_not_found", "invalid_params", "internal"}
    for code, kind, _, meaning in kinds():
        assert (-32768 <= code <= -32000) == (kind in protocol)
        assert meaning


def test_an_activations_error_has_the_number_of_its_leaf_and_its_own_kind() -> None:
    found = error_object(SessionBusy("busy", subscription="sub_1"))
    assert (found.code, found.data) == (409, {"kind": "claudecode.session_busy", "subscription": "sub_1"})
    assert code_and_status(SessionBusy) == (409, 200)
    assert http_status(StorageFull("full")) == http_status(Unavailable("gone")) == 503


def test_an_error_of_no_leaf_has_a_number_all_the_same() -> None:
    class Odd(CallError):
        kind = "odd"

    assert code_of(Odd) == code_of(CallError)


@given(
    st.text(),
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.just(Path("/x")) | st.just(object()),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner) | st.frozensets(st.text())
            ),
            max_leaves=6,
        ),
        max_size=3,
    ),
)
def test_no_message_and_no_data_break_the_answer(message: str, data: dict[str, Any]) -> None:
    error = Conflict(message)
    error.data = data
    assert json.loads(error_bytes(1, error))["error"]["code"] == 409


def test_data_that_holds_itself_does_not_break_the_answer() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert json.loads(error_bytes(1, Conflict("x", loop=loop)))["error"]["code"] == 409


@pytest.mark.parametrize(
    "error",
    [
        NotFound("gone", name="x"),
        MethodNotFound("dice.rol", ["dice.roll"]),
        InvalidParams("required field missing", path="$.name", method="dice.roll"),
        SessionBusy("busy", subscription="sub_1"),
        StorageFull("full"),
    ],
)
def test_an_error_survives_the_way_to_a_client(error: CallError) -> None:
    back = error_from_object(error_object(error))
    leaf = next(kind for kind in type(error).__mro__ if kind in CODES)
    assert isinstance(back, leaf)
    assert (back.kind, back.message, back.data) == (error.kind, error.message, error.data)
    assert str(back) == str(error)


def test_an_error_of_an_unknown_kind_and_number_is_a_call_error() -> None:
    back = error_from_object(ErrorObject(code=12345, message="?", data={}))
    assert (type(back).__mro__[1], back.message) in ((CallError, "?"), (errors.ClonkError, "?"))
