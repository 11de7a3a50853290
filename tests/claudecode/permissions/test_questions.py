"""Questions of Claude's: `AskUserQuestion`, answered by callers."""

from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.permissions.questions import checked_answers, questions_of
from clonk_claudecode.testing.script import Reply, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.plugin import InvalidParams
from clonk_core.testing.host import TestHost
from tests.claudecode.permissions.asking import QUESTIONS, OpenHub, asked, caller, create, one, refusal

COLOUR, SIZES = "Which colour?", "Which sizes?"


async def test_a_question_is_shown_and_answered_even_where_everything_is_allowed(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(Reply([ToolUse("AskUserQuestion", QUESTIONS)]), "So be it.")
    await create(hub, workspace, permission_mode="bypassPermissions")
    async with asked(hub) as turn:
        assert (turn.request["kind"], turn.request["tool"]) == ("question", "AskUserQuestion")
        assert [question["question"] for question in turn.request["input"]["questions"]] == [COLOUR, SIZES]
        permit = {"request_id": turn.request["request_id"]}
        wrong: dict[str, dict[str, Any]] = {
            "$.answers": {"decision": "allow"},
            "$.decision": {"decision": "allow_always", "answers": {COLOUR: "Red", SIZES: "Small"}},
            "$.updated_input": {"decision": "allow", "updated_input": {"answers": {COLOUR: "Red"}}},
            f"$.answers[{COLOUR!r}]": {"decision": "allow", "answers": {COLOUR: ["Red", "Blue"], SIZES: "Small"}},
        }
        for path, params in wrong.items():
            error = await refusal(hub.client.call("claudecode.permit", **permit, **params))
            assert (error.kind, error.data["path"]) == ("invalid_params", path)
        answers = {COLOUR: "Blue", SIZES: ["Small", "Large"]}
        answer = await caller(hub, "anna").call("claudecode.permit", **permit, decision="allow", answers=answers)
        assert answer["updated_input"]["answers"] == {COLOUR: "Blue", SIZES: "Small, Large"}
        rest = await turn.rest()
    result = one(rest, "tool_result")
    assert not result["is_error"]
    assert f'"{COLOUR}"="Blue", "{SIZES}"="Small, Large"' in str(result["content"])
    assert rest[-1]["outcome"] == "complete"


async def test_a_question_takes_words_of_ones_own_and_may_be_denied(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    ask = Reply([ToolUse("AskUserQuestion", QUESTIONS)])
    model.add(ask, "I see.", ask, "I see.")
    await create(hub, workspace)
    async with asked(hub) as turn:
        answers = {COLOUR: "Neither, make it green", SIZES: ["Small", "and a huge one"]}
        await hub.client.call(
            "claudecode.permit", request_id=turn.request["request_id"], decision="allow", answers=answers
        )
        rest = await turn.rest()
    assert "Neither, make it green" in str(one(rest, "tool_result")["content"])
    async with asked(hub) as turn:
        await hub.client.call(
            "claudecode.permit", request_id=turn.request["request_id"], decision="deny", message="Decide yourself."
        )
        rest = await turn.rest()
    assert one(rest, "tool_result")["content"] == "Decide yourself."


async def test_a_question_that_nobody_answers_is_denied_also_where_the_default_is_to_allow(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add(Reply([ToolUse("AskUserQuestion", QUESTIONS)]), "I see.")
    async with open_hub(permissions={"timeout_s": 0.3, "default": "allow"}) as hub:
        await create(hub, workspace)
        async with asked(hub) as turn:
            rest = await turn.rest()
    assert one(rest, "permission_resolved")["decision"] == "deny"
    assert one(rest, "tool_result")["is_error"]


@pytest.mark.parametrize(
    ("answers", "path"),
    [
        ({}, "$.answers"),
        ({COLOUR: "Red"}, "$.answers"),
        ({COLOUR: "Red", SIZES: "Small", "Why?": "So"}, "$.answers['Why?']"),
        ({COLOUR: " ", SIZES: "Small"}, f"$.answers[{COLOUR!r}]"),
        ({COLOUR: 1, SIZES: "Small"}, f"$.answers[{COLOUR!r}]"),
        ({COLOUR: "x" * 10_001, SIZES: "Small"}, f"$.answers[{COLOUR!r}]"),
        ({COLOUR: "Red", SIZES: []}, f"$.answers[{SIZES!r}]"),
        ({COLOUR: "Red", SIZES: ["Small", 2]}, f"$.answers[{SIZES!r}]"),
        ({COLOUR: "Red", SIZES: ["Small", "Small"]}, f"$.answers[{SIZES!r}]"),
        ({COLOUR: "Red", SIZES: ["one", "other"]}, f"$.answers[{SIZES!r}]"),
        ({COLOUR: "Red", SIZES: {"Small": True}}, f"$.answers[{SIZES!r}]"),
    ],
)
def test_answers_that_do_not_fit_are_refused(answers: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        checked_answers(questions_of("AskUserQuestion", QUESTIONS), answers)
    assert caught.value.data["path"] == path


def test_other_tools_and_malformed_questions_ask_nothing() -> None:
    assert questions_of("Bash", QUESTIONS) == ()
    assert questions_of("AskUserQuestion", {"questions": "What?"}) == ()
    assert questions_of("AskUserQuestion", {"questions": ["What?", {"question": 1}]}) == ()
