"""What a scripted model says: blocks, turns, rules and scripts. Plain frozen values; rendering is in sse.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from clonk_claudecode.testing.conversation import RecordedRequest


@attrs.frozen
class Text:
    """Text of the assistant. Neighbouring texts, with or without gates between them, form one content block.

    Attributes:
        text: What is said.
        deltas: Into how many deltas it is split; None gives one per word.
        delay_s: Pause before each delta.
    """

    text: str
    deltas: int | None = attrs.field(default=None, kw_only=True)
    delay_s: float = attrs.field(default=0.0, kw_only=True)

    def pieces(self) -> list[str]:
        """Split the text; the pieces joined give the text again."""
        if self.deltas is None:
            return re.findall(r"\s*\S+\s*$|\s*\S+|\s+", self.text)
        count = max(1, min(self.deltas, len(self.text)))
        return [self.text[i * len(self.text) // count : (i + 1) * len(self.text) // count] for i in range(count)]


@attrs.frozen
class LongText:
    """Numbers counted up from 0, one per delta, so that a lost or doubled delta shows in the text."""

    deltas: int = 50_000
    delay_s: float = attrs.field(default=0.0, kw_only=True)

    @property
    def text(self) -> str:
        """The whole text, as a reader must have it in the end."""
        return "".join(self.pieces())

    def pieces(self) -> list[str]:
        """One number and a blank per delta."""
        return [f"{number} " for number in range(self.deltas)]


@attrs.frozen
class Thinking:
    """A thinking block before the answer."""

    text: str
    deltas: int | None = attrs.field(default=None, kw_only=True)
    delay_s: float = attrs.field(default=0.0, kw_only=True)


@attrs.frozen
class ToolUse:
    """A call of one of the client's tools. `id` is made up when it is not given."""

    name: str
    input: Mapping[str, object]
    id: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class Wait:
    """A gate: the reply stops here until it is released.

    Attributes:
        gate: A name, released with `ScriptedModel.release(name)` or over HTTP, or a trio event that the test sets.
    """

    gate: str | trio.Event


@attrs.frozen
class Sleep:
    """A pause in the middle of a reply."""

    seconds: float


Block = Text | LongText | Thinking | ToolUse | Wait | Sleep


