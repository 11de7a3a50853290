"""A session that has a process: the one task that owns it, reads all it says, and runs one turn at a time."""

from collections import deque
from typing import Final

import attrs
import trio

from clonk_claudecode.engine.binary import Binary
from clonk_claudecode.engine.control import Control
from clonk_claudecode.engine.frames import (
    MAX_LINE_BYTES,
    Frame,
    FrameParser,
    LineTooLong,
    Prompt,
    TooMuchGarbage,
    member,
    user_frame,
)
from clonk_claudecode.engine.guard import SignsOfLife, guard
from clonk_claudecode.engine.launch import launch
from clonk_claudecode.engine.leftovers import Leftovers
from clonk_claudecode.engine.meter import Meter
from clonk_claudecode.engine.mirror import MIRROR_FROM, Mirror, TranscriptKeeper
from clonk_claudecode.engine.outcome import TurnResult, read_result, stopped
from clonk_claudecode.engine.permissions import Allow, Decide, Decision, PermissionQuestion, grants_of, with_grants
from clonk_claudecode.engine.process import BinaryProcess
from clonk_claudecode.engine.reaper import Reaper
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_claudecode.engine.tools import AnswerTools, ToolMessage, no_tools
from clonk_claudecode.engine.translate import Translator
from clonk_claudecode.engine.turn import Turn
from clonk_claudecode.errors import EngineStopped, ProcessBroken, ProcessDied
from clonk_claudecode.events import AssistantMessage, ToolResult, ToolUse, TranscriptEntry, TurnItem
from clonk_core.plugin import CallError, Log

MAX_KEPT_ITEMS: Final = 1000
"""What Claude did between turns is kept for the next turn up to here; the transcript has all of it."""

EXIT_S: Final = 2.0
"""Between the end of its output and the end of the process; and the other way round."""


