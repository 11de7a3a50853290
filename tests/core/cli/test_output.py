"""What a stream looks like in the terminal and for programs."""

import json

import pytest

from clonk_core.cli.output import EventPrinter, print_columns, print_json


def test_text_runs_on_and_other_events_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    printer = EventPrinter("sub_x", json=False)
    events = [
        {"type": "started", "model": "m"},
        {"type": "text_delta", "text": "Hel"},
        {"type": "text_delta", "text": "lo"},
        {"type": "assistant_message", "content": "Hello"},
        {"type": "thinking_delta", "text": "hm"},
        {"type": "text_delta", "text": "more"},
        {"value": 5},
        7,
        {"type": "done"},
    ]
    for seq, event in enumerate(events, 1):
        printer.print(seq, event)
    assert capsys.readouterr().out.splitlines() == [
        '[started] {"model":"m"}',
        "Hello",
        "hm",
        "more",
        '{"value":5}',
        "7",
        "[done]",
    ]


def test_programs_get_one_object_a_line_with_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    printer = EventPrinter("sub_x", json=True)
    printer.print(1, {"type": "text_delta", "text": "a\nb"})
    printer.print(2, {"type": "done"})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"subscription": "sub_x", "seq": 1, "result": {"type": "text_delta", "text": "a\nb"}}
    assert lines[1]["seq"] == 2


def test_json_is_indented_for_people_and_on_one_line_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1, "ä"]}, compact=True)
    print_json({"a": 1}, compact=False)
    assert capsys.readouterr().out == '{"a":[1,"ä"]}\n{\n  "a": 1\n}\n'


def test_columns_are_aligned_and_the_last_one_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    print_columns([("a", "", "long text here"), ("abc", "x", "")])
    assert capsys.readouterr().out == "a       long text here\nabc  x\n"
    print_columns([])
