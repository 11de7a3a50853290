"""The client's half: what a server sends is read, and nothing else."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonk_core.errors import ActivationError, Conflict, NotFound, ParseError, StorageFull
from clonk_core.messages import Request
from clonk_core.wire.jsonrpc import Frames, batch_bytes, error_bytes, parse, reply_bytes
from clonk_core.wire.peer import (
    EventCame,
    Failed,
    SubscriptionFailed,
    Succeeded,
    parse_from_server,
    request_bytes,
)


def test_a_request_goes_there_and_its_answer_comes_back() -> None:
    sent = parse(request_bytes("dice.roll", {"sides": 6, "where": Path("/x")}, 7))
    assert isinstance(sent, Request)
    assert (sent.method, sent.params, sent.id) == ("dice.roll", {"sides": 6, "where": "/x"}, 7)
    assert parse_from_server(reply_bytes(sent.id, b'{"value":3}')) == (Succeeded(id=7, result={"value": 3}),)


def test_a_request_without_an_id_is_a_notification() -> None:
    sent = parse(request_bytes("dice.roll"))
    assert isinstance(sent, Request)
    assert sent.is_notification


def test_arguments_that_json_has_no_word_for_are_refused() -> None:
    with pytest.raises(ActivationError):
        request_bytes("dice.roll", {"sides": float("nan")}, 1)


def test_a_failure_comes_back_with_its_kind() -> None:
    [found] = parse_from_server(error_bytes("x", NotFound("gone")))
    assert isinstance(found, Failed)
    assert (found.id, found.error.code, found.error.data["kind"]) == ("x", 404, "not_found")


def test_events_and_the_failure_of_a_subscription_are_told_apart() -> None:
    frames = Frames("sub_1")
    assert parse_from_server(frames.event(4, b"[1]")) == (EventCame(subscription="sub_1", seq=4, result=[1]),)
    [failed] = parse_from_server(frames.error(StorageFull("full")))
    assert isinstance(failed, SubscriptionFailed)
    assert failed.error.data["kind"] == "storage_full"


def test_the_answer_to_a_batch_has_several_items() -> None:
    found = parse_from_server(batch_bytes([reply_bytes(1, b"1"), error_bytes(2, Conflict("x"))]))
    assert isinstance(found[0], Succeeded)
    assert isinstance(found[1], Failed)
    assert len(found) == 2


def test_large_integers_keep_their_digits() -> None:
    [event] = parse_from_server(Frames("sub_1").event(1, b"18446744073709551616"))
    assert isinstance(event, EventCame)
    assert event.result == 18446744073709551616


def test_a_null_result_is_a_result() -> None:
    assert parse_from_server(reply_bytes(1, b"null")) == (Succeeded(id=1, result=None),)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1",
        b"{}",
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":1,"error":"x"}',
        b'{"jsonrpc":"2.0","method":"subscription","params":{}}',
        b'{"jsonrpc":"2.0","method":"subscription","params":{"subscription":"s","seq":"1","result":1}}',
        b'{"jsonrpc":"2.0","method":"subscription","params":{"subscription":"s","seq":1}}',
    ],
)
def test_what_no_server_of_ours_sends_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_from_server(data)


@given(
    st.binary(max_size=100) | st.sampled_from([json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": 1})])
)
def test_no_bytes_make_it_raise_anything_else(data: bytes | str) -> None:
    with contextlib.suppress(ParseError):
        parse_from_server(data)
