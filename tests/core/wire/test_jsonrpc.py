"""JSON-RPC envelopes: everything the protocol names as malformed gets its error, and nothing else ever happens."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonk_core.errors import Conflict, InvalidRequest, ParseError, StorageFull, TooLarge
from clonk_core.messages import NOT_GIVEN, Event, Request
from clonk_core.wire.jsonrpc import (
    Batch,
    Frames,
    Limits,
    Refused,
    batch_bytes,
    error_bytes,
    parse,
    reply_bytes,
    subscription_reply,
)

GOOD = b'{"jsonrpc":"2.0","method":"dice.roll","params":{"sides":6},"id":1}'


def refused(data: bytes | str, limits: Limits | None = None) -> Refused:
    found = parse(data, limits or Limits())
    assert isinstance(found, Refused), found
    return found


def request(data: bytes | str) -> Request:
    found = parse(data)
    assert isinstance(found, Request), found
    return found


def test_a_request_is_read_with_its_params_id_and_size() -> None:
    found = request(GOOD)
    assert (found.method, found.params, found.id, found.size) == ("dice.roll", {"sides": 6}, 1, len(GOOD))


def test_params_may_be_left_out_named_or_positional() -> None:
    assert request('{"jsonrpc":"2.0","method":"a.b","id":1}').params is None
    assert request('{"jsonrpc":"2.0","method":"a.b","id":1,"params":[1,"x"]}').params == [1, "x"]


def test_a_request_without_an_id_is_a_notification_and_null_is_an_id() -> None:
    assert request('{"jsonrpc":"2.0","method":"a.b"}').is_notification
    assert not request('{"jsonrpc":"2.0","method":"a.b","id":null}').is_notification


@pytest.mark.parametrize(
    "id_",
    [
        '"x"',
        '""',
        '"\\u00e9"',
        "0",
        "-7",
        "1.0",
        "1.5",
        "null",
        "18446744073709551616",
        "-9223372036854775809",
        "9" * 300,
    ],
)
def test_ids_come_back_exactly_as_they_were(id_: str) -> None:
    found = request(f'{{"jsonrpc":"2.0","method":"a.b","id":{id_}}}')
    answer = reply_bytes(found.id, b"{}").decode()
    back = answer.removeprefix('{"jsonrpc":"2.0","id":').removesuffix(',"result":{}}')
    assert back == id_ if "\\" not in id_ else json.loads(back) == json.loads(id_)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ParseError),
        (b"   ", ParseError),
        (b"{", ParseError),
        (b"nonsense", ParseError),
        (b"\xef\xbb\xbf{}", ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","params":["\xff"]}', ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","params":["\xed\xa0\x80"]}', ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","params":["\\ud800"]}', ParseError),
        ('{"jsonrpc":"2.0","method":"a.b","params":["\ud800"]}', ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","params":[NaN]}', ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","params":[Infinity]}', ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","params":[1e400]}', ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","params":[' + b"9" * 5000 + b"]}", ParseError),
        (b"[" * 100_000, ParseError),
        (b"[" * 100_000 + b"]" * 100_000, ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","params":' + b"[" * 600 + b"]" * 600 + b"}", ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","params":' + b"[" * 600 + b"9" * 30 + b"]" * 600 + b"}", ParseError),
        (b'{"jsonrpc":"2.0","method":"a.b","id":1}{}', ParseError),
        (b"[]", InvalidRequest),
        (b"null", InvalidRequest),
        (b"1", InvalidRequest),
        (b'"x"', InvalidRequest),
        (b"{}", InvalidRequest),
        (b'{"method":"a.b","id":1}', InvalidRequest),
        (b'{"jsonrpc":"1.0","method":"a.b","id":1}', InvalidRequest),
        (b'{"jsonrpc":2.0,"method":"a.b","id":1}', InvalidRequest),
        (b'{"jsonrpc":"2.0","id":1}', InvalidRequest),
        (b'{"jsonrpc":"2.0","method":1,"id":1}', InvalidRequest),
        (b'{"jsonrpc":"2.0","method":null}', InvalidRequest),
        (b'{"jsonrpc":"2.0","method":"a.b","params":5}', InvalidRequest),
        (b'{"jsonrpc":"2.0","method":"a.b","params":"x"}', InvalidRequest),
        (b'{"jsonrpc":"2.0","method":"a.b","params":null}', InvalidRequest),
        (b'{"jsonrpc":"2.0","result":1,"id":1}', InvalidRequest),
        (b'{"jsonrpc":"2.0","error":{"code":1,"message":"x"},"id":1}', InvalidRequest),
        (b'{"jsonrpc":"2.0","method":"a.b","result":1,"id":1}', InvalidRequest),
    ],
)
def test_malformed_input_gets_its_error(data: bytes | str, error: type) -> None:
    assert type(refused(data).error) is error


@pytest.mark.parametrize("id_", ["true", "false", "[1]", '{"a":1}'])
def test_an_id_that_is_no_string_number_or_null_is_answered_with_null(id_: str) -> None:
    found = refused(f'{{"jsonrpc":"2.0","method":"a.b","id":{id_}}}')
    assert found.error.kind == "invalid_request"
    assert found.id is None


def test_a_wrong_request_is_answered_with_its_own_id_where_that_can_be_told() -> None:
    assert refused('{"jsonrpc":"1.0","method":"a.b","id":"mine"}').id == "mine"
    assert refused('{"jsonrpc":"2.0","result":1,"id":"theirs"}').id is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","method":"a.b","method":"c.d","id":1}',
        b'{"jsonrpc":"2.0","method":"a.b","id":1,"params":{"x":1,"x":1}}',
        b'{"jsonrpc":"2.0","method":"a.b","id":1,"params":{"a":[{"b":{"x":1, "y":2, "x" :3}}]}}',
        b'{"jsonrpc":"2.0","method":"a.b","id":1,"params":{"x":":","x":"::"}}',
        b'{"jsonrpc":"2.0","method":"a.b","id":1,"params":{"x" :1,"x":"\\u003a"}}',
        b'{"jsonrpc":"2.0","method":"a.b","id":1,"params":{"x" :1,"x":"\\u003A"}}',
        b'{"jsonrpc":"2.0","method":"a.b","id":1,"params":{"x":1,"\\u0078":2}}',
        b'{"jsonrpc":"2.0","method":"a.b","id":1,"params":{"":1,"":2}}',
        b'{"jsonrpc":"2.0","method":"a.b","id":1,"params":{"x":18446744073709551616,"x":2}}',
    ],
)
def test_a_repeated_name_is_refused_at_any_depth(data: bytes) -> None:
    found = refused(data)
    assert found.error.kind == "invalid_request"
    assert found.id == 1


def test_a_repeated_id_is_answered_with_null() -> None:
    assert refused(b'{"jsonrpc":"2.0","method":"a.b","id":1,"id":2}').id is None


def test_the_same_name_in_two_objects_and_colons_in_strings_are_no_repetition() -> None:
    data = rb'{"jsonrpc":"2.0","method":"a.b","id":1,"params":{"a":{"x":":\u003a\":\\"},"b":{"x":"x\":x"}}}'
    assert request(data).params == {"a": {"x": '::":\\'}, "b": {"x": 'x":x'}}


def test_a_repeated_name_spoils_only_its_own_request_of_a_batch() -> None:
    found = parse(b'[{"jsonrpc":"2.0","method":"a.b","id":1,"id":2},' + GOOD + b"]")
    assert isinstance(found, Batch)
    assert [type(item) for item in found.items] == [Refused, Request]


def test_integers_keep_every_digit() -> None:
    found = request(
        '{"jsonrpc":"2.0","method":"a.b","params":[18446744073709551616,9007199254740993,-0,"' + "1" * 40 + '"]}'
    )
    assert found.params == [18446744073709551616, 9007199254740993, 0, "1" * 40]


def test_each_item_of_a_batch_is_a_request_or_has_its_error() -> None:
    found = parse(b"[1," + GOOD + b',{"jsonrpc":"2.0","method":"a.b"},[],{"jsonrpc":"2.0","id":5}]')
    assert isinstance(found, Batch)
    assert [type(item) for item in found.items] == [Refused, Request, Request, Refused, Refused]


def test_a_batch_over_the_limit_is_refused_whole() -> None:
    limits = Limits(batch_items=3)
    assert isinstance(parse(b"[" + b",".join([GOOD] * 3) + b"]", limits), Batch)
    found = refused(b"[" + b",".join([GOOD] * 4) + b"]", limits)
    assert found.error.kind == "invalid_request"
    assert found.error.data["limit"] == 3


def test_a_message_over_the_limit_is_refused_unread() -> None:
    found = refused(GOOD, Limits(message_bytes=len(GOOD) - 1))
    assert isinstance(found.error, TooLarge)


def test_further_members_are_tolerated() -> None:
    assert request('{"jsonrpc":"2.0","method":"a.b","id":1,"trace":"x"}').method == "a.b"


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_bytes_make_parse_raise(data: bytes | str) -> None:
    assert isinstance(parse(data), Request | Refused | Batch)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["jsonrpc", "method", "params", "id", "result", "error", "x"])


@given(st.dictionaries(NAMES, JSON | st.just("2.0"), max_size=5), st.booleans(), st.booleans())
def test_no_json_makes_parse_raise_and_every_refusal_has_bytes(
    message: dict[str, Any], ascii_only: bool, spaced: bool
) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    text = json.dumps(message, ensure_ascii=ascii_only, separators=separators)
    found = parse(text)
    if isinstance(found, Refused):
        answer = json.loads(error_bytes(found.id, found.error))
        assert answer["error"]["data"]["kind"] in ("parse_error", "invalid_request")


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.booleans(), st.booleans())
def test_params_arrive_as_the_standard_library_reads_them(
    params: dict[str, Any], ascii_only: bool, spaced: bool
) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    message = {"jsonrpc": "2.0", "method": "a.b", "params": params, "id": 1}
    text = json.dumps(message, ensure_ascii=ascii_only, separators=separators)
    try:
        text.encode()
    except UnicodeEncodeError:
        assert isinstance(parse(text), Refused)
        return
    found = parse(text)
    if isinstance(found, Refused):
        # The only thing wrong with such a message can be a lone surrogate, escaped.
        assert "surrogate" in str(found.error)
    else:
        assert isinstance(found, Request)
        assert found.params == json.loads(text)["params"]


@given(st.dictionaries(st.text(alphabet='ab:"\\ ', max_size=3), JSON, min_size=1, max_size=4), st.data())
def test_every_repeated_name_is_found(members: dict[str, Any], data: st.DataObject) -> None:
    parts = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in members.items()]
    try:
        parts.append(data.draw(st.sampled_from(parts)))
        text = '{"jsonrpc":"2.0","method":"a.b","params":{' + ",".join(parts) + '},"id":1}'
        text.encode()
    except UnicodeEncodeError:
        return
    assert isinstance(parse(text), Refused)


def test_answers_have_the_shapes_of_the_protocol() -> None:
    assert json.loads(reply_bytes("x", b'{"a":1}')) == {"jsonrpc": "2.0", "id": "x", "result": {"a": 1}}
    assert json.loads(subscription_reply(1, "sub_1")) == {"jsonrpc": "2.0", "id": 1, "result": "sub_1"}
    error = json.loads(error_bytes(NOT_GIVEN, Conflict("taken", name="x")))
    assert error == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": 409, "message": "taken", "data": {"kind": "conflict", "name": "x"}},
    }


def test_a_batch_of_notifications_has_no_answer() -> None:
    assert batch_bytes([]) == b""
    assert json.loads(batch_bytes([b"1", b"2"])) == [1, 2]


def test_event_frames_are_notifications_with_number_and_result() -> None:
    frames = Frames('sub_"%d')
    frame = json.loads(frames.event(3, b'{"type":"text"}'))
    assert frame == {
        "jsonrpc": "2.0",
        "method": "subscription",
        "params": {"subscription": 'sub_"%d', "seq": 3, "result": {"type": "text"}},
    }
    assert frames.events([Event(3, b'{"type":"text"}')]) == [frames.event(3, b'{"type":"text"}')]


def test_a_subscription_that_cannot_be_read_says_so_without_a_number() -> None:
    params = orjson.loads(Frames("sub_1").error(StorageFull("no room")))["params"]
    assert params["error"]["data"]["kind"] == "storage_full"
    assert "seq" not in params


def test_the_bytes_of_a_message_are_counted_once_and_as_bytes() -> None:
    batch = parse(b"[" + b",".join([GOOD] * 7) + b"]")
    assert isinstance(batch, Batch)
    assert sum(item.size for item in batch.items if isinstance(item, Request)) == 7 * len(GOOD) + 8
    text = '{"jsonrpc":"2.0","method":"a.b","params":{"x":"' + "\u00e4\U0001f600" * 100 + '"},"id":1}'
    found = parse(text)
    assert isinstance(found, Request)
    assert found.size == len(text.encode())
    assert isinstance(parse(text, Limits(message_bytes=len(text) + 100)), Refused)
