"""Permission requests as lines of text, and lines of text as answers. No terminal here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

SKIP: Final = "/no"
"""What refuses a question; everything else could be an answer."""


def is_question(request: Mapping[str, Any]) -> bool:
    """Whether Claude asks something, rather than for a permission."""
    return request.get("kind") == "question"


def asked_lines(request: Mapping[str, Any]) -> Iterator[str]:
    """Return what is asked for; the tool and its input were shown with the `tool_use`."""
    if is_question(request):
        yield "Claude asks:"
        return
    reason = request.get("reason")
    yield f"May Claude use {request['tool']}?" + (f" ({reason})" if reason else "")
    remembered = "; ".join(suggestion_text(suggestion) for suggestion in request.get("suggestions") or ())
    if remembered:
        yield f"  always: {remembered}"


def question_lines(question: Mapping[str, Any]) -> Iterator[str]:
    """Return a question and its options, numbered from 1."""
    yield str(question.get("question", ""))
    for number, option in enumerate(question.get("options") or (), 1):
        description = option.get("description")
        yield f"  {number}. {option.get('label', '')}" + (f" - {description}" if description else "")


def suggestion_text(suggestion: Mapping[str, Any]) -> str:
    """Return in a few words what a suggestion would allow."""
    match suggestion:
        case {"type": "addRules", "rules": list(rules)}:
            return ", ".join(
                f"{rule.get('toolName')}({rule['ruleContent']})"
                if rule.get("ruleContent")
                else str(rule.get("toolName"))
                for rule in rules
            )
        case {"type": "addDirectories", "directories": list(directories)}:
            return "work in " + ", ".join(map(str, directories))
        case {"type": "setMode", "mode": str(mode)}:
            return f"mode {mode}"
    return str(suggestion.get("type", "?"))


def answer_of_line(line: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a line means, as parameters of `claudecode.permit`; None when it means nothing."""
    said = line.strip()
    match said.lower():
        case "":
            return None
        case "y" | "yes":
            return {"decision": "allow"}
        case "n" | "no":
            return {"decision": "deny"}
        case "a" | "always" if request.get("suggestions"):
            return {"decision": "allow_always"}
        case "a" | "always":
            return None
    return {"decision": "deny", "message": said}


def answers_of_lines(lines: Sequence[str], request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a line for each question means, as parameters of `claudecode.permit`."""
    if any(line.strip() == SKIP for line in lines):
        return {"decision": "deny"}
    questions = request["input"]["questions"]
    return {
        "decision": "allow",
        "answers": {
            question["question"]: _answer(question, line) for question, line in zip(questions, lines, strict=True)
        },
    }


def _answer(question: Mapping[str, Any], line: str) -> str | list[str]:
    labels = [str(option.get("label", "")) for option in question.get("options") or ()]
    parts = [part.strip() for part in line.split(",")] if question.get("multiSelect") else [line.strip()]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= len(labels) for part in parts):
        return line.strip()
    chosen = [labels[int(part) - 1] for part in dict.fromkeys(parts)]
    return chosen if question.get("multiSelect") else chosen[0]


def resolved_text(event: Mapping[str, Any]) -> str:
    """Return what became of a request, in a few words."""
    by = event.get("by")
    match event.get("state"):
        case "allowed":
            always = " for this session" if event.get("decision") == "allow_always" else ""
            return f"allowed{always} by {by}"
        case "denied":
            return f"denied by {by}"
        case "expired":
            return str(event.get("reason"))
    return "no answer is wanted any more"


def how_to_answer(request: Mapping[str, Any]) -> str:
    """Return how to answer a request from somewhere else."""
    answers = " answers='{...}'" if is_question(request) else ""
    return (
        f"waits for an answer until {request['expires_at']}: "
        f"`clonk call claudecode.permit request_id={request['request_id']} decision=allow{answers}`, or decision=deny"
    )
