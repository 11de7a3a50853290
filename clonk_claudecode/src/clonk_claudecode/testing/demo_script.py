"""The script behind `clonk demo`: a greeting, a file, a look at the repository, and a slow long answer."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from clonk_claudecode.testing.script import Answer, LongText, Reply, Rule, Script, Text, Thinking, ToolUse, echo

if TYPE_CHECKING:
    from clonk_claudecode.testing.conversation import RecordedRequest

# 200 deltas in three seconds: long enough to cut the connection in the middle and come back.
LONG_DELTAS = 200
LONG_DELAY_S = 0.015

_ABSOLUTE_PATH = re.compile(r"(?<![\w/:])/[\w.+-]+(?:/[\w.+-]+)*")
_FILE_NAME = re.compile(r"(?<![\w/])[\w+-]+(?:/[\w+-]+)*\.[A-Za-z]\w{0,7}\b")
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|\'([^\']+)\'(?!\w)')


def builtin_demo_script() -> Script:
    """Return the script of the demonstration; what it does not know it echoes."""
    return Script(
        rules=(
            Rule(r"\b(write|create|save|make)\b.*(\bfile\b|\.\w+\b)", (_write_file, _say_written)),
            Rule(r"\bgit\b|\bbash\b|\brepository\b", (_run_git, _say_output)),
            Rule(r"\b(long|slow|slowly|story|count)\b", (_long_answer(),)),
            Rule(r"^\W*(hello|hi|hey|good (morning|afternoon|evening))\b", (_greeting(),)),
        ),
        default=echo,
    )


def _greeting() -> Reply:
    return Reply(
        Text(
            "Hello! I am a scripted model, so no credential is used and nothing leaves this machine. "
            "The Claude Code binary, the tools and every event you see are real.",
            delay_s=0.01,
        )
    )


def _long_answer() -> Reply:
    """Count, so that anyone can see that nothing is missing and nothing comes twice."""
    return Reply(
        (
            Text("I count, so that a gap would show: ", deltas=1),
            LongText(LONG_DELTAS, delay_s=LONG_DELAY_S),
        )
    )


def _write_file(request: RecordedRequest) -> Answer:
    path = _asked_path(request)
    content = _asked_content(request.prompt)
    return Reply(
        (
            Thinking("The prompt asks for a file, so I use the tool Write.", delay_s=0.01),
            Text(f"I write {path.name} now.", delay_s=0.01),
            ToolUse("Write", {"file_path": str(path), "content": content}),
        )
    )


def _say_written(request: RecordedRequest) -> Answer:
    path = _asked_path(request)
    if _failed(request):
        return Text(f"{path.name} could not be written: {_output(request)}")
    return Text(f"Done: {path.name} is in the workspace.", delay_s=0.01)


def _run_git(request: RecordedRequest) -> Answer:
    """Only look: commands that read need no permission."""
    wants_log = re.search(r"\b(log|history|commits?)\b", request.prompt, re.IGNORECASE)
    command = "git log --oneline -5" if wants_log else "git status --short --branch"
    return Reply(
        (
            Text("I look at the repository.", delay_s=0.01),
            ToolUse("Bash", {"command": command, "description": "Look at the repository"}),
        )
    )


def _say_output(request: RecordedRequest) -> Answer:
    verb = "failed" if _failed(request) else "said"
    return Text(f"The command {verb}:\n{_output(request)}", delay_s=0.005)


def _asked_path(request: RecordedRequest) -> PurePosixPath:
    """Take the path from the prompt; a relative one stands in the session's working directory."""
    prompt = _QUOTED.sub(lambda found: found[0] if "/" in found[0] else " ", request.prompt)
    if absolute := _ABSOLUTE_PATH.search(prompt):
        return PurePosixPath(absolute[0].rstrip("."))
    name = _FILE_NAME.search(prompt) or _FILE_NAME.search(request.prompt)
    return PurePosixPath(request.working_dir or "/tmp") / (name[0] if name else "hello.txt")  # noqa: S108


def _asked_content(prompt: str) -> str:
    """What stands in quotes and is no file name, or a sentence."""
    for found in _QUOTED.finditer(prompt):
        text = next(group for group in found.groups() if group is not None)
        if not (_FILE_NAME.fullmatch(text) or _ABSOLUTE_PATH.fullmatch(text)):
            return text + "\n"
    return "Written by a Claude Code session that Clonk drives.\n"


def _failed(request: RecordedRequest) -> bool:
    return any(result.get("is_error") for result in request.tool_results)


def _output(request: RecordedRequest) -> str:
    """The text of the tool results."""
    texts = []
    for result in request.tool_results:
        content = result.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts.extend(str(block.get("text", "")) for block in content if isinstance(block, dict))
    return "\n".join(texts) or "(nothing)"