@attrs.frozen
class Usage:
    """Token counts of a reply; what is None is counted, one token for four characters."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


def _blocks(value: Block | str | Iterable[Block | str]) -> tuple[Block, ...]:
    """Take one block, a bare string, or several of either."""
    if isinstance(value, str):
        return (Text(value),)
    if isinstance(value, Text | LongText | Thinking | ToolUse | Wait | Sleep):
        return (value,)
    return tuple(Text(block) if isinstance(block, str) else block for block in value)


@attrs.frozen
class Reply:
    """A whole reply. `stop_reason` None means `tool_use` when a tool is called and `end_turn` otherwise."""

    blocks: tuple[Block, ...] = attrs.field(converter=_blocks)
    stop_reason: str | None = attrs.field(default=None, kw_only=True)
    usage: Usage = attrs.field(factory=Usage, kw_only=True)


@attrs.frozen
class Fail:
    """An error answer of the API: 400, 401, 403, 404, 413, 429, 500 or 529. `retry_after` is in seconds."""

    status: int = 500
    retry_after: float | None = attrs.field(default=None, kw_only=True)
    message: str | None = attrs.field(default=None, kw_only=True)


_BEGINNING = Reply(Text("This answer has a beginning and never gets to its end."))


@attrs.frozen
class Hang:
    """`after` events of `reply`, then silence on an open connection. With 0 not even the headers come."""

    after: int = 0
    reply: Reply = _BEGINNING


@attrs.frozen
class Cut:
    """`after` events of `reply`, a pause, and the connection is closed in the middle of the stream.

    With a pause the client has read what was sent before it learns of the end; without one it may drop that.
    """

    after: int = 0
    reply: Reply = _BEGINNING
    pause_s: float = attrs.field(default=0.0, kw_only=True)


@attrs.frozen
class Slow:
    """`reply` with a pause of `first_s` before the headers and of `each_s` before every event."""

    reply: Reply
    first_s: float = attrs.field(default=0.0, kw_only=True)
    each_s: float = attrs.field(default=0.05, kw_only=True)


Turn = Reply | Fail | Hang | Cut | Slow
Answer = Turn | Block | str
"""What a script may name as an answer: a turn, or as a shorthand one block or a string."""

Chooser = Callable[["RecordedRequest"], Answer]
Step = Answer | Chooser
_SINGLE = (str, Reply, Fail, Hang, Cut, Slow, Text, LongText, Thinking, ToolUse, Wait, Sleep)


def _answers(value: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(value)


@attrs.frozen
class Attempts:
    """Different answers to the same request: the first try gets the first one, and the last one stays."""

    answers: tuple[Step, ...] = attrs.field(converter=_answers, validator=attrs.validators.min_len(1))


def _turns(value: Step | Attempts | Iterable[Step | Attempts]) -> tuple[Step | Attempts, ...]:
    """Take several turns or a single one."""
    if isinstance(value, (*_SINGLE, Attempts)) or callable(value):
        return (value,)
    return tuple(value)


@attrs.frozen
class Rule:
    """Answers for the prompts that match.

    The first request after the prompt gets the first turn, the request with the first tool results the second, and so
    on: the place is read from the request's messages, so retries and restarts get the same answer. After the last turn
    the default answers.

    Attributes:
        when: Regular expression searched in the text of the last prompt, without regard to case.
        turns: The answers, in the order of the conversation.
    """

    when: str = attrs.field()
    turns: tuple[Step | Attempts, ...] = attrs.field(converter=_turns)

    @when.validator
    def _check_when(self, _attribute: object, value: str) -> None:
        re.compile(value)


def echo(request: RecordedRequest) -> Answer:
    """Say the last prompt again; the default answer of a script."""
    return Reply(Text(f"You said: {request.prompt}"))


def answer_side_request(request: RecordedRequest) -> Answer:
    """Give a title where one is asked for, and a sentence otherwise."""
    if request.body.get("output_config", {}).get("format"):
        return '{"title": "Scripted conversation"}'
    return "A short summary of a scripted conversation."


def _rules(value: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(value)


def _queue(steps: Iterable[Step | Attempts]) -> tuple[Step, ...]:
    """Write attempts out: in a queue a retry takes the next answer anyway."""
    return tuple(answer for step in steps for answer in (step.answers if isinstance(step, Attempts) else (step,)))


@attrs.frozen(kw_only=True)
class Script:
    """Rules first, then the queue, then the default.

    Attributes:
        rules: The first one that matches answers.
        queue: Answers in the order of arrival, each used once. A retry takes the next one.
        default: Answers what is left.
        side: Answers the client's own small requests (titles, probes), which never use up rules or queue.
    """

    rules: tuple[Rule, ...] = attrs.field(default=(), converter=_rules)
    queue: tuple[Step, ...] = attrs.field(default=(), converter=_queue)
    default: Step | Attempts = echo
    side: Step = answer_side_request


def as_turn(answer: Answer) -> Turn:
    """Write out the shorthands."""
    if isinstance(answer, Reply | Fail | Hang | Cut | Slow):
        return answer
    return Reply(answer)


def as_script(script: Script | Answer | Chooser | Iterable[Step | Attempts | Rule]) -> Script:
    """Take a script, one answer or function for everything, or a list of rules and queued answers."""
    if isinstance(script, Script):
        return script
    if isinstance(script, _SINGLE) or callable(script):
        return Script(default=script)
    items = list(script)
    rules = tuple(item for item in items if isinstance(item, Rule))
    return Script(rules=rules, queue=tuple(item for item in items if not isinstance(item, Rule)))
