"""How a turn looks in a terminal."""

import io

import pytest
from rich.console import Console

from clonk_claudecode.terminal.screen import TurnView, message_texts, printable, result_text, tokens_text, tool_summary


class Screen:
    """Two consoles that keep what is printed, and the view that prints on them."""

    def __init__(self) -> None:
        self._answer = io.StringIO()
        self._notes = io.StringIO()
        answer, notes = (Console(file=file, width=80, highlight=False) for file in (self._answer, self._notes))
        self.view = TurnView(answer, notes)

    @property
    def answer(self) -> str:
        return self._answer.getvalue()

    @property
    def notes(self) -> str:
        return self._notes.getvalue()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_pieces_of_text_run_on_and_the_whole_message_is_not_shown_again(screen: Screen) -> None:
    for event in (
        {"type": "text_delta", "text": "Hello "},
        {"type": "text_delta", "text": "there"},
        {"type": "assistant_message", "content": "Hello there", "message_id": "msg_1"},
    ):
        screen.view.event(event)
    assert screen.answer == "Hello there\n"
    assert screen.notes == ""


def test_a_message_that_came_without_pieces_is_shown_whole(screen: Screen) -> None:
    screen.view.event({"type": "assistant_message", "content": "All at once", "message_id": "msg_1"})
    assert screen.answer == "All at once\n"


def test_a_line_wider_than_the_terminal_is_not_broken(screen: Screen) -> None:
    screen.view.event({"type": "text_delta", "text": "word " * 100})
    screen.view.end_line()
    assert screen.answer == "word " * 100 + "\n"


def test_what_could_steer_the_terminal_is_left_out(screen: Screen) -> None:
    screen.view.event({"type": "text_delta", "text": "a\x1b]0;title\x07b\x9bc\r\n\tend"})
    assert screen.answer == "a]0;titlebc\n\tend"
    assert printable("\x1b[2J") == "[2J"


def test_square_brackets_are_text_and_no_markup(screen: Screen) -> None:
    screen.view.event({"type": "text_delta", "text": "[bold]x[/bold] [/]"})
    assert screen.answer == "[bold]x[/bold] [/]"


def test_tools_and_their_results_are_notes(screen: Screen) -> None:
    screen.view.event({"type": "tool_use", "tool": "Bash", "input": {"command": "ls\n-la"}, "tool_use_id": "t1"})
    content = "\n".join(f"line {number}" for number in range(20))
    screen.view.event({"type": "tool_result", "tool_use_id": "t1", "content": content, "is_error": False})
    assert "Bash  ls -la" in screen.notes
    assert "line 5" in screen.notes
    assert "line 6" not in screen.notes
    assert "14 more lines" in screen.notes
    assert screen.answer == ""


def test_what_a_tool_writes_and_changes_is_shown(screen: Screen) -> None:
    screen.view.event(
        {
            "type": "tool_use",
            "tool": "Edit",
            "input": {"file_path": "/w/a.py", "old_string": "one", "new_string": "two"},
            "tool_use_id": "t1",
        }
    )
    assert "- one" in screen.notes
    assert "+ two" in screen.notes


def test_a_failure_is_told_in_the_servers_words(screen: Screen) -> None:
    error = {"code": 503, "message": "the model's API said 529", "data": {"kind": "claudecode.api_error"}}
    done = {"type": "done", "outcome": "failed", "error": error, "usage": None}
    screen.view.event({"type": "text_delta", "text": "half a"})
    screen.view.event(done)
    assert screen.view.done == done
    assert screen.answer == "half a\n"
    assert "failed: the model's API said 529" in screen.notes


def test_a_restarted_answer_is_shown_whole_after_a_note(screen: Screen) -> None:
    for event in (
        {"type": "text_delta", "text": "half"},
        {"type": "restart", "message_id": "msg_1"},
        {"type": "text_delta", "text": "whole"},
        {"type": "assistant_message", "content": "whole", "message_id": "msg_2"},
    ):
        screen.view.event(event)
    assert screen.answer == "half\nwhole\n"
    assert "begins anew" in screen.notes


def test_retries_and_gaps_are_notes_and_unknown_events_are_left_out(screen: Screen) -> None:
    screen.view.event({"type": "retrying", "attempt": 1, "status": 529, "delay_s": 0.5})
    screen.view.event({"type": "gap", "from": 3, "to": 5})
    screen.view.event({"type": "something_new", "text": "?"})
    assert "529" in screen.notes
    assert "3 older events" in screen.notes
    assert "?" not in screen.notes + screen.answer


def test_tokens_are_added_up_and_unknown_ones_leave_no_trace() -> None:
    usage = {"input_tokens": 1000, "output_tokens": 20, "cache_read_input_tokens": 500}
    assert tokens_text(usage) == "1,500 tokens in (500 from the cache), 20 out"
    assert tokens_text(None) == ""


def test_the_most_telling_argument_stands_for_a_tools_input() -> None:
    assert tool_summary({"description": "Look", "command": "ls"}) == "ls"
    assert tool_summary({"count": 3}) == '{"count": 3}'
    assert tool_summary({}) == ""


def test_results_and_messages_in_blocks_become_text() -> None:
    assert result_text([{"type": "text", "text": "a"}, {"type": "image", "source": {}}]) == "a\n[image]"
    assert result_text(None) == "null"
    blocks = [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "name": "Bash", "input": {"command": "ls"}},
        {"type": "tool_result", "content": "a.txt"},
        {"type": "thinking", "thinking": "hm"},
    ]
    expected = [("text", "I look."), ("tool_use", "Bash  ls"), ("tool_result", "a.txt")]
    assert list(message_texts(blocks)) == expected
    assert list(message_texts("hi")) == [("text", "hi")]
