"""Lines and frames of the stream-json protocol."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonk_claudecode.engine.frames import (
    MAX_GARBAGE_LINES,
    FrameParser,
    LineSplitter,
    LineTooLong,
    NotAFrame,
    TooMuchGarbage,
    control_answer,
    control_refusal,
    control_request,
    parse_frame,
    user_frame,
)


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.integers(1, 9))
def test_lines_come_out_whole_however_they_were_cut(lines: list[bytes], size: int) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter()
    out = [line for start in range(0, len(stream), size) for line in splitter.feed(stream[start : start + size])]
    assert out == [line for line in lines if line]
    assert splitter.rest() == b""


def test_what_follows_the_last_newline_is_kept() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a\nb") == [b"a"]
    assert splitter.rest() == b"b"
    assert splitter.rest() == b""


def test_a_line_over_the_limit_is_refused() -> None:
    splitter = LineSplitter(max_line_bytes=10)
    splitter.feed(b"1234567890")
    with pytest.raises(LineTooLong):
        splitter.feed(b"1")


@pytest.mark.parametrize(
    "line", [b"", b"hello", b"[1]", b"3", b"{}", b'{"type":3}', b'{"type":"x"', b"\xff\xfe", b"null"]
)
def test_what_is_no_frame_is_named_so(line: bytes) -> None:
    with pytest.raises(NotAFrame):
        parse_frame(line)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb"cut \ud83d", "cut \ufffd"),
        (rb"\uDE00 cut", "\ufffd cut"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"whole \ud83d\ude00, cut \ud83d", "whole \U0001f600, cut \ufffd"),
        ("é \u2028 ".encode() + rb"\ud83d", "é \u2028 \ufffd"),
    ],
)
def test_a_character_cut_in_two_costs_no_frame(written: bytes, read: str) -> None:
    frame = parse_frame(b'{"type":"result","result":"' + written + b'"}')
    assert frame == {"type": "result", "result": read}


@pytest.mark.parametrize(
    "line", [rb'{"type":"x","y":"\ud83d"', rb"[" * 100_000 + rb'"\ud83d"', rb'{"\ud83d":NaN,"type":"x"}']
)
def test_what_is_no_frame_is_none_with_a_cut_character_either(line: bytes) -> None:
    with pytest.raises(NotAFrame):
        parse_frame(line)


def test_some_garbage_is_survived_and_much_is_not() -> None:
    parser = FrameParser()
    for _ in range(MAX_GARBAGE_LINES):
        assert parser.parse(b"npm WARN something") is None
    assert parser.parse(b'{"type":"result"}') == {"type": "result"}
    with pytest.raises(TooMuchGarbage):
        parser.parse(b"one more")


def test_two_megabytes_of_garbage_in_one_line_are_too_much() -> None:
    with pytest.raises(TooMuchGarbage):
        FrameParser().parse(b"x" * 2_000_000)


def test_what_is_written_is_one_line_each() -> None:
    prompt = 'two\nlines \u2028 and a quote " and \x00'
    lines = [
        user_frame(prompt, "u1"),
        control_request("r1", {"subtype": "interrupt"}),
        control_answer("r2", {"behavior": "deny", "message": "no\nno"}),
        control_refusal("r3", "not served"),
    ]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    frames = [orjson.loads(line) for line in lines]
    assert frames[0]["message"]["content"] == prompt
    assert frames[0]["client_composed"] is True
    assert frames[1]["request"]["subtype"] == "interrupt"
    assert frames[2]["response"]["subtype"] == "success"
    assert frames[3]["response"]["subtype"] == "error"
