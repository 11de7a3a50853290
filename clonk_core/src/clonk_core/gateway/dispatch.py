"""The gateway: every request of every transport passes here, and nothing but a `CallError` comes back out."""

import itertools
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import trio

from clonk_core.errors import CallError, DeadlineExceeded, InvalidRequest, NotFound, Unavailable
from clonk_core.gateway.authenticate import authenticate
from clonk_core.gateway.scopes import check_scope
from clonk_core.ids import new_id
from clonk_core.interfaces import Connection, Following, Log
from clonk_core.messages import Caller, JsonValue, Method, Reply, Request
from clonk_core.observe.logs import request_context

_LOGGED_CHARACTERS: Final = 100
"""Of a method's name: one that is not there may be as long as a message."""


class RealmDoor(Protocol):
    """What the gateway needs of a realm."""

    def method(self, name: str) -> Method: ...

    async def invoke(
        self, method: Method, params: JsonValue, caller: Caller, call_id: str, *, deadline_s: float | None = None
    ) -> Reply | Following: ...

    def incident(self, error: BaseException, where: str) -> CallError: ...


class Gateway:
    """Implements `interfaces.Dispatch`.

    Args:
        realms: One per tenant, by name.
        log: Where calls are written.
        call_deadline_s: Longest time of a plain call whose method does not say its own.
    """

    def __init__(self, realms: Mapping[str, RealmDoor], *, log: Log, call_deadline_s: float) -> None:
        self._realms = realms
        self._log = log
        self._call_deadline_s = call_deadline_s
        self._clock: Callable[[], float] = trio.current_time
        self._closing = False
        # Ids of calls: a new one for this gateway's life, and a number. A new id for each would cost 4 us a call.
        self._life = new_id("req")
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Let nobody in any more: the server is shutting down."""
        self._closing = True

    async def __call__(self, request: Request, connection: Connection) -> Reply | Following:
        """Answer one request; see `interfaces.Dispatch`."""
        call_id = f"{self._life}-{next(self._numbers)}"
        with request_context(call_id):
            answer = await self._logged(request, connection, call_id)
            if isinstance(answer, Following) and answer.after == 0:
                self._log.info("run started", method=request.method, subscription=answer.run.id)
        return answer

    async def _logged(self, request: Request, connection: Connection, call_id: str) -> Reply | Following:
        began = self._clock()
        outcome = "cancelled"
        try:
            answer = await self._answer(request, connection, call_id)
            outcome = "ok"
            return answer
        except CallError as error:
            outcome = error.kind
            raise
        finally:
            self._log.debug(
                "call",
                method=request.method[:_LOGGED_CHARACTERS],
                caller=connection.caller.id if connection.caller else None,
                transport=connection.transport,
                peer=connection.peer,
                outcome=outcome,
                duration_ms=round((self._clock() - began) * 1000, 3),
            )

    async def _answer(self, request: Request, connection: Connection, call_id: str) -> Reply | Following:
        if self._closing:
            raise Unavailable("the server is shutting down; try again in a moment")
        caller = authenticate(connection)
        realm = self._realms.get(caller.tenant)
        if realm is None:
            raise NotFound(f"there is no tenant {caller.tenant!r}")
        method = realm.method(request.method)
        check_scope(caller, method)
        if method.streaming and request.plain_only:
            raise InvalidRequest(f"{method.name} is a streaming method; call it outside of a batch")
        try:
            return await self._invoke(realm, method, request, caller, call_id)
        except CallError:
            raise
        except Exception as error:  # an activation's bug or ours: recorded, and the caller gets an incident id
            raise realm.incident(error, method.name) from error

    async def _invoke(
        self, realm: RealmDoor, method: Method, request: Request, caller: Caller, call_id: str
    ) -> Reply | Following:
        if method.streaming:
            return await realm.invoke(method, request.params, caller, call_id, deadline_s=method.deadline_s)
        deadline_s = method.deadline_s or self._call_deadline_s
        # Not `trio.move_on_after`, which costs 3 us more: a twentieth of a call over WebSocket.
        with trio.CancelScope(deadline=trio.current_time() + deadline_s):
            return await realm.invoke(method, request.params, caller, call_id, deadline_s=deadline_s)
        raise DeadlineExceeded(f"{method.name} took longer than {deadline_s:g} s", deadline_s=deadline_s)
