"""Asking the person at the terminal what a session waits for, while its turn is shown."""

import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from clonk_claudecode.terminal.permissions import (
    SKIP,
    answer_of_line,
    answers_of_lines,
    asked_lines,
    is_question,
    question_lines,
)
from clonk_claudecode.terminal.screen import TurnView
from clonk_core.client.base import ClientError, RemoteError

MAX_LINE_BYTES: Final = 4096
"""A terminal gives no longer line."""

Permit = Callable[[Mapping[str, Any]], Awaitable[object]]
"""Answers a request, with the parameters of `claudecode.permit`."""


class Asker:
    """Asks for one request after the other. `run` is a service; `event` is told what the turn shows.

    Args:
        view: Where the questions are shown.
        permit: Gives the answers.
    """

    def __init__(self, view: TurnView, permit: Permit) -> None:
        self._view = view
        self._permit = permit
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._arrived = trio.Event()
        self._asked_id: str | None = None
        self._scope = trio.CancelScope()

    def event(self, event: Mapping[str, Any]) -> None:
        """Take note of a request, or that one needs no answer any more."""
        match event.get("type"):
            case "permission_request":
                self._waiting.append(event)
                self._arrived.set()
            case "permission_resolved":
                self._waiting = deque(one for one in self._waiting if one["request_id"] != event["request_id"])
                if self._asked_id == event["request_id"]:
                    self._scope.cancel()

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            while not self._waiting:
                self._arrived = trio.Event()
                await self._arrived.wait()
            request = self._waiting.popleft()
            with trio.CancelScope() as self._scope:
                self._asked_id = request["request_id"]
                await self._ask(request)
            self._asked_id = None

    async def _ask(self, request: Mapping[str, Any]) -> None:
        for line in asked_lines(request):
            self._view.note(line, style="yellow")
        while True:
            answer = await (self._answers(request) if is_question(request) else self._decision(request))
            if answer is None:
                self._view.note("left open; it can be answered elsewhere until its time is up")
                return
            # From here on the turn's own word that it was answered is no reason to stop.
            self._asked_id = None
            try:
                await self._permit({"request_id": request["request_id"], **answer})
            except RemoteError as error:
                self._view.note(error.message, style="red")
                if error.kind != "invalid_params":
                    return
            except ClientError as error:
                self._view.note(f"could not be answered: {error}", style="red")
                return
            else:
                return
            self._asked_id = request["request_id"]

    async def _decision(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        always = ", [a]lways in this session" if request.get("suggestions") else ""
        while True:
            line = await self._line(f"[y]es, [n]o{always}, or what to tell Claude instead: ")
            if line is None:
                return None
            answer = answer_of_line(line, request)
            if answer is not None:
                return answer

    async def _answers(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        lines = []
        for question in request["input"]["questions"]:
            for line in question_lines(question):
                self._view.note(line, style="yellow")
            several = "numbers, with commas between them" if question.get("multiSelect") else "a number"
            answer = ""
            while not answer.strip():
                said = await self._line(f"{several}, your own words, or {SKIP} to refuse: ")
                if said is None:
                    return None
                answer = said
            lines.append(answer)
        return answers_of_lines(lines, request)

    async def _line(self, prompt: str) -> str | None:
        """Read one line; None for Ctrl-D."""
        self._view.prompt(prompt)
        try:
            await trio.lowlevel.wait_readable(sys.stdin.fileno())
        except trio.Cancelled:
            self._view.prompt("\n")
            raise
        # Not by `input`, which cannot be given up when somebody else has answered.
        line = os.read(sys.stdin.fileno(), MAX_LINE_BYTES)
        return line.decode(errors="replace").rstrip("\n") if line else None


@asynccontextmanager
async def open_asker(view: TurnView, permit: Permit) -> AsyncIterator[Asker]:
    """Ask in the background for the time of the block."""
    asker = Asker(view, permit)
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker.run)
        try:
            yield asker
        except Exception as caught:  # noqa: BLE001 - raised again below, outside of the nursery's exception group
            error = caught
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