class LiveSession:
    """A process and its conversation. `run` is a service, to be started once; the rest works while it runs.

    Attributes:
        spec: What it was started with, and what was allowed for good since then.
        ready: Set when it can take a turn, or has failed to start; see `failure`.
        closed: Set when the process and all it started are gone.
        failure: Why it ended by itself; None while it runs and after an orderly end.
        turn: The running turn.
        idle_since: On trio's clock, when it last did anything.
        kept: What Claude did between turns (a command in the background has ended, say); shown by the next turn.
    """

    def __init__(
        self,
        spec: SessionSpec,
        settings: EngineSettings,
        *,
        reaper: Reaper,
        decide: Decide,
        keeper: TranscriptKeeper,
        log: Log,
        kept: deque[TurnItem] | None = None,
        answer_tools: AnswerTools = no_tools,
    ) -> None:
        self.spec = spec
        self.ready = trio.Event()
        self.closed = trio.Event()
        self.failure: CallError | None = None
        self.turn: Turn | None = None
        self.idle_since = trio.current_time()
        self.kept = deque[TurnItem](maxlen=MAX_KEPT_ITEMS) if kept is None else kept
        self._settings = settings
        self._reaper = reaper
        self._log = log
        self._mirror = Mirror(spec, keeper, tells=False, log=log)
        self._control = Control(
            new_question=self._new_question,
            answered=self._note_answer,
            decide=decide,
            log=log,
            answer_tools=self._answer_tools,
        )
        self._tools = answer_tools
        self._parser = FrameParser()
        self._translator = Translator()
        self._meter = Meter()
        self._closing = trio.Event()
        self._patient = True
        self._pid: int | None = None
        # A prompt that waits for the end of what Claude does by itself, and whether it does that now.
        self._held_prompt: bytes | None = None
        self._is_busy_unasked = False
        self._prompt_is_queued = False
        self._signs = SignsOfLife()
        self._model = spec.model
        self._mark = reaper.new_mark()
        self._leftovers = Leftovers(self._mark)
        # How the turn has ended that is being cleared up after.
        self._ending: TurnResult | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None before the start."""
        return self._pid

    @property
    def is_usable(self) -> bool:
        """Whether it can take a turn, now or after the running one."""
        return self.ready.is_set() and self.failure is None and not self._closing.is_set()

    @property
    def is_at_work(self) -> bool:
        """Whether it has a turn, does something by itself, or waits for a permission."""
        return self.turn is not None or self._is_busy_unasked or self._control.is_asking

    # ── For the engine ────────────────────────────────────────────────────────

    async def run(self, binary: Binary, *, resume: bool) -> None:
        """Start the process, own it, and see to its end. Raises nothing: a failure is in `failure`."""
        self._mirror.tells = binary.version >= MIRROR_FROM and self.spec.ephemeral is None
        try:
            process = await launch(
                self.spec,
                self._settings,
                binary,
                mark=self._mark,
                resume=resume,
                mirror=self._mirror.tells,
            )
            self._pid = process.pid
            try:
                await self._reaper.add(process.pid)
                await self._converse(process)
            finally:
                await process.close(patient=self._patient and self.failure is None)
                with trio.CancelScope(shield=True):
                    await self._reaper.remove(process.pid)
                await self._mirror.end()
        except CallError as error:
            self._fail(error)
        except Exception:  # noqa: BLE001 - one session's fault must not end the others, which share a nursery
            self._log.exception("the driver of a session failed", session=self.spec.session_id)
            self._fail(ProcessBroken("the driver itself failed, the log says how"))
        finally:
            self._finish_turn(attrs.evolve(self._ending or self._unexpected_end(), is_cut=True))
            self._closing.set()
            self.ready.set()
            self.closed.set()

    def begin(self, turn: Turn, prompt: Prompt) -> None:
        """Start a turn. The session must be usable and without one.

        Raises:
            ProcessBroken: The process does not read its input.
        """
        if self.turn is not None or not self.is_usable:
            raise AssertionError("the engine starts turns one at a time, on usable sessions")
        self.turn = turn
        self._prompt_is_queued = False
        self._signs.note()
        turn.put(tuple(self.kept))
        self.kept.clear()
        line = user_frame(prompt, turn.prompt_uuid)
        if self._is_busy_unasked:
            self._held_prompt = line
        else:
            self._say(turn, line)
        self._tasks.start_soon(self._guard, turn)

    def close(self, *, patient: bool = True) -> None:
        """Have the process ended; `closed` tells when it is. A running turn ends as if the hub shut down."""
        self._patient = self._patient and patient
        self._closing.set()

    # ── The owner's tasks ─────────────────────────────────────────────────────

    async def _converse(self, process: BinaryProcess) -> None:
        """Run the tasks around a process until it ends or `close` is called."""
        async with trio.open_nursery() as nursery:
            self._tasks = nursery
            nursery.start_soon(process.drain_stderr)
            nursery.start_soon(self._write, process)
            nursery.start_soon(self._watch_exit, process)
            nursery.start_soon(self._read, process)
            nursery.start_soon(self._initialize)
            nursery.start_soon(self._mirror.run)
            await self._closing.wait()
            nursery.cancel_scope.cancel()

    async def _initialize(self) -> None:
        with trio.move_on_after(self._settings.start_timeout_s) as waiting:
            try:
                schema = self.spec.output_schema
                form = {} if schema is None else {"jsonSchema": dict(schema)}
                # Without that second one a system prompt counts as it was when the conversation began, for ever.
                await self._control.ask(subtype="initialize", hooks=None, systemPromptSnapshot=False, **form)
                # Answered before the first prompt is read; nobody has to wait for it.
                self._tasks.start_soon(self._read_totals)
                await self._leftovers.know_own()
            except ProcessBroken as error:
                self._fail(error)
        if waiting.cancelled_caught:
            self._fail(ProcessBroken(f"it was not ready within {self._settings.start_timeout_s:g} s"))
        self.ready.set()

    async def _read_totals(self) -> None:
        try:
            self._meter.begin(await self._control.ask(subtype="get_usage"))
        except ProcessBroken as error:
            self._log.debug("the binary does not tell its totals", session=self.spec.session_id, reason=str(error))

    def _say(self, turn: Turn, line: bytes) -> None:
        """Hand a prompt to the binary, after the model that shall answer it."""
        model = turn.model or self.spec.model
        if model == self._model:
            self._control.write(line)
        else:
            self._tasks.start_soon(self._say_to, model, turn, line)

    async def _say_to(self, model: str, turn: Turn, line: bytes) -> None:
        try:
            self._model = model
            await self._control.ask(subtype="set_model", model=model)
        except ProcessBroken as error:
            self._model = ""  # neither the one nor the other for sure: it is set again with the next prompt
            self._end_turn(TurnResult(outcome="failed", error=error))
            return
        if turn is not self.turn:
            return
        if turn.stop_reason is not None:
            self._end_turn(self._unexpected_end())
        else:
            self._control.write(line)

    def _set_model_back(self) -> None:
        """What Claude does by itself, it does with the session's own model."""
        if self._model != self.spec.model and self.is_usable:
            self._model = self.spec.model
            try:
                self._control.tell(subtype="set_model", model=self.spec.model)
            except ProcessBroken as error:
                self._fail(error)

    async def _write(self, process: BinaryProcess) -> None:
        async for line in self._control.outgoing:
            try:
                await process.write(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # it has ended; the task that reads finds out how

    async def _serve(self, request: Frame) -> None:
        try:
            await self._control.serve(request)
        except ProcessBroken as error:
            self._fail(error)

    async def _answer_tools(self, message: Frame) -> Frame:
        turn_id = None if self.turn is None else self.turn.turn_id
        asked = ToolMessage(session_id=self.spec.session_id, process=self.spec.key, turn_id=turn_id, message=message)
        return await self._tools(asked)

    async def _guard(self, turn: Turn) -> None:
        ended = await guard(
            turn, self._signs, self._control, self._settings, tools_at_work=lambda: bool(self._translator.tools_at_work)
        )
        if not ended:
            self._log.warning("no answer to an interrupt; the process is killed", session=self.spec.session_id)
            self.close(patient=False)

    async def _read(self, process: BinaryProcess) -> None:
        """Take every frame, always: the binary must never have to wait for a reader of events for long."""
        try:
            while lines := await process.read_lines():
                self._signs.note()
                for line in lines:
                    await self._take_line(line)
                if self.turn is not None:
                    with self._signs.not_listening():
                        await self.turn.wait_room()
        except LineTooLong:
            self._fail(ProcessBroken(f"it wrote a line of more than {MAX_LINE_BYTES // 2**20} MiB"))
        except TooMuchGarbage as error:
            self._fail(ProcessBroken(f"it writes what is not its protocol, such as {str(error)!r}"))
        except ProcessBroken as error:
            self._fail(error)
        else:
            await self._fail_with_exit(process)

    async def _watch_exit(self, process: BinaryProcess) -> None:
        """Notice an end that its output does not show, because something it started holds the pipe open."""
        await process.wait_exit()
        await trio.sleep(EXIT_S)
        await self._fail_with_exit(process)

    async def _fail_with_exit(self, process: BinaryProcess) -> None:
        exit_code = await process.wait(at_most_s=EXIT_S)
        if self.turn is not None:
            during = "in the middle of a turn"
        else:
            during = "while it was idle" if self.ready.is_set() else "when it was started"
        self._fail(ProcessDied(exit_code, process.stderr_tail, during))

    # ── What the binary says ──────────────────────────────────────────────────

    async def _take_line(self, line: bytes) -> None:
        frame = self._parser.parse(line)
        if frame is None:
            self._log.warning("the binary wrote a line that is no frame", line=line[:200].decode(errors="replace"))
            return
        match frame["type"]:
            case "transcript_mirror":
                self._mirror.take(frame, len(line))
                if self._mirror.is_full:
                    with self._signs.not_listening():
                        await self._mirror.flush()
            case "control_response":
                self._control.take_answer(frame)
            case "control_request":
                self._tasks.start_soon(self._serve, frame)
            case "control_cancel_request":
                is_stopping = self.turn is not None and self.turn.stop_reason is not None
                self._control.take_back(frame, "ended" if is_stopping else "withdrawn")
            case "result":
                with self._signs.not_listening():
                    await self._mirror.end_turn()
                self._take_result(frame)
            case _:
                self._take_message(frame)

    def _take_message(self, frame: Frame) -> None:
        self._note_progress(frame)
        if frame["type"] == "system":
            self._leftovers.note(frame)
        items = self._translator.feed(frame)
        if self.turn is not None:
            self.turn.put(items)
        else:
            self.idle_since = self._signs.last
            kept = (TranscriptEntry, AssistantMessage, ToolUse, ToolResult)
            self.kept.extend(item for item in items if isinstance(item, kept))

    def _new_question(self, request: Frame) -> PermissionQuestion:
        return PermissionQuestion(
            session_id=self.spec.session_id,
            tool=str(request.get("tool_name", "")),
            input=member(request, "input"),
            tool_use_id=request.get("tool_use_id"),
            request=request,
            turn_id=None if self.turn is None else self.turn.turn_id,
            put=self._put,
        )

    def _put(self, item: TurnItem) -> None:
        """Show it in the running turn, or first thing in the next one."""
        if self.turn is None:
            self.kept.append(item)
        else:
            self.turn.put((item,))

    def _note_answer(self, decision: Decision | None) -> None:
        """The binary can go on: its silence counts again, and what it was allowed for good is in force."""
        self._signs.note()
        if isinstance(decision, Allow):
            self.spec = with_grants(self.spec, grants_of(decision.updates))
        if self.turn is not None and self.turn.stop_reason is None:
            self.turn.stir()

    def _note_progress(self, frame: Frame) -> None:
        """Learn whether the binary works by itself, and what became of a prompt."""
        kind = frame["type"]
        turn = self.turn
        begins = kind == "system" and frame.get("subtype") == "init"
        if turn is None:
            self._is_busy_unasked = self._is_busy_unasked or begins or kind in {"assistant", "stream_event"}
        elif kind == "command_lifecycle" and frame.get("command_uuid") == turn.prompt_uuid:
            was_queued, self._prompt_is_queued = self._prompt_is_queued, frame.get("state") == "queued"
            if was_queued and frame.get("state") == "cancelled":
                self._end_turn(self._unexpected_end())  # taken back before it began: no `result` comes
        if turn is not None and turn.stop_reason is not None and begins:
            turn.stir()  # an interrupt that came too soon had no effect: see guard.py

    def _take_result(self, frame: Frame) -> None:
        turn = self.turn
        translator, self._translator = self._translator, Translator()
        self._is_busy_unasked = False
        self.idle_since = self._signs.last
        if turn is None:
            return  # what was spent meanwhile counts for the next turn
        if self._held_prompt is not None and turn.stop_reason is None:
            line, self._held_prompt = self._held_prompt, None
            self._say(turn, line)
            return
        if self._prompt_is_queued:
            return  # the end of something else, which began at the same moment as the prompt came
        spent = self._meter.spent(frame)
        outcome, error = read_result(frame, turn.stop_reason, turn.stop_error)
        text = frame.get("result")
        self._end_turn(
            TurnResult(
                outcome=outcome,
                error=error,
                tokens=translator.tokens(),
                models=spent,
                text=text if isinstance(text, str) and error is None else "",
                output=frame.get("structured_output"),
                last_entry_uuid=translator.last_entry_uuid,
            )
        )

    # ── Ends ──────────────────────────────────────────────────────────────────

    def _fail(self, error: CallError) -> None:
        if self.failure is None and not self._closing.is_set():
            self.failure = error
        self._closing.set()
        self.ready.set()

    def _unexpected_end(self) -> TurnResult:
        """How a turn ends that the binary did not end."""
        tokens, last_entry_uuid = self._translator.tokens(), self._translator.last_entry_uuid
        turn = self.turn
        if turn is not None and turn.stop_reason is not None:
            outcome, error = stopped(turn.stop_reason, turn.stop_error)
            return TurnResult(outcome=outcome, error=error, tokens=tokens, last_entry_uuid=last_entry_uuid)
        failure = self.failure or EngineStopped()
        return TurnResult(outcome="failed", error=failure, tokens=tokens, last_entry_uuid=last_entry_uuid)

    def _end_turn(self, result: TurnResult) -> None:
        """End the turn; one that was stopped has its tools' processes ended first."""
        turn = self.turn
        if turn is None or turn.stop_reason is None or self._closing.is_set():
            self._finish_turn(result)
        elif self._ending is None:
            self._ending = result
            self._tasks.start_soon(self._clear_up)

    async def _clear_up(self) -> None:
        await self._leftovers.end(self._control)
        if self._ending is not None:
            self._finish_turn(self._ending)

    def _finish_turn(self, result: TurnResult) -> None:
        turn, self.turn = self.turn, None
        self._ending = None
        self._held_prompt = None
        self.idle_since = trio.current_time()
        self._set_model_back()
        if turn is not None:
            turn.finish(result)
