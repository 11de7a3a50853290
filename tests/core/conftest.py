"""A small real door for the tests of transports and clients: methods in memory, runs in memory, no host."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal

import attrs
import orjson
import pytest
import trio

from clonk_core import errors
from clonk_core.config.settings import ServerSettings
from clonk_core.errors import CallError, InvalidParams, InvalidRequest, MethodNotFound, NotFound
from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection
from clonk_core.interfaces.runs import Following
from clonk_core.messages import LOCAL_CALLER, Caller, Event, Outcome, Reply, Request, StopReason
from clonk_core.transports import serve
from clonk_core.transports.tls import TlsCertificate


class ListLog:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **members: Any) -> None:
        self.records.append(("debug", event, members))

    def info(self, event: str, **members: Any) -> None:
        self.records.append(("info", event, members))

    def warning(self, event: str, **members: Any) -> None:
        self.records.append(("warning", event, members))

    def error(self, event: str, **members: Any) -> None:
        self.records.append(("error", event, members))

    def exception(self, event: str, **members: Any) -> None:
        self.records.append(("exception", event, members))

    def told(self, level: str) -> list[str]:
        return [event for found, event, _ in self.records if found == level]


class MemoryRun:
    """A run whose events wait in a list."""

    def __init__(self, method: str, *, durable: bool = True) -> None:
        self.id = new_id("sub")
        self.method = method
        self.caller: Caller = LOCAL_CALLER
        self.target: str | None = None
        self.durable = durable
        self.events: list[Event] = []
        self.stopped: StopReason | None = None
        self.broken: CallError | None = None
        self.followers = 0
        self._changed = trio.Event()

    @property
    def state(self) -> Literal["running", "done"]:
        return "done" if self.events and b'"done"' in self.events[-1].payload else "running"

    @property
    def outcome(self) -> Outcome | None:
        return orjson.loads(self.events[-1].payload)["outcome"] if self.state == "done" else None

    @property
    def last_seq(self) -> int:
        return len(self.events)

    def add(self, *values: Any) -> None:
        for value in values:
            self.events.append(Event(len(self.events) + 1, orjson.dumps(value)))
        self._change()

    def finish(self, outcome: str = "complete") -> None:
        self.add({"type": "done", "outcome": outcome})

    def break_log(self, error: CallError | None) -> None:
        self.broken = error
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    @asynccontextmanager
    async def _follow(self, after: int) -> AsyncIterator[AsyncIterator[Sequence[Event]]]:
        if after > self.last_seq:
            raise InvalidParams(f"there are {self.last_seq} events", path="$.after")
        self.followers += 1
        self._change()
        try:
            yield _Batches(self, after)
        finally:
            self.followers -= 1
            if not self.durable and self.state == "running":
                self.stopped = "reader_gone"
                self.finish("cancelled")
            self._change()

    def follow(self, after: int = 0) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Event]]]:
        return self._follow(after)

    async def stop(self, reason: StopReason) -> None:
        if self.state == "running":
            self.stopped = reason
            self.finish("cancelled")


class _Batches:
    def __init__(self, run: MemoryRun, after: int) -> None:
        self._run = run
        self._after = after

    def __aiter__(self) -> "_Batches":
        return self

    async def __anext__(self) -> Sequence[Event]:
        run = self._run
        if run.state == "done" and self._after >= run.last_seq:
            raise StopAsyncIteration
        await run.wait_changed(lambda: run.broken is not None or run.last_seq > self._after)
        if run.broken is not None:
            raise run.broken
        batch = run.events[self._after : self._after + 512]
        self._after += len(batch)
        await trio.lowlevel.checkpoint()
        return batch


class Door:
    """A `Dispatch` with a handful of methods."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}
        self.calls: list[Request] = []
        self.connections: list[Connection] = []
        self.gate = trio.Event()
        self.over = trio.Event()
        self.refusal: CallError | None = None
        self.knows_everyone = True
        self.waiting = 0
        self._started = trio.Event()

    def new_run(self, method: str = "test.stream", *, durable: bool = True) -> MemoryRun:
        run = MemoryRun(method, durable=durable)
        self.runs[run.id] = run
        self._started.set()
        self._started = trio.Event()
        return run

    async def wait_run(self, count: int = 1) -> MemoryRun:
        """Wait until that many runs were started and return the last."""
        while len(self.runs) < count:
            await self._started.wait()
        return list(self.runs.values())[-1]

    async def wait_waiting(self, count: int) -> None:
        """Wait until that many calls of `test.wait` are under way."""
        while self.waiting < count:
            await self._started.wait()

    async def __call__(self, request: Request, connection: Connection) -> Reply | Following:
        self.calls.append(request)
        self.connections.append(connection)
        name = request.method.replace(".", "_")
        method = getattr(self, f"do_{name}", None)
        if method is None:
            raise MethodNotFound(request.method)
        params = request.params if isinstance(request.params, dict) else {}
        return await method(request, **params)  # type: ignore[no-any-return]

    async def greet(self, connection: Connection) -> None:
        if self.refusal is not None:
            raise self.refusal
        if self.knows_everyone:
            connection.grant = LOCAL_CALLER

    async def wait_over(self, connection: Connection) -> str:
        await self.over.wait()
        return "the test says so"

    async def do_test_echo(self, request: Request, **params: Any) -> Reply:
        return Reply(result=orjson.dumps(request.params))

    async def do_test_wait(self, request: Request) -> Reply:
        """Answer when the test opens the gate."""
        self.waiting += 1
        self._started.set()
        self._started = trio.Event()
        await self.gate.wait()
        return Reply(result=b'"waited"')

    async def do_test_fail(self, request: Request, kind: str, **data: Any) -> Reply:
        for found in vars(errors).values():
            if isinstance(found, type) and issubclass(found, CallError) and found.kind == kind:
                error = found.__new__(found)
                CallError.__init__(error, "as asked", **data)
                raise error
        raise AssertionError(kind)

    async def do_test_bug(self, request: Request) -> Reply:
        raise ZeroDivisionError("secret detail")

    async def do_test_stream(
        self, request: Request, events: int = 0, end: bool = True, durable: bool = True, size: int = 0
    ) -> Following:
        if request.plain_only:
            raise InvalidRequest("test.stream streams")
        run = self.new_run(durable=durable)
        run.add(*({"type": "number", "value": n + 1, "filler": "x" * size} for n in range(events)))
        if end:
            run.finish()
        return Following(run=run)

    async def do_rpc_resume(self, request: Request, subscription: str, after: int = 0) -> Following:
        run = self.runs.get(subscription)
        if run is None:
            raise NotFound(f"no run {subscription}")
        if request.plain_only:
            raise InvalidRequest("rpc.resume streams")
        return Following(run=run, after=after)

    async def do_rpc_cancel(self, request: Request, subscription: str) -> Reply:
        await self.runs[subscription].stop("cancelled")
        return Reply(result=b"true")

    async def do_rpc_discover(self, request: Request) -> Reply:
        methods = [{"name": "test.echo", "summary": "Say it again. <b>&", "params": [], "x-clonk-streaming": False}]
        document = {"openrpc": "1.3.2", "info": {"title": "Clonk", "version": "0.1.0"}, "methods": methods}
        return Reply(result=orjson.dumps(document))


