"""The desk: holds every request that waits, takes the first answer, and answers by itself when the time is up."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import attrs
import trio

from clonk_claudecode.engine.permissions import Allow, Decision, Deny, PermissionQuestion
from clonk_claudecode.errors import PermissionResolvedAlready
from clonk_claudecode.events import PermissionRequest, PermissionResolved, PermissionState
from clonk_claudecode.permissions.messages import Ruling, StoredPermission
from clonk_claudecode.permissions.questions import questions_of
from clonk_claudecode.permissions.rulings import DENIED
from clonk_claudecode.permissions.suggestions import session_suggestions
from clonk_claudecode.settings import PermissionSettings
from clonk_claudecode.store import ephemeral_rows, permission_rows, session_rows
from clonk_core.plugin import CallError, Database, Log, Transaction

CLOSE_S: Final = 5.0
"""To note the end of a request while its turn is being cancelled; what could not be noted, the next start notes."""


class _Waiter:
    """A request that the binary waits for.

    Attributes:
        asked: As it is stored.
        question: As the engine has it.
        is_shown: Whether it is stored and shown, so that it can be answered.
        claim: The answer that is being stored: the first one.
        ruling: The answer that is given.
    """

    def __init__(self, asked: StoredPermission, question: PermissionQuestion) -> None:
        self.asked = asked
        self.question = question
        self.is_shown = False
        self.claim: Ruling | None = None
        self.ruling: Ruling | None = None
        self._changed = trio.Event()

    def stir(self) -> None:
        """Something has changed: wake whoever waits."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        """Wait for `stir`."""
        await self._changed.wait()


class PermissionDesk:
    """Answers the binary's questions, with what callers say. One for all sessions.

    Args:
        database: `claudecode.db`.
        settings: How long a request waits, and what becomes of it then.
        log: For what nobody waits for.
        now: The clock.
    """

    def __init__(
        self, database: Database, settings: PermissionSettings, log: Log, *, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._settings = settings
        self._log = log
        self._now = now
        self._waiters: dict[str, _Waiter] = {}

    # ── For the engine ────────────────────────────────────────────────────────

    async def decide(self, question: PermissionQuestion) -> Decision:
        """Ask, and return what is answered: by somebody, or by the deadline."""
        deadline = trio.current_time() + self._settings.timeout_s
        waiter = _Waiter(self._asked(question), question)
        self._waiters[question.id] = waiter
        try:
            try:
                if not await self._database.run(permission_rows.insert_permission, waiter.asked):
                    return Deny("the session has been deleted")
            except CallError as error:
                self._log.warning("a permission could not be asked for", tool=question.tool, reason=error.message)
                return Deny(f"the permission could not be asked for: {error.message}")
            question.show(_shown(waiter.asked))
            waiter.is_shown = True
            waiter.stir()
            return _decision_of(await self._wait(waiter, deadline))
        finally:
            del self._waiters[question.id]
            if waiter.ruling is None:
                question.end("ended")  # without effect when it was withdrawn
                waiter.stir()
                with trio.move_on_after(CLOSE_S, shield=True):
                    await self._close(question.id, question.ended or "ended")

    async def _wait(self, waiter: _Waiter, deadline: float) -> Ruling:
        while waiter.ruling is None:
            # While an answer is being stored the deadline has to wait for what becomes of that.
            with trio.move_on_at(float("inf") if waiter.claim else deadline) as scope:
                await waiter.wait_changed()
            if scope.cancelled_caught and waiter.claim is None and waiter.ruling is None:
                await self._expire(waiter)
        return waiter.ruling

    async def _expire(self, waiter: _Waiter) -> None:
        """Take the default: nobody has answered."""
        # A question has no answer that could be taken for granted.
        allows = self._settings.default == "allow" and waiter.asked.kind == "tool"
        said = f"nobody answered within {self._settings.timeout_s:g} s"
        ruling = Ruling(
            state="expired",
            decision="allow" if allows else "deny",
            by=None,
            at=self._now(),
            message=said + ("" if allows else ", so it was denied"),
        )
        waiter.claim = ruling
        try:
            with trio.CancelScope(shield=True):
                await self._database.run(permission_rows.decide, waiter.asked, ruling)
        except CallError as error:
            self._log.warning("an expired permission could not be noted", reason=error.message)
            ruling = attrs.evolve(ruling, decision="deny")
        self._deliver(waiter, ruling)

    def waiting(self, session_id: str) -> tuple[str, ...]:
        """Return the ids of what a session waits for."""
        return tuple(
            waiter.asked.request_id
            for waiter in self._waiters.values()
            if waiter.asked.session_id == session_id and waiter.is_shown
        )

    async def close_all(self) -> None:
        """Note, before the first question of a new start, that what waited before waits no longer."""
        try:
            count = await self._database.run(permission_rows.end_all, self._now())
        except CallError as error:
            self._log.warning("requests of the last start stay open", reason=error.message)
        else:
            if count:
                self._log.warning("requests for permissions were cut off by the server's end", count=count)

    # ── For callers ───────────────────────────────────────────────────────────

    async def settle(self, asked: StoredPermission, ruling: Ruling) -> StoredPermission:
        """Give an answer and return the request as it is stored then. The same answer by the same caller counts once.

        Raises:
            PermissionResolvedAlready: Somebody else was first, the time was up, or no answer is wanted any more.
            StorageFull: The answer cannot be kept; the request waits on.
        """
        waiter = self._waiters.get(asked.request_id)
        while waiter is not None and waiter.question.ended is None and waiter.ruling is None:
            if waiter.claim is None and waiter.is_shown:
                return await self._first(waiter, asked, ruling)
            await waiter.wait_changed()
        return await self._second(asked, ruling, None if waiter is None else waiter.question.ended)

    async def _first(self, waiter: _Waiter, asked: StoredPermission, ruling: Ruling) -> StoredPermission:
        waiter.claim = ruling
        try:
            # Not to be cut: a cancelled transaction may commit all the same.
            with trio.CancelScope(shield=True):
                is_first = await self._database.run(permission_rows.decide, waiter.asked, ruling)
                if waiter.question.ended is not None and is_first:
                    await self._database.run(permission_rows.overturn, waiter.asked.request_id, waiter.question.ended)
        finally:
            waiter.claim = None
            waiter.stir()
        if waiter.question.ended is not None or not is_first:
            return await self._second(asked, ruling, waiter.question.ended)
        self._deliver(waiter, ruling)
        if ruling.updates:
            await self._remember(asked, ruling)
        return _answered(asked, ruling)

    async def _remember(self, asked: StoredPermission, ruling: Ruling) -> None:
        """Keep what is allowed for good; the running process knows it already."""
        try:
            with trio.CancelScope(shield=True):
                await self._database.run(_grant, asked, ruling)
        except CallError as error:
            self._log.warning("what was allowed always holds until the process ends", reason=error.message)

    async def _second(self, asked: StoredPermission, ruling: Ruling, ended: PermissionState | None) -> StoredPermission:
        """Return what was decided if this is the same once more, else tell who was first."""
        stored = await self._database.read(permission_rows.permission, asked.request_id) or asked
        if stored.state == "waiting":  # its end is being stored just now, or could not be
            stored = attrs.evolve(stored, state=ended or "ended", decided_at=self._now())
        if stored == attrs.evolve(_answered(stored, ruling), decided_at=stored.decided_at):
            return stored
        raise PermissionResolvedAlready(
            request_id=stored.request_id,
            state=stored.state,
            decision=stored.decision,
            by=stored.decided_by,
            at=None if stored.decided_at is None else stored.decided_at.isoformat(timespec="milliseconds"),
        )

    def _deliver(self, waiter: _Waiter, ruling: Ruling) -> None:
        """Show the answer and wake the one who gives it to the binary, which nothing can come between any more."""
        waiter.question.resolve(
            PermissionResolved(
                request_id=waiter.asked.request_id,
                state="expired" if ruling.state == "expired" else "allowed" if ruling.state == "allowed" else "denied",
                decision=ruling.decision,
                by=ruling.by,
                reason=ruling.message,
            )
        )
        waiter.ruling = ruling
        waiter.stir()

    # ── Ends ──────────────────────────────────────────────────────────────────

    async def note_end(self, event: PermissionResolved) -> None:
        """Store how a request ended that nobody answered, before that is shown."""
        if event.state in {"withdrawn", "ended"}:
            await self._close(event.request_id, event.state)

    async def _close(self, request_id: str, state: PermissionState) -> None:
        try:
            await self._database.run(permission_rows.end, request_id, state, self._now())
        except CallError as error:
            self._log.warning("the end of a permission request could not be noted", reason=error.message)

    def _asked(self, question: PermissionQuestion) -> StoredPermission:
        asked_at = self._now()
        reason = question.request.get("decision_reason")
        tool_input = dict(question.input)
        return StoredPermission(
            request_id=question.id,
            session="",  # stored by its id; the name may change
            session_id=question.session_id,
            subscription=question.turn_id,
            kind="question" if questions_of(question.tool, tool_input) else "tool",
            tool=question.tool,
            input=tool_input,
            tool_use_id=question.tool_use_id,
            suggestions=session_suggestions(question.request),
            reason=reason if isinstance(reason, str) else None,
            asked_at=asked_at,
            expires_at=asked_at + timedelta(seconds=self._settings.timeout_s),
            state="waiting",
        )


def _grant(transaction: Transaction, asked: StoredPermission, ruling: Ruling) -> None:
    # An ephemeral prompt leaves no trace: what it was allowed for good goes with it.
    if not ephemeral_rows.is_ephemeral(transaction, asked.subscription or ""):
        session_rows.grant(transaction, asked.session_id, ruling.updates)


def _shown(asked: StoredPermission) -> PermissionRequest:
    return PermissionRequest(
        request_id=asked.request_id,
        kind=asked.kind,
        tool=asked.tool,
        input=asked.input,
        tool_use_id=asked.tool_use_id,
        suggestions=asked.suggestions,
        reason=asked.reason,
        expires_at=asked.expires_at,
    )


def _answered(asked: StoredPermission, ruling: Ruling) -> StoredPermission:
    return attrs.evolve(
        asked,
        state=ruling.state,
        decision=ruling.decision,
        decided_by=ruling.by,
        decided_at=ruling.at,
        message=ruling.message,
        updated_input=ruling.updated_input,
        interrupt=ruling.interrupt,
    )


def _decision_of(ruling: Ruling) -> Decision:
    if ruling.decision == "deny":
        return Deny(ruling.message or DENIED, ruling.interrupt, by=ruling.by)
    return Allow(ruling.updated_input, ruling.updates, by=ruling.by)
