"""A network that is cut when so many bytes have gone one way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio


@attrs.define
class CuttingProxy:
    """Passes on what comes.

    Attributes:
        to: The port where it goes.
        port: Where it listens.
        cut_after: Bytes after which the connection is cut, `there` or `back`; empty for never.
        was_cut: Whether one was.
    """

    to: int
    port: int = 0
    cut_after: dict[str, int] = attrs.field(factory=dict)
    was_cut: bool = False

    async def serve(self, near: trio.SocketStream) -> None:
        """Pass on one connection."""
        async with near, await trio.open_tcp_stream("127.0.0.1", self.to) as far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass, near, far, "there", nursery.cancel_scope)
            nursery.start_soon(self._pass, far, near, "back", nursery.cancel_scope)

    async def _pass(
        self, source: trio.SocketStream, target: trio.SocketStream, way: str, both: trio.CancelScope
    ) -> None:
        try:
            async for data in source:
                if way in self.cut_after:
                    self.cut_after[way] -= len(data)
                    if self.cut_after[way] < 0:
                        self.was_cut = True
                        break
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        both.cancel()


@asynccontextmanager
async def cutting_proxy(to: int) -> AsyncIterator[CuttingProxy]:
    """Listen on a free port."""
    proxy = CuttingProxy(to)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, proxy.serve, 0, host="127.0.0.1"))
        proxy.port = listener.socket.getsockname()[1]
        yield proxy
        nursery.cancel_scope.cancel()
