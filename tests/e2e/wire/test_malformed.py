"""Malformed input of every kind, on every transport: its error, nothing else, and the same connection goes on."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

Call = Callable[..., bytes]
OpenWebSocket = Callable[..., AbstractAsyncContextManager[Any]]

ECHO = '{"jsonrpc":"2.0","method":"trouble.echo","params":%s,"id":1}'

NO_JSON = [
    b"{",
    b"nonsense",
    b'{"jsonrpc":"2.0","method":"trouble.echo","id":1}{}',
    b'{"jsonrpc":"2.0","method":"trouble.echo","id":1,}',
    b"{'jsonrpc':'2.0'}",
    b"\xef\xbb\xbf" + ECHO.encode() % b"[1]",
    b"\x00",
    # invalid UTF-8: no start byte, overlong, a surrogate, beyond U+10FFFF, cut off
    b'{"jsonrpc":"2.0","method":"\xff\xfe","id":1}',
    ECHO.encode() % b'["\xc0\xaf"]',
    ECHO.encode() % b'["\xed\xa0\x80"]',
    ECHO.encode() % b'["\xf4\x90\x80\x80"]',
    ECHO.encode() % b'["\xe2\x82"]',
    # lone surrogates as escapes
    ECHO.encode() % rb'["\ud800"]',
    ECHO.encode() % rb'["\udc00\ud800"]',
    # what is no number of JSON
    *(ECHO.encode() % b"[%b]" % number for number in (b"NaN", b"-Infinity", b"1e400", b"-1e400", b"01", b"+1", b".5")),
    ECHO.encode() % b"[%b]" % (b"9" * 5000),
    b'{"jsonrpc":"2.0","method":"trouble.echo","id":%b}' % (b"9" * 5000),
    b'{"jsonrpc":"2.0","method":"trouble.echo","id":1e400}',
    # nesting
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ECHO.encode() % (b"[" * 100_000 + b"]" * 100_000),
]

NO_REQUEST: list[tuple[bytes, Any]] = [
    # What is sent, and the id that comes back.
    (b"null", None),
    (b"true", None),
    (b"17", None),
    (b'"text"', None),
    (b"{}", None),
    (b"[]", None),
    (b'{"method":"trouble.echo","id":1}', 1),
    (b'{"jsonrpc":"1.0","method":"trouble.echo","id":"mine"}', "mine"),
    (b'{"jsonrpc":2.0,"method":"trouble.echo","id":1}', 1),
    (b'{"jsonrpc":"2.0","id":1}', 1),
    (b'{"jsonrpc":"2.0","method":7,"id":1}', 1),
    (b'{"jsonrpc":"2.0","method":null,"id":1}', 1),
    (b'{"jsonrpc":"2.0","method":"trouble.echo","params":"text","id":1}', 1),
    (b'{"jsonrpc":"2.0","method":"trouble.echo","params":null,"id":1}', 1),
    (b'{"jsonrpc":"2.0","method":"trouble.echo","id":true}', None),
    (b'{"jsonrpc":"2.0","method":"trouble.echo","id":[1]}', None),
    (b'{"jsonrpc":"2.0","method":"trouble.echo","id":{"a":1}}', None),
    # duplicate keys, plain, escaped and deep
    (b'{"jsonrpc":"2.0","method":"trouble.echo","method":"trouble.echo","id":1}', 1),
    (b'{"jsonrpc":"2.0","method":"trouble.echo","id":1,"id":2}', None),
    (b'{"jsonrpc":"2.0","method":"trouble.echo","params":{"value":{"a":1,"\\u0061":1}},"id":1}', 1),
    # an answer, though nothing was asked
    (b'{"jsonrpc":"2.0","id":1,"result":{}}', None),
    (b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}', None),
]

IDS = ["1", "0", "-7", "1.5", "1.0", '""', '"x"', '"ä\\u0000\\"\\\\"', "null", "18446744073709551616", "9" * 300]


@pytest.mark.deadline(30)
async def test_what_is_no_json_is_a_parse_error(peer: Any, call: Call) -> None:
    for message in NO_JSON:
        answer = await peer.ask(message)
        assert answer["id"] is None, message[:80]
        assert answer["jsonrpc"] == "2.0"
        assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32700, "parse_error"), message[:80]
        assert (await peer.ask(call("trouble.add", [1, 2])))["result"] == 3
    assert await peer.rest() == []


@pytest.mark.deadline(30)
async def test_what_is_no_request_is_an_invalid_request_with_its_id_where_it_can_be_told(peer: Any, call: Call) -> None:
    for message, id_ in NO_REQUEST:
        answer = await peer.ask(message)
        assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32600, "invalid_request"), message
        assert answer["id"] == id_, message
        assert (await peer.ask(call("trouble.add", [1, 2])))["result"] == 3
    assert await peer.rest() == []


@pytest.mark.deadline(30)
async def test_wrong_arguments_are_told_with_their_path(peer: Any, call: Call) -> None:
    for params, path in [
        ({}, "$.a"),
        ([], "$.a"),
        ({"a": "1"}, "$.a"),
        ({"a": 1.5}, "$.a"),
        ({"a": True}, "$.a"),
        ({"a": None}, "$.a"),
        ({"a": 1, "b": []}, "$.b"),
        ({"a": 1, "c": 3}, "$.c"),
        ([1, "2"], "$.b"),
        ([1, 2, 3], "$[2]"),
    ]:
        error = (await peer.ask(call("trouble.add", params)))["error"]
        assert (error["code"], error["data"]["kind"]) == (-32602, "invalid_params"), params
        assert (error["data"]["path"], error["data"]["method"]) == (path, "trouble.add"), params
    assert (await peer.ask(call("trouble.add", {"a": 2})))["result"] == 3
    assert (await peer.ask(call("trouble.add", {"b": 5, "a": 2})))["result"] == 7
    assert (await peer.ask(call("trouble.add", [2])))["result"] == 3


@pytest.mark.deadline(30)
async def test_an_unknown_method_is_told_with_the_nearest_names(peer: Any, call: Call) -> None:
    for method in ("trouble.ad", "", ".", "trouble", "trouble.__init__", "tools/call", "x" * 100_000, "a.\0", "ä.ö"):
        error = (await peer.ask(call(method)))["error"]
        assert (error["code"], error["data"]["kind"]) == (-32601, "method_not_found"), method[:80]
        assert len(json.dumps(error)) < 2000
    assert "trouble.add" in (await peer.ask(call("trouble.ad")))["error"]["data"]["near"]


@pytest.mark.deadline(30)
async def test_ids_come_back_as_they_were(peer: Any) -> None:
    for id_ in IDS:
        # The text of the answer is what counts: 1.0 is not to become 1, nor a long integer a float.
        answer = await peer.ask(b'{"jsonrpc":"2.0","method":"trouble.echo","params":[1],"id":%b}' % id_.encode())
        assert repr(answer["id"]) == repr(json.loads(id_))
        failed = await peer.ask(b'{"jsonrpc":"2.0","method":"no.such","id":%b}' % id_.encode())
        assert repr(failed["id"]) == repr(json.loads(id_))


@pytest.mark.deadline(30)
async def test_values_come_back_as_they_were(peer: Any, call: Call) -> None:
    for text in ["0", "-0.0", "1e300", "5e-324", "9007199254740993", "-9223372036854775808", '"\\u0000\\ud83d\\ude00"']:
        answer = await peer.ask(b'{"jsonrpc":"2.0","method":"trouble.echo","params":[%b],"id":1}' % text.encode())
        assert repr(answer["result"]) == repr(json.loads(text))


@pytest.mark.deadline(30)
async def test_a_number_that_json_has_no_word_for_never_goes_out(peer: Any, call: Call) -> None:
    assert (await peer.ask(call("trouble.unspeakable")))["error"]["data"]["kind"] == "internal"
    assert (await peer.ask(call("trouble.add", [1, 2])))["result"] == 3


@pytest.mark.deadline(30)
async def test_a_notification_gets_no_answer_also_when_it_is_wrong(peer: Any, call: Call) -> None:
    def notification(method: str, params: str = "{}") -> bytes:
        return b'{"jsonrpc":"2.0","method":"%b","params":%b}' % (method.encode(), params.encode())

    for message in (
        notification("trouble.echo"),
        notification("no.such"),
        notification("trouble.add", '{"a":"wrong"}'),
        notification("trouble.bug"),
        notification("trouble.fail", '{"kind":"unauthenticated"}'),
        notification("trouble.count", '{"to":5}'),
        notification("trouble.count_once", '{"to":5}'),
        b"[%b,%b]" % (notification("trouble.echo"), notification("trouble.bug")),
    ):
        await peer.tell(message)
    assert (await peer.ask(call("trouble.add", [1, 2], id="after")))["id"] == "after"
    assert await peer.rest() == []


@pytest.mark.deadline(30)
async def test_a_batch_is_answered_item_by_item(peer: Any, call: Call) -> None:
    items = [
        call("trouble.add", [1, 2], id="first"),
        b'{"jsonrpc":"2.0","method":"trouble.add","params":[1]}',
        b"5",
        b"[]",
        b"[%b]" % call("trouble.add", [1, 2]),
        call("no.such", id=None),
        b'{"jsonrpc":"2.0","method":"no.such"}',
        b'{"jsonrpc":"2.0","method":"trouble.add","id":8,"id":9}',
        call("trouble.add", {"a": "x"}, id=4),
        call("trouble.fail", {"kind": "forbidden"}, id=5),
        call("trouble.bug", id=6),
    ]
    answers = await peer.ask(b" [" + b" , ".join(items) + b"] ")
    kinds = [(one["id"], one["error"]["data"]["kind"] if "error" in one else one["result"]) for one in answers]
    assert kinds == [
        ("first", 3),
        (None, "invalid_request"),
        (None, "invalid_request"),
        (None, "invalid_request"),
        (None, "method_not_found"),
        (None, "invalid_request"),
        (4, "invalid_params"),
        (5, "forbidden"),
        (6, "internal"),
    ]
    assert await peer.rest() == []


@pytest.mark.deadline(30)
async def test_a_batch_over_the_limit_is_refused_whole(peer: Any, call: Call) -> None:
    item = call("trouble.add", [1, 2])
    answer = await peer.ask(b"[" + b",".join([item] * 51) + b"]")
    assert answer["error"]["data"] == {"kind": "invalid_request", "limit": 50}
    assert len(await peer.ask(b"[" + b",".join([item] * 50) + b"]")) == 50


@pytest.mark.deadline(30)
async def test_a_streaming_item_of_a_batch_streams_where_the_transport_can(
    peer: Any, call: Call, request: pytest.FixtureRequest
) -> None:
    batch = b"[%b,%b]" % (call("trouble.count", [2], id=1), call("trouble.add", [1, 2], id=2))
    answers = await peer.ask(batch)
    assert answers[1]["result"] == 3
    if request.node.callspec.params["peer"] == "http":
        assert answers[0]["error"]["data"]["kind"] == "invalid_request"
        return
    subscription = answers[0]["result"]
    events = [(await peer.receive())["params"] for _ in range(3)]
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert {event["subscription"] for event in events} == {subscription}
    assert events[-1]["result"] == {"type": "done", "outcome": "complete", "error": None}


@pytest.mark.deadline(30)
async def test_a_message_of_11_mib_is_too_large_and_the_connection_goes_on(
    peer: Any, call: Call, request: pytest.FixtureRequest, open_http: Any
) -> None:
    message = call("trouble.echo", ["x" * (11 * 2**20)])
    if request.node.callspec.params["peer"] == "http":
        answer = await peer.request(message)
        assert answer.status == 413
        error = answer.json()["error"]
        assert answer.headers["connection"] == "close"  # the rest of the body is not read
    else:
        error = (await peer.ask(message))["error"]
        assert (await peer.ask(call("trouble.add", [1, 2])))["result"] == 3
    assert (error["code"], error["data"]) == (413, {"kind": "too_large", "limit": 10 * 2**20})
    async with open_http() as other:
        assert (await other.ask(call("trouble.add", [1, 2])))["result"] == 3


@pytest.mark.deadline(30)
async def test_a_message_of_9_mib_is_taken_and_given_back(peer: Any, call: Call) -> None:
    answer = await peer.ask(call("trouble.echo", ["x" * (9 * 2**20)]))
    assert len(answer["result"]) == 9 * 2**20


# ── what only WebSocket frames can do ────────────────────────────────────────


@pytest.mark.deadline(30)
async def test_frames_that_are_no_message_are_refused_or_end_the_connection_with_a_reason(
    open_websocket: OpenWebSocket, call: Call
) -> None:
    async with open_websocket("/") as peer:
        await peer.send_frame(2, call("trouble.add", [1, 2]))
        assert (await peer.receive())["error"]["data"]["kind"] == "invalid_request"
        await peer.send_frame(1, b"")
        assert (await peer.receive())["error"]["data"]["kind"] == "parse_error"
        await peer.send_frame(9, b"ping")
        assert await peer.receive_frame() == (10, b"ping")
        await peer.send_frame(10, b"unasked pong")
        # A message in pieces, a ping between them, cut in the middle of a character.
        whole = '{"jsonrpc":"2.0","method":"trouble.echo","params":["ä€"],"id":1}'.encode()
        cut = whole.index("ä".encode()) + 1
        await peer.send_frame(1, whole[:cut], final=False)
        await peer.send_frame(9, b"")
        await peer.send_frame(0, whole[cut:], final=False)
        await peer.send_frame(0, b"")
        assert await peer.receive_frame() == (10, b"")
        assert (await peer.receive())["result"] == "ä€"
        assert await peer.rest() == []
    for opcode, payload in [(0, b"no beginning"), (3, b"reserved"), (9, b"x" * 126), (8, b"\x03"), (8, b"\x03\xed")]:
        async with open_websocket() as peer:
            await peer.send_frame(opcode, payload)
            code, reason = await peer.receive_frame()
            assert (code, int.from_bytes(reason[:2], "big")) == (8, 1002), opcode
    async with open_websocket() as peer:
        assert (await peer.ask(call("trouble.add", [1, 2])))["result"] == 3
