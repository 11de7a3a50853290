"""Permissions and questions in `clonk chat`, and answers by `clonk call`."""

import json
import re
import subprocess
import sys
import time
from typing import Any

from clonk_claudecode.terminal.permissions import answer_of_line, answers_of_lines, asked_lines, suggestion_text
from tests.claudecode.terminal.test_chat_command import DEADLINE_S, House, house, open_chat, terminals

__all__ = ["house", "open_chat", "terminals"]


def test_a_permission_is_asked_for_in_the_terminal_and_each_answer_does_what_it_says(
    house: House, open_chat: Any
) -> None:
    house.create("answering")
    terminal = open_chat("answering")
    terminal.read_until("> ")
    terminal.type("compute\n")
    terminal.read_until("May Claude use Bash?")
    assert "python3 -c 'print(6*7)'" in terminal.read_until("instead: ")
    terminal.type("\n")  # nothing is no answer
    terminal.read_until("instead: ")
    terminal.type("not on this machine\n")
    came = terminal.read_until("Computed.")
    assert "denied by local" in came
    assert "not on this machine" in came
    terminal.read_until("> ")
    terminal.type("compute\n")
    terminal.read_until("[a]lways in this session, or what to tell Claude instead: ")
    terminal.type("a\n")
    assert "42" in terminal.read_until("Computed.")
    terminal.read_until("> ")
    terminal.type("compute\n")
    assert "May Claude use" not in terminal.read_until("Computed.")
    terminal.read_until("> ")
    terminal.type("ask me\n")
    terminal.read_until("  2. Blue - cold")
    terminal.read_until("to refuse: ")
    terminal.type("2\n")
    assert '"Which colour?"="Blue"' in terminal.read_until("Well chosen.")
    terminal.read_until("> ")
    terminal.type("\x04")
    assert terminal.wait() == 0


def test_somebody_else_may_answer_first_and_ctrl_c_stops_what_waits(house: House, open_chat: Any) -> None:
    house.create("elsewhere")
    terminal = open_chat("elsewhere")
    terminal.read_until("> ")
    terminal.type("compute\n")
    terminal.read_until("instead: ")
    (waiting,) = house.call("claudecode.permissions", name="elsewhere")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "clonk_core", "call", "claudecode.permit", "--json", "--url", house.url),
            *(f"request_id={waiting['request_id']}", "decision=allow"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
        env=house.environment,
    )
    assert json.loads(done.stdout)["state"] == "allowed"
    assert "42" in terminal.read_until("Computed.")
    terminal.read_until("> ")
    terminal.type("compute\n")
    terminal.read_until("instead: ")
    terminal.interrupt()
    terminal.read_until("cancelled")
    terminal.read_until("> ")
    # What is typed then is a prompt again.
    terminal.type("hello\n")
    terminal.read_until("Hello from the script.")
    assert house.call("claudecode.permissions") == []


def test_without_a_terminal_it_says_how_to_answer(house: House) -> None:
    house.create("piped-answer")
    with subprocess.Popen(
        house.command("piped-answer", "--prompt", "compute"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=house.environment,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        found = None
        give_up = time.monotonic() + DEADLINE_S
        while found is None and time.monotonic() < give_up:
            found = re.search(
                r"clonk call claudecode.permit request_id=(perm_\w+) decision=allow", process.stderr.readline()
            )
        assert found is not None
        house.call("claudecode.permit", request_id=found[1], decision="allow")
        assert process.wait(timeout=DEADLINE_S) == 0
        assert process.stdout.read() == "Computed.\n"


def test_a_line_is_read_as_an_answer() -> None:
    request = {"suggestions": [{"type": "setMode", "mode": "acceptEdits"}]}
    assert answer_of_line(" Y ", request) == {"decision": "allow"}
    assert answer_of_line("no", request) == {"decision": "deny"}
    assert answer_of_line("always", request) == {"decision": "allow_always"}
    assert answer_of_line("always", {"suggestions": []}) is None
    assert answer_of_line("  ", request) is None
    assert answer_of_line("yes, but", request) == {"decision": "deny", "message": "yes, but"}


def test_lines_are_read_as_answers_to_questions() -> None:
    options = [{"label": "Red"}, {"label": "Blue"}]
    questions = [
        {"question": "One?", "options": options},
        {"question": "Many?", "options": options, "multiSelect": True},
    ]
    request = {"kind": "question", "input": {"questions": questions}}
    assert answers_of_lines(["2", "1, 2, 1"], request)["answers"] == {"One?": "Blue", "Many?": ["Red", "Blue"]}
    assert answers_of_lines(["3", "1, green"], request)["answers"] == {"One?": "3", "Many?": "1, green"}
    assert answers_of_lines(["1", "/no"], request) == {"decision": "deny"}
    assert list(asked_lines(request)) == ["Claude asks:"]


def test_suggestions_are_told_in_few_words() -> None:
    rules = [{"toolName": "Bash", "ruleContent": "ls *"}, {"toolName": "Read"}]
    assert suggestion_text({"type": "addRules", "rules": rules}) == "Bash(ls *), Read"
    assert suggestion_text({"type": "addDirectories", "directories": ["/a"]}) == "work in /a"
    assert suggestion_text({"type": "setMode", "mode": "plan"}) == "mode plan"
    assert suggestion_text({"type": "other"}) == "other"