async def no_pages(scope: Any, receive: Any, send: Any) -> None:
    """Answer every path beside `/mcp`."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"page " + scope["path"].encode()})


@attrs.define(kw_only=True)
class Served:
    """Both ports, served on a door."""

    door: Door
    log: ListLog
    shutdown: trio.Event
    http_port: int
    websocket_port: int
    secure: bool = False
    ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def http_url(self) -> str:
        return f"http{'s' if self.secure else ''}://127.0.0.1:{self.http_port}"

    @property
    def websocket_url(self) -> str:
        return f"ws{'s' if self.secure else ''}://127.0.0.1:{self.websocket_port}/ws"


@asynccontextmanager
async def serve_door(
    *, pages: Any = no_pages, certificate: TlsCertificate | None = None, log: ListLog | None = None, **settings: Any
) -> AsyncIterator[Served]:
    """Serve a new door on free ports; `served.shutdown` ends it in order, leaving the block at once."""
    door, log, shutdown = Door(), log or ListLog(), trio.Event()
    common: dict[str, Any] = {"log": log, "shutdown": shutdown, "certificate": certificate}
    options = ServerSettings(http_port=0, websocket_port=0, **settings)
    async with trio.open_nursery() as nursery:
        served = Served(door=door, log=log, shutdown=shutdown, http_port=0, websocket_port=0)

        async def run_both(task_status: trio.TaskStatus[None]) -> None:
            async with trio.open_nursery() as servers:
                http = await servers.start(partial(serve.serve_http, door, options, pages=pages, **common))
                websocket = await servers.start(partial(serve.serve_websocket, door, options, **common))
                served.http_port, served.websocket_port = http.port, websocket.port
                served.secure = http.secure and websocket.secure
                task_status.started()
            served.ended.set()

        await nursery.start(run_both)
        yield served
        nursery.cancel_scope.cancel()


@pytest.fixture
def serving() -> Any:
    """`async with serving(**settings) as served`: both ports on a new door."""
    return serve_door


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Both ports on a new door, with the default settings."""
    async with serve_door() as found:
        yield found


@pytest.fixture
def new_door() -> Any:
    """`new_door()` makes a door without a port."""
    return Door


@pytest.fixture
def list_log() -> ListLog:
    """A log that keeps what it is told."""
    return ListLog()
