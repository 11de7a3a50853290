"""The gateway: every request of every transport passes here, and nothing but a `CallError` comes back out."""

import itertools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Final, NoReturn, Protocol

import attrs
import trio

from clonk_core.errors import (
    CallError,
    DeadlineExceeded,
    InvalidRequest,
    MethodNotFound,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from clonk_core.gateway.admission import Admission
from clonk_core.gateway.authenticate import Authenticator, Grant, Refused
from clonk_core.gateway.office import KeyOffice
from clonk_core.gateway.records import Records
from clonk_core.gateway.scopes import HOW_TO_PROVE, check_scope, target_of
from clonk_core.gateway.watch import Watch
from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection
from clonk_core.interfaces.host import Log
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Caller, JsonValue, Quota, Reply, Request
from clonk_core.methods import Method
from clonk_core.observe.logs import request_context

AUTHENTICATE: Final = "auth.authenticate"


class RealmDoor(Protocol):
    """What the gateway needs of a realm."""

    def method(self, name: str) -> Method: ...

    def count_runs(self, caller_id: str | None) -> int: ...

    async def find_repeat(self, method: Method, params: JsonValue, caller: Caller) -> Following | None: ...

    async def invoke(
        self,
        method: Method,
        params: JsonValue,
        caller: Caller,
        call_id: str,
        *,
        target: str | None = None,
        deadline_s: float | None = None,
    ) -> Reply | Following: ...

    def incident(self, error: BaseException, where: str) -> CallError: ...


@attrs.define
class CallNotes:
    """What is known of a call so far, for what is written down about it."""

    method: Method | None = None
    target: str | None = None
    outcome: str = "cancelled"
    answer: Reply | Following | None = None
    duration_s: float = 0.0


class Gateway:
    """Implements `interfaces.Dispatch`. Made by `open_gateway`.

    Args:
        realms: One per tenant, by name.
        authenticator: Finds out who calls.
        admission: Lets in as much as is allowed.
        records: Writes down what became of each call.
        watch: Tells connections that may not go on.
        keys: Keeps the API keys.
        log: Where faults are told.
        call_deadline_s: Longest time of a plain call whose method does not say its own.
    """

    def __init__(
        self,
        realms: Mapping[str, RealmDoor],
        *,
        authenticator: Authenticator,
        admission: Admission,
        records: Records,
        watch: Watch,
        keys: KeyOffice,
        log: Log,
        call_deadline_s: float,
    ) -> None:
        self._realms = realms
        self._authenticator = authenticator
        self._admission = admission
        self._records = records
        self._watch = watch
        self.keys = keys
        self._log = log
        self._call_deadline_s = call_deadline_s
        self._clock: Callable[[], float] = trio.current_time
        self._closing = False
        # Ids of calls: a new one for this gateway's life, and a number. A new id for each would cost 4 us a call.
        self._life = new_id("req")
        self._numbers = itertools.count(1)
        self._presenting: ContextVar[Connection | None] = ContextVar("presenting_connection", default=None)

    def quota(self, caller: Caller) -> Quota | None:
        """Return what is left of a caller's rate limit after its last call, None without one."""
        return self._admission.quota(caller)

    def close(self) -> None:
        """Let nobody in any more: the server is shutting down."""
        self._closing = True

    async def __call__(self, request: Request, connection: Connection) -> Reply | Following:
        """Answer one request; see `interfaces.Dispatch`."""
        call_id = f"{self._life}-{next(self._numbers)}"
        with request_context(call_id, connection.trace_id):
            notes = CallNotes()
            began = self._clock()
            try:
                answer = await self._answer(request, connection, call_id, notes)
                notes.outcome, notes.answer = "ok", answer
            except CallError as error:
                notes.outcome = error.kind
                raise
            finally:
                notes.duration_s = self._clock() - began
                pending = self._records.call(request, connection, call_id, notes)
                if pending is not None:
                    await pending
            if isinstance(answer, Following) and answer.after == 0 and not answer.repeated:
                self._log.info("run started", method=request.method, subscription=answer.run.id)
        return answer

    # ── in somebody's name ───────────────────────────────────────────────────

    def acting(self, caller: Caller) -> Caller:
        """Return a caller who acts in somebody's name, with what that one may do now.

        Raises:
            Forbidden: Whom it acts for is let in no more.
        """
        return self._authenticator.acting(caller).caller

    async def act(self, request: Request, caller: Caller, *, peer: str, run_id: str | None) -> Reply | Following:
        """Answer a request in somebody's name: scopes, limits and the audit log are that one's; see `Host.call_as`."""
        connection = Connection(transport="inside", peer=peer, id=new_id("conn"), run_id=run_id)
        connection.caller = attrs.evolve(caller, kind="session")
        try:
            connection.grant = self._authenticator.acting(caller)
        except CallError as error:
            refused = self._records.call(
                request, connection, f"{self._life}-{next(self._numbers)}", CallNotes(outcome=error.kind)
            )
            if refused is not None:
                await refused
            raise
        return await self(request, connection)

    # ── connections ──────────────────────────────────────────────────────────

    async def greet(self, connection: Connection) -> None:
        """Look at the credential that a connection begins with; see `interfaces.Dispatch`."""
        if self._closing:
            raise Unavailable("the server is shutting down; try again in a moment")
        try:
            await self._authenticator.grant(connection)
        except Refused as refused:
            await self._refuse(refused, connection)

    async def wait_over(self, connection: Connection) -> str:
        """Wait until the connection may not go on; see `interfaces.Dispatch`."""
        return await self._watch.wait_over(connection)

    async def present(self, credential: str) -> Caller:
        """Make the connection whose call is running the credential's.

        Raises:
            Unauthenticated: It is not good.
            InvalidRequest: This connection cannot be made anyone's, or not now.
        """
        connection = self._presenting.get()
        if connection is None or connection.transport == "http":
            raise InvalidRequest("over HTTP every request says for itself who it is: `Authorization: Bearer <API key>`")
        if connection.transport in ("stdio", "inside") or not self._authenticator.enabled:
            return (await self._authenticator.grant(connection)).caller
        try:
            grant = await self._authenticator.examine(credential, connection)
        except Refused as refused:
            await self._refuse(refused, connection)
        self._check_change(connection, grant)
        connection.grant, connection.caller = grant, grant.caller
        self._watch.note_known(connection)
        return grant.caller

    def _check_change(self, connection: Connection, grant: Grant) -> None:
        before = connection.caller
        if before is None or before.kind == "stranger":
            return
        if (before.tenant, before.id) != (grant.caller.tenant, grant.caller.id) and connection.runs_open():
            raise InvalidRequest(
                "this connection has runs that are going on; end them, or open another connection for the other caller"
            )

    async def _refuse(self, refused: Refused, connection: Connection) -> NoReturn:
        # First, so that a flood is bounded in the log and the audit log, too.
        await self._admission.stranger(connection)
        await self._records.refused(refused.reason, connection)
        raise await self._authenticator.refuse(refused, connection) from refused

    # ── calls ────────────────────────────────────────────────────────────────

    async def _answer(
        self, request: Request, connection: Connection, call_id: str, notes: CallNotes
    ) -> Reply | Following:
        if self._closing:
            raise Unavailable("the server is shutting down; try again in a moment")
        while connection.settling is not None:  # a client need not wait for the answer to `auth.authenticate`
            await connection.settling.wait()
        try:
            # Looked at here as well, to spare most calls without a key a coroutine each.
            grant = self._authenticator.settled(connection) or await self._authenticator.grant(connection)
        except Refused as refused:
            await self._refuse(refused, connection)
        caller = grant.caller
        if caller.kind == "stranger":
            await self._admission.stranger(connection)
        elif self._admission.is_limited(grant):
            await self._admission.call(grant, connection, request.size)
        realm = self._realms.get(caller.tenant)
        if realm is None:
            raise NotFound(f"there is no tenant {caller.tenant!r}")
        method = self._method(realm, request, caller, notes)
        begun = self._records.begin(request, connection, call_id, notes)
        if begun is not None:
            await begun
        try:
            if method.name == AUTHENTICATE:
                return await self._authenticate(realm, method, request, connection, caller, call_id)
            if method.streaming:
                return await self._start(realm, method, request, connection, grant, call_id, notes.target)
            return await self._call(realm, method, request, caller, call_id, notes.target)
        except CallError:
            raise
        except Exception as error:  # an activation's bug or ours: recorded, and the caller gets an incident id
            raise realm.incident(error, method.name) from error

    def _method(self, realm: RealmDoor, request: Request, caller: Caller, notes: CallNotes) -> Method:
        """Return the method that the caller may call; nobody learns of methods that are not for them."""
        try:
            method = notes.method = realm.method(request.method)
        except MethodNotFound as error:
            if caller.kind == "stranger":
                raise Unauthenticated(HOW_TO_PROVE) from error
            near = [name for name in error.near if realm.method(name).may_be_called_by(caller)]
            raise MethodNotFound(error.method, near) from error
        notes.target = target_of(method, request.params)
        check_scope(caller, method, request.params)
        if method.streaming and request.plain_only:
            raise InvalidRequest(f"{method.name} is a streaming method; call it outside of a batch")
        return method

    async def _call(
        self, realm: RealmDoor, method: Method, request: Request, caller: Caller, call_id: str, target: str | None
    ) -> Reply | Following:
        deadline_s = method.deadline_s or self._call_deadline_s
        # Not `trio.move_on_after`, which costs 3 us more: a twentieth of a call over WebSocket.
        with trio.CancelScope(deadline=trio.current_time() + deadline_s):
            return await realm.invoke(method, request.params, caller, call_id, target=target, deadline_s=deadline_s)
        raise DeadlineExceeded(f"{method.name} took longer than {deadline_s:g} s", deadline_s=deadline_s)

    async def _start(
        self,
        realm: RealmDoor,
        method: Method,
        request: Request,
        connection: Connection,
        grant: Grant,
        call_id: str,
        target: str | None,
    ) -> Reply | Following:
        if method.hands_on:
            return await realm.invoke(method, request.params, grant.caller, call_id, deadline_s=method.deadline_s)
        # First, since a request that starts nothing needs no place for a run.
        answer: Reply | Following | None = await realm.find_repeat(method, request.params, grant.caller)
        if answer is not None:
            return answer
        with self._admission.run(grant, realm.count_runs):
            answer = await realm.invoke(
                method, request.params, grant.caller, call_id, target=target, deadline_s=method.deadline_s
            )
        if isinstance(answer, Following) and not answer.repeated:
            connection.note_run(answer.run)
        return answer

    async def _authenticate(
        self, realm: RealmDoor, method: Method, request: Request, connection: Connection, caller: Caller, call_id: str
    ) -> Reply | Following:
        token = self._presenting.set(connection)
        settled = connection.settling = trio.Event()
        try:
            return await self._call(realm, method, request, caller, call_id, None)
        finally:
            self._presenting.reset(token)
            connection.settling = None
            settled.set()
