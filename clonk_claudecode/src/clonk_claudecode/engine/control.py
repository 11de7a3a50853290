"""The control protocol beside the conversation: our requests and their answers, the binary's requests and ours."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from clonk_claudecode.engine.frames import Frame, control_answer, control_refusal, control_request, member
from clonk_claudecode.engine.permissions import (
    Decide,
    Decision,
    Deny,
    EndedState,
    PermissionQuestion,
    answer_of,
)
from clonk_claudecode.engine.tools import SERVER
from clonk_claudecode.errors import ProcessBroken
from clonk_core.plugin import Log

MAX_OUTGOING: Final = 256
"""Frames that wait to be written: a prompt, an interrupt, an answer for each tool that asks. With more of them the
binary does not read."""


@attrs.frozen
class _Asked:
    """A question that waits, and what ends the waiting."""

    question: PermissionQuestion
    scope: trio.CancelScope


class Control:
    """One process's control protocol. Owned by the session's tasks.

    Args:
        new_question: Makes a question of the binary's request.
        answered: Is told when a question waits no longer: the decision, None for one that was taken back.
        decide: Answers the questions about tools.
        log: Where a failing `decide` is recorded.
        answer_tools: Answers a message to the server of the session's own tools.
    """

    def __init__(
        self,
        *,
        new_question: Callable[[Frame], PermissionQuestion],
        answered: Callable[[Decision | None], None],
        decide: Decide,
        log: Log,
        answer_tools: Callable[[Frame], Awaitable[Frame]],
    ) -> None:
        self._new_question = new_question
        self._answered = answered
        self._answer_tools = answer_tools
        self._decide = decide
        self._log = log
        self._send, self.outgoing = trio.open_memory_channel[bytes](MAX_OUTGOING)
        self._waiting: dict[str, trio.Event] = {}
        self._answers: dict[str, Frame] = {}
        self._asked: dict[str, _Asked] = {}
        self._count = 0

    @property
    def is_asking(self) -> bool:
        """Whether the binary waits for an answer of ours."""
        return bool(self._asked)

    def write(self, line: bytes) -> None:
        """Queue a frame for the task that writes.

        Raises:
            ProcessBroken: The process has not read for very long.
        """
        try:
            self._send.send_nowait(line)
        except trio.WouldBlock as error:
            raise ProcessBroken("it does not read its input") from error

    async def ask(self, **request: Any) -> Frame:
        """Send a control request and wait for its answer.

        Raises:
            ProcessBroken: The binary refused, or its input is full.
        """
        return await self.answer(self.tell(**request), str(request["subtype"]))

    def tell(self, **request: Any) -> str:
        """Send a control request at once and return its id. What it is answered is dropped unless `answer` waits.

        Raises:
            ProcessBroken: The binary's input is full.
        """
        self._count += 1
        request_id = f"clonk_{self._count}"
        self.write(control_request(request_id, request))
        return request_id

    async def answer(self, request_id: str, what: str) -> Frame:
        """Wait for the answer to a request that was just sent: no other task may have run since.

        Raises:
            ProcessBroken: The binary refused.
        """
        answered = self._waiting[request_id] = trio.Event()
        try:
            await answered.wait()
            answer = self._answers.pop(request_id)
        finally:
            self._waiting.pop(request_id, None)
            self._answers.pop(request_id, None)
        if answer.get("subtype") == "error":
            raise ProcessBroken(f"it refused {what}: {str(answer.get('error'))[:300]}")
        return answer

    def take_answer(self, frame: Frame) -> None:
        """Hand a `control_response` to whoever waits for it."""
        response = member(frame, "response")
        request_id = str(response.get("request_id"))
        if request_id in self._waiting:
            self._answers[request_id] = response
            self._waiting[request_id].set()

    async def serve(self, frame: Frame) -> None:
        """Answer a `control_request` of the binary's. Run it as a task of its own: the answer may take long."""
        request_id = str(frame.get("request_id"))
        request = member(frame, "request")
        if request.get("subtype") == "mcp_message" and request.get("server_name") == SERVER:
            answer = await self._answer_tools(member(request, "message"))
            self.write(control_answer(request_id, {"mcp_response": answer}))
            return
        if request.get("subtype") != "can_use_tool":
            self.write(control_refusal(request_id, f"{request.get('subtype')} is not served here"))
            return
        question = self._new_question(request)
        decision: Decision | None = None
        with trio.CancelScope() as scope:
            self._asked[request_id] = _Asked(question, scope)
            try:
                decision = await self._decide(question)
            except Exception:  # noqa: BLE001 - the one who decides is not ours; nothing is allowed by a fault
                self._log.exception("deciding about a tool failed; it is denied", tool=question.tool)
                decision = Deny("the permission could not be asked for")
            finally:
                self._asked.pop(request_id, None)
                question.end("ended")  # before the turn's end is told; without effect on one that was answered
                self._answered(decision)
            self.write(control_answer(request_id, answer_of(decision, question)))

    def take_back(self, frame: Frame, state: EndedState) -> None:
        """The binary does not want an answer any more. Told at once: the turn's end may be the next line."""
        asked = self._asked.get(str(frame.get("request_id")))
        if asked is not None:
            asked.question.end(state)
            asked.scope.cancel()
