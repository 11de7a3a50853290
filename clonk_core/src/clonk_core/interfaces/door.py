"""The door between the transports and all that lies behind: a connection, and what answers its requests."""

from typing import Literal, Protocol

import attrs

from clonk_core.interfaces.runs import Following, Run
from clonk_core.messages import Caller, Quota, Reply, Request


class Settling(Protocol):
    """Something that is being found out."""

    async def wait(self) -> object:
        """Wait until it is."""


@attrs.define(kw_only=True)
class Connection:
    """What a transport knows of the other side.

    Attributes:
        transport: Which door.
        peer: Address of the other side, for the log: `127.0.0.1:51234`, `stdio`.
        id: Names the connection in the log (`conn_...`).
        address: IP address of the other side, that of the client behind trusted proxies; empty where there is none.
        bearer: The credential of `Authorization: Bearer`, if one was given. Never logged.
        caller: Who it turned out to be, once the gateway knows; kept for the connection's life.
        quota: What was left of the caller's rate limit after the last call; None without one.
        grant: What the gateway remembers of the caller; None until it is known. The gateway's own.
        settling: Whether a credential is good that is being looked at now, None when none is: calls that came behind it
            wait for that. The gateway's own.
        trace_id: The trace that the request belongs to (W3C Trace Context), for the log; None where none was told.
        run_id: The run whose work the calls are, for the audit log; None for those of clients.
    """

    transport: Literal["http", "websocket", "stdio", "inside"]
    peer: str
    id: str
    address: str = ""
    bearer: str | None = attrs.field(default=None, repr=False)
    caller: Caller | None = None
    quota: Quota | None = None
    trace_id: str | None = None
    run_id: str | None = None
    grant: object = attrs.field(default=None, repr=False)
    settling: Settling | None = attrs.field(default=None, repr=False)
    _runs: list[Run] = attrs.field(factory=list, init=False, repr=False)

    def note_run(self, run: Run) -> None:
        """Remember a run that was started over this connection."""
        self._runs = [one for one in self._runs if one.state == "running"]
        self._runs.append(run)

    def runs_open(self) -> bool:
        """Tell whether a run that was started over this connection is going on."""
        return any(run.state == "running" for run in self._runs)


class Dispatch(Protocol):
    """The one door behind the transports."""

    async def __call__(self, request: Request, connection: Connection) -> Reply | Following:
        """Find the caller, check scope and arguments, call the method.

        Raises:
            CallError: And nothing else, whatever goes wrong behind the door (`Cancelled` apart).
        """

    async def greet(self, connection: Connection) -> None:
        """Look at the credential that a connection begins with, where it has one.

        Raises:
            CallError: It is not good; the connection shall not be opened.
        """

    async def wait_over(self, connection: Connection) -> str:
        """Wait until the connection may not go on, and return why in a few words.

        It may not when it has not said who it is in time, and when its credential is revoked or expires. For the local
        caller this waits for ever.
        """
