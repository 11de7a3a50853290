"""The control protocol beside the conversation: our requests and their answers, the binary's requests and ours."""

from typing import Any, Final

import trio

from clonk_claudecode.engine.frames import Frame, control_answer, control_refusal, control_request, member
from clonk_claudecode.engine.permissions import Decide, Deny, PermissionQuestion, answer_of
from clonk_claudecode.errors import ProcessBroken
from clonk_core.plugin import Log

MAX_OUTGOING: Final = 256
"""Frames that wait to be written: a prompt, an interrupt, an answer for each tool that asks. With more of them the
binary does not read."""


class Control:
    """One process's control protocol. Owned by the session's tasks.

    Args:
        session_id: For the questions.
        decide: Answers the questions about tools.
        log: Where a failing `decide` is recorded.
    """

    def __init__(self, session_id: str, decide: Decide, log: Log) -> None:
        self._session_id = session_id
        self._decide = decide
        self._log = log
        self._send, self.outgoing = trio.open_memory_channel[bytes](MAX_OUTGOING)
        self._waiting: dict[str, trio.Event] = {}
        self._answers: dict[str, Frame] = {}
        self._questions: dict[str, trio.CancelScope] = {}
        self._count = 0

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
        if request.get("subtype") != "can_use_tool":
            self.write(control_refusal(request_id, f"{request.get('subtype')} is not served here"))
            return
        question = PermissionQuestion(
            session_id=self._session_id,
            tool=str(request.get("tool_name", "")),
            input=member(request, "input"),
            tool_use_id=request.get("tool_use_id"),
            request=request,
        )
        with trio.CancelScope() as scope:
            self._questions[request_id] = scope
            try:
                decision = await self._decide(question)
            except Exception:  # noqa: BLE001 - the one who decides is not ours; nothing is allowed by a fault
                self._log.exception("deciding about a tool failed; it is denied", tool=question.tool)
                decision = Deny("the permission could not be asked for")
            finally:
                self._questions.pop(request_id, None)
            self.write(control_answer(request_id, answer_of(decision, question)))

    def take_back(self, frame: Frame) -> None:
        """The binary does not want an answer any more."""
        scope = self._questions.get(str(frame.get("request_id")))
        if scope is not None:
            scope.cancel()
