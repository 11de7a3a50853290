"""What WebSocket and stdio have in common: many calls and many streams, both ways, on one connection."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Self

import attrs
import trio

from clonk_core.errors import CallError
from clonk_core.interfaces.door import Connection
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Reply, Request
from clonk_core.transports.doorway import Doorway, PeerGone
from clonk_core.transports.first_wait import telling_first_wait
from clonk_core.wire.jsonrpc import (
    Batch,
    Frames,
    Limits,
    Refused,
    batch_bytes,
    error_bytes,
    parse,
    reply_bytes,
    subscription_reply,
)

MAX_CALLS: Final = 64
"""Messages of one connection that are worked on at the same time. More wait in the socket, which slows the sender."""

_ROOM_BYTES: Final = 32 * 2**20
"""Requests that are worked on and answers that wait to be sent, of one connection together; with more, nothing is
received. Who sends large requests and does not read the answers would otherwise fill the memory: 64 of 10 MiB each took
1.7 GB."""

_MAX_PARKED: Final = 4
"""Workers beyond these do not wait for their next turn, but end."""

MAX_STREAMS: Final = 1024
"""Streams of one connection that are followed at the same time; each holds up to one batch (256 KiB) in memory. Beyond
them, plain calls (such as `rpc.cancel`) are still answered."""


SendMessages = Callable[[Sequence[bytes]], Awaitable[None]]
"""Sends JSON messages in one write, in the order asked for, whoever asks; raises `PeerGone`. It waits, and gives others
a turn, only when it has to."""


@attrs.frozen
class _Opened:
    """A stream that is ready and waits for its acknowledgement to be sent."""

    subscription: str
    go: trio.Event


class _Turn:
    """A worker's turn at receiving, which it hands on when the call that came has to wait.

    Args:
        lock: Held by the worker; released when the turn is handed on or over.
        call_next: Called when it is handed on.
    """

    def __init__(self, lock: trio.Lock, call_next: Callable[[], None]) -> None:
        self._lock = lock
        self._call_next = call_next
        self.handed_on = False

    def __enter__(self) -> Self:
        return self

    def hand_on(self) -> None:
        self.handed_on = True
        self._lock.release()
        self._call_next()

    def __exit__(self, *_error: object) -> None:
        if not self.handed_on:
            self._lock.release()


Receive = Callable[[], Awaitable[bytes | CallError | None]]
"""Returns the next message, the error of something that came in and is none, or None when nothing more comes."""


class Duplex:
    """One connection: `run` takes messages from `receive` and answers through `send`.

    Workers take turns at receiving: whoever has a message answers it, and hands the turn on as soon as that has to
    wait. So no call waits for another, and small calls, which wait for nothing, start no task and switch to none, a
    third of what they would cost.
    """

    def __init__(self, doorway: Doorway, connection: Connection, send: SendMessages, limits: Limits) -> None:
        self.connection = connection
        self._doorway = doorway
        self._send = send
        self._limits = limits
        self._receive: Receive
        self._workers: trio.Nursery
        self._streams: trio.Nursery
        self._turn = trio.Lock()
        self._worker_count = 0
        self._parked_count = 0
        self._input_over = trio.Event()
        self._follows = True
        self._calls_open = 0
        self._held_bytes = 0
        self._room: trio.Event | None = None
        self._streams_open = 0
        self._quiet: trio.Event | None = None

    async def run(self, receive: Receive, *, linger_s: float) -> None:
        """Work until `receive` returns None.

        Then streams may go on for `linger_s` and are left; calls are worked to their end, limited by their deadline.
        """
        self._receive = receive
        async with trio.open_nursery() as self._workers:
            async with trio.open_nursery() as self._streams:
                self._add_worker()
                await self._input_over.wait()
                if linger_s:
                    with trio.move_on_after(linger_s):
                        await self.wait_quiet()
                self._follows = False
                self._streams.cancel_scope.cancel()

    @property
    def waits_for_room(self) -> bool:
        """Whether nothing is received because enough is being worked on."""
        return self._calls_open >= MAX_CALLS or self._room is not None

    async def wait_quiet(self) -> None:
        """Wait until no call is worked on and no stream is followed."""
        while self._calls_open or self._streams_open:
            self._quiet = self._quiet or trio.Event()
            await self._quiet.wait()

    # ── workers ──────────────────────────────────────────────────────────────

    def _add_worker(self) -> None:
        self._worker_count += 1
        self._workers.start_soon(self._work)

    async def _work(self) -> None:
        try:
            while self._parked_count < _MAX_PARKED and not self._input_over.is_set():
                await self._take_turn()
                with _Turn(self._turn, self._call_next_worker) as turn:
                    while not turn.handed_on:
                        message = None if self._input_over.is_set() else await self._receive_with_room()
                        if message is None:
                            self._input_over.set()
                            break
                        await telling_first_wait(self._answer(message), turn.hand_on)
        finally:
            self._worker_count -= 1

    async def _receive_with_room(self) -> bytes | CallError | None:
        while self._held_bytes > _ROOM_BYTES:
            self._room = trio.Event()
            await self._room.wait()
        return await self._receive()

    def _call_next_worker(self) -> None:
        if not self._parked_count and self._worker_count < MAX_CALLS:
            self._add_worker()

    async def _take_turn(self) -> None:
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            self._parked_count += 1
            try:
                await self._turn.acquire()
            finally:
                self._parked_count -= 1

    # ── calls ────────────────────────────────────────────────────────────────

    async def _answer(self, message: bytes | CallError) -> None:
        self._calls_open += 1
        held_bytes = 0 if isinstance(message, CallError) else len(message)
        self._hold(held_bytes)
        try:
            if isinstance(message, CallError):
                await self._send((error_bytes(None, message),))
                return
            incoming = parse(message, self._limits)
            del message  # up to 10 MiB that the call does not need to hold
            if isinstance(incoming, Batch):
                answer, streams = await self._answer_batch(incoming)
            else:
                answer, opened = await self._answer_one(incoming)
                streams = [opened] if opened else []
            del incoming
            self._hold(len(answer) - held_bytes)
            held_bytes = len(answer)
            if answer:
                await self._send((answer,))
            for opened in streams:
                opened.go.set()
        except PeerGone:
            pass
        finally:
            self._hold(-held_bytes)
            self._calls_open -= 1
            self._note_quiet()

    def _hold(self, size: int) -> None:
        """Note that so many more bytes wait in memory, or fewer."""
        self._held_bytes += size
        if self._room is not None and self._held_bytes <= _ROOM_BYTES:
            self._room.set()
            self._room = None

    async def _answer_batch(self, batch: Batch) -> tuple[bytes, list[_Opened]]:
        """Work the items in order; return their answers as one, and the streams that may begin when it is sent."""
        answers, streams = [], []
        for item in batch.items:
            answer, opened = await self._answer_one(item)
            if answer:
                answers.append(answer)
            if opened:
                streams.append(opened)
        return batch_bytes(answers), streams

    async def _answer_one(self, item: Request | Refused) -> tuple[bytes, _Opened | None]:
        """Return the answer (empty for a notification) and the stream that may begin when it is sent."""
        if isinstance(item, Refused):
            return error_bytes(item.id, item.error), None
        if self._streams_open >= MAX_STREAMS:
            item = attrs.evolve(item, plain_only=True)
        try:
            answer = await self._doorway.call(item, self.connection)
            if isinstance(answer, Reply):
                return (b"" if item.is_notification else reply_bytes(item.id, answer.result)), None
            if item.is_notification:
                await self._doorway.leave_unread(answer)
                return b"", None
            opened = await self._open_stream(answer)
        except CallError as error:
            return (b"" if item.is_notification else error_bytes(item.id, error)), None
        return subscription_reply(item.id, opened.subscription), opened

    # ── streams ──────────────────────────────────────────────────────────────

    async def _open_stream(self, following: Following) -> _Opened:
        if not self._follows:
            await self._doorway.leave_unread(following)
            raise PeerGone
        go: trio.Event = await self._streams.start(self._follow, following)
        return _Opened(following.run.id, go)

    async def _follow(self, following: Following, *, task_status: trio.TaskStatus[trio.Event]) -> None:
        """Send the run's events, once the event given to `task_status` is set.

        Raises:
            CallError: Only before it has started.
        """
        frames = Frames(following.run.id)
        go = trio.Event()
        self._streams_open += 1
        started = False
        try:
            async with self._doorway.follow(following) as batches:
                task_status.started(go)
                started = True
                await go.wait()
                async for events in batches:
                    await self._send(frames.events(events))
                    await trio.lowlevel.checkpoint()  # what is ready and taken at once keeps nobody else waiting
        except PeerGone:
            pass
        except CallError as error:
            if not started:
                raise
            await self._send_if_there(frames.error(error))
        finally:
            self._streams_open -= 1
            self._note_quiet()

    async def _send_if_there(self, message: bytes) -> None:
        with suppress(PeerGone):
            await self._send((message,))

    def _note_quiet(self) -> None:
        if self._quiet is not None and not self._calls_open and not self._streams_open:
            self._quiet.set()
            self._quiet = None
