"""Recorded requests, and what they say: which prompt, which place in the turn, main or side request. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs

Kind = Literal["turn", "side", "count_tokens", "other"]

# Texts that the client puts into user messages by itself; none of them is a prompt.
_NOT_A_PROMPT = (
    "<system-reminder>",
    "<task-notification>",
    "<local-command-",
    "<command-name>",
    "[Request interrupted by user",
    "This session is being continued from a previous conversation",
)
# How the client asks for the summary of a conversation that it compacts (seen with 2.1.330).
_COMPACTION = "CRITICAL: Respond with TEXT ONLY"
_WORKING_DIR = re.compile(r"\b(?:primary )?working directory: (\S.*)", re.IGNORECASE)


@attrs.frozen(kw_only=True, eq=False)
class RecordedRequest:
    """One HTTP request, as it came.

    Attributes:
        number: Counted from 1 over all requests.
        kind: `turn` is the conversation itself; `side` a small request of the client's own (a title, a probe).
        headers: Names in lower case.
        body: The parsed JSON, None when there was none.
    """

    number: int
    kind: Kind
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    def as_json(self) -> dict[str, Any]:
        """What a test in another process gets to see."""
        return attrs.asdict(self) | {"headers": dict(self.headers), "prompt": self.prompt, "place": self.place}

    @property
    def token(self) -> str | None:
        """The credential that came with the request, from `x-api-key` or the bearer header."""
        bearer = self.headers.get("authorization", "")
        return self.headers.get("x-api-key") or (bearer[7:] if bearer.lower().startswith("bearer ") else None)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far, empty when the request has none."""
        messages = self.body.get("messages") if isinstance(self.body, dict) else None
        return messages if isinstance(messages, list) else []

    @property
    def system(self) -> str:
        """The system prompt as one text."""
        system = self.body.get("system", "") if isinstance(self.body, dict) else ""
        return "\n".join(_texts(system))

    @property
    def prompt(self) -> str:
        """The last thing the user said; empty when nothing was said."""
        return find_prompt(self.messages)[1]

    @property
    def working_dir(self) -> str | None:
        """The directory the client says it works in; None when it says nothing."""
        return find_working_dir(self.body)

    @property
    def place(self) -> int:
        """How many replies the assistant has given since the prompt: 0 for the first request of a turn."""
        index = find_prompt(self.messages)[0]
        return sum(message.get("role") == "assistant" for message in self.messages[index + 1 :])

    @property
    def tool_results(self) -> list[dict[str, Any]]:
        """The tool results of the last message, oldest first."""
        content = self.messages[-1].get("content") if self.messages else None
        return [block for block in _dicts(content) if block.get("type") == "tool_result"]


def classify(method: str, path: str, body: Any) -> Kind:
    """Tell the conversation from the client's own small requests."""
    route = path.partition("?")[0]
    if method == "POST" and route == "/v1/messages/count_tokens":
        return "count_tokens"
    if method != "POST" or route != "/v1/messages" or not isinstance(body, dict):
        return "other"
    return "side" if _is_side_request(body) else "turn"


def _is_side_request(body: dict[str, Any]) -> bool:
    """Know the probes, titles and summaries of the client.

    Seen with 2.1.330: a title is asked with a system prompt that names no working directory, without tools and without
    thinking; a session that has all its tools switched off still names the directory and thinks.
    """
    if body.get("max_tokens") == 1:
        return True
    messages = body.get("messages")
    if isinstance(messages, list) and find_prompt(messages)[1].startswith(_COMPACTION):
        return True
    bare = not body.get("tools") and "thinking" not in body
    return bare and bool(body.get("system")) and find_working_dir(body) is None


def find_working_dir(body: Any) -> str | None:
    """Find the directory in the system prompt, or in the messages, where newer clients put it."""
    if not isinstance(body, dict):
        return None
    texts = _texts(body.get("system"))
    for message in _dicts(body.get("messages")):
        if message.get("role") == "system":
            texts.extend(_texts(message.get("content")))
    for text in texts:
        if found := _WORKING_DIR.search(text):
            return found[1].strip()
    return None


def find_prompt(messages: list[dict[str, Any]]) -> tuple[int, str]:
    """Return index and text of the last prompt, or -1 and an empty text.

    Of several texts in one message the last one counts: a client joins the prompts of failed turns into one message.
    """
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") != "user":
            continue
        for text in reversed(_texts(messages[index].get("content"))):
            if text.strip() and not text.lstrip().startswith(_NOT_A_PROMPT):
                return index, text
    return -1, ""


def count_input_tokens(body: Any) -> int:
    """One token for four characters of everything the request says."""
    if not isinstance(body, dict):
        return 1
    said = [body.get(key) for key in ("system", "messages", "tools")]
    return max(1, len(json.dumps(said, ensure_ascii=False)) // 4)


def _dicts(content: Any) -> list[dict[str, Any]]:
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [str(block.get("text", "")) for block in _dicts(content) if block.get("type") == "text"]
