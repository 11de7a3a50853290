"""Server-sent events: what is written is read, however the network cuts it."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonk_core.errors import TooLarge
from clonk_core.messages import Event
from clonk_core.wire.sse import (
    KEEP_ALIVE,
    Decoder,
    ServerSentEvent,
    SubscriptionWriter,
    event_bytes,
    retry_bytes,
    split_event_id,
)


def read(stream: bytes) -> list[ServerSentEvent]:
    return list(Decoder().feed(stream))


def test_a_batch_is_each_event_after_the_other() -> None:
    writer = SubscriptionWriter("sub_1")
    events = [Event(number, b'{"n":%d}' % number) for number in range(1, 50)]
    assert writer.batch(events) == b"".join(writer.one(event) for event in events)
    found = read(writer.batch(events))
    assert [event.id for event in found] == [f"sub_1/{number}" for number in range(1, 50)]
    assert [json.loads(event.data)["params"]["seq"] for event in found] == list(range(1, 50))


def test_a_payload_with_line_ends_is_still_one_event() -> None:
    writer = SubscriptionWriter("sub_1")
    [found] = read(writer.batch([Event(1, b'{\n"a":\r1}')]))
    assert json.loads(found.data)["params"]["result"] == {"a": 1}


def test_a_subscription_with_percent_signs_is_written_as_it_is() -> None:
    [found] = read(SubscriptionWriter("sub_%d%%").batch([Event(1, b"1")]))
    assert found.id == "sub_%d%%/1"
    assert json.loads(found.data)["params"]["subscription"] == "sub_%d%%"


def test_readers_that_are_given_the_same_batch_get_the_same_bytes_and_another_batch_gets_its_own() -> None:
    writer = SubscriptionWriter("sub_1")
    batch, same, other = (Event(1, b"1"),), (Event(1, b"1"),), (Event(2, b"2"),)
    assert writer.batch(batch) is writer.batch(batch)
    assert writer.batch(other) != writer.batch(batch) == writer.batch(same)


def test_comments_and_keep_alives_are_no_events() -> None:
    assert read(KEEP_ALIVE + b": two\n: lines\n\n" + event_bytes(b"x")) == [ServerSentEvent("x", "message", "")]


def test_the_retry_field_is_read() -> None:
    decoder = Decoder()
    assert list(decoder.feed(retry_bytes(1500) + b"retry: soon\n\n")) == []
    assert decoder.retry_ms == 1500


# The examples of the WHATWG specification, section 9.2.6.
@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("YHOO\n+2\n10", "message", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [("first event", "message", "1"), ("second event", "message", ""), (" third event", "message", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("", "message", ""), ("\n", "message", "")]),
        (b"data:test\n\ndata: test\n\n", [("test", "message", ""), ("test", "message", "")]),
        (b"event: add\ndata: 1\n\nevent: x\n\ndata: 2\n\n", [("1", "add", ""), ("2", "message", "")]),
        (b"\xef\xbb\xbfdata: mark\r\n\r\n", [("mark", "message", "")]),
        (b"data: a\rdata: b\r\r", [("a\nb", "message", "")]),
        (b"id: 1\ndata: x\n\nid: a\0b\ndata: y\n\n", [("x", "message", "1"), ("y", "message", "1")]),
        (b"unknown: x\ndata: y\n\ndata: cut off", [("y", "message", "")]),
        (b"id: 7\n\ndata: x\n\n", [("x", "message", "7")]),
        (b"data: \xff\n\n", [("\ufffd", "message", "")]),
    ],
)
def test_streams_are_read_as_the_specification_says(stream: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert read(stream) == [ServerSentEvent(*event) for event in expected]


LINES = st.sampled_from(
    [b"data: a", b"data", b"data:\xc3\xa9", b"id: 5", b"event: e", b": c", b"retry: 9", b"", b"", b"x"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(st.booleans(), st.lists(st.tuples(LINES, ENDS), max_size=20), st.lists(st.integers(0, 200), max_size=8))
def test_cuts_do_not_matter(mark: bool, lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = (b"\xef\xbb\xbf" if mark else b"") + b"".join(line + end for line, end in lines)
    decoder = Decoder()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    found = [event for piece in pieces for event in decoder.feed(piece)]
    assert found == read(stream)


def test_the_end_of_a_line_between_two_pieces_is_one_end() -> None:
    decoder = Decoder()
    assert [*decoder.feed(b"data: a\r"), *decoder.feed(b"\ndata: b\r"), *decoder.feed(b"\n\r\n")] == [
        ServerSentEvent("a\nb", "message", "")
    ]


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 200, b"data: xxxxxxxxxxxxxxxxxxxx\n" * 10])
def test_an_event_without_end_is_refused(stream: bytes) -> None:
    decoder = Decoder(max_event_bytes=100)
    with pytest.raises(TooLarge):
        for start in range(0, len(stream), 7):
            decoder.feed(stream[start : start + 7])


def test_the_last_event_id_is_taken_apart() -> None:
    assert split_event_id("sub_1/17") == ("sub_1", 17)
    for wrong in ("", "sub_1", "sub_1/", "/1", "sub_1/x", "sub_1/-1", "sub_1/1.5", "sub_1/" + "9" * 30, "sub_1/²"):
        assert split_event_id(wrong) is None
