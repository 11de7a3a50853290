"""`AskUserQuestion`: a tool of Claude's whose "permission" is the answer to its questions."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from clonk_core.plugin import InvalidParams, JsonValue

ASK_USER_QUESTION: Final = "AskUserQuestion"

MAX_ANSWER_CHARS: Final = 10_000

BETWEEN: Final = ", "
"""How Claude Code joins the answers to a question that takes several."""


@attrs.frozen(kw_only=True)
class Question:
    """One question.

    Attributes:
        text: The question; answers are given under it.
        options: What can be chosen. Something else can always be said instead.
        takes_several: Whether more than one may be chosen.
    """

    text: str
    options: tuple[str, ...]
    takes_several: bool


def questions_of(tool: str, tool_input: Mapping[str, Any]) -> tuple[Question, ...]:
    """Return the questions that a use of a tool asks; none for every other tool."""
    asked = tool_input.get("questions")
    if tool != ASK_USER_QUESTION or not isinstance(asked, list):
        return ()
    return tuple(
        Question(
            text=question["question"],
            options=tuple(
                str(option.get("label")) for option in question.get("options") or () if isinstance(option, Mapping)
            ),
            takes_several=bool(question.get("multiSelect")),
        )
        for question in asked
        if isinstance(question, Mapping) and isinstance(question.get("question"), str)
    )


def checked_answers(questions: tuple[Question, ...], answers: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the answers as the binary wants them.

    Raises:
        InvalidParams: A question that was not asked, one without an answer, or an answer of the wrong shape.
    """
    known = {question.text: question for question in questions}
    for text in answers:
        if text not in known:
            asked = "; ".join(repr(question) for question in known)
            raise InvalidParams(f"is not among the questions; asked was {asked}", path=f"$.answers[{text!r}]")
    for text in known:
        if text not in answers:
            raise InvalidParams(f"the question {text!r} has no answer", path="$.answers")
    return {text: _answer(known[text], answer) for text, answer in answers.items()}


def _answer(question: Question, answer: JsonValue) -> str:
    path = f"$.answers[{question.text!r}]"
    options = ", ".join(repr(option) for option in question.options)
    if isinstance(answer, str):
        return _said(answer, path)
    if not isinstance(answer, list) or not answer or not all(isinstance(one, str) for one in answer):
        raise InvalidParams(f"must be a text, or a list of texts where several can be chosen, of {options}", path=path)
    if len(answer) > 1 and not question.takes_several:
        raise InvalidParams(f"takes one answer only, one of {options} or words of your own", path=path)
    if len(set(answer)) < len(answer):
        raise InvalidParams("has the same answer twice", path=path)
    # One that is no option is an answer in words of its own, which Claude Code takes for every question; of several
    # answers at most one can be that.
    own = [one for one in answer if one not in question.options]
    if len(own) > 1:
        raise InvalidParams(f"has more than one answer that is no option; the options are {options}", path=path)
    return BETWEEN.join(_said(one, path) for one in answer)


def _said(text: str, path: str) -> str:
    if not text.strip():
        raise InvalidParams("must hold more than white space", path=path)
    if len(text) > MAX_ANSWER_CHARS:
        raise InvalidParams(f"must have at most {MAX_ANSWER_CHARS} characters", path=path)
    return text
