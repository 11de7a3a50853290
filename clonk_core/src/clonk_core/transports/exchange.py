"""One HTTP request and its answer, on ASGI."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from clonk_core.errors import CallError, TooLarge

Header = tuple[bytes, bytes]

_NO_STORE: Final = (b"cache-control", b"no-store")
_CLOSE: Final = (b"connection", b"close")


class HttpRefusal(Exception):
    """The request is answered with an HTTP status of its own, before or instead of a call.

    Attributes:
        status: HTTP status.
        error: What the body says.
        headers: Further headers.
        close: Whether the connection ends with the answer, because the rest of the body is not read.
    """

    def __init__(self, status: int, error: CallError, headers: Sequence[Header] = (), *, close: bool = False) -> None:
        super().__init__(status, error)
        self.status = status
        self.error = error
        self.headers = headers
        self.close = close


class Exchange:
    """A request, and what is sent in answer to it.

    Attributes:
        added: Headers that every answer gets.
    """

    def __init__(
        self,
        scope: Any,
        headers: Mapping[bytes, bytes],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.headers = headers
        self.send = send
        self.added: list[Header] = []
        self._receive = receive

    def header_list(self, name: bytes) -> bytes | None:
        """Return a header whose lines make one list, joined; None when there is none."""
        values = [value for key, value in self.scope["headers"] if key == name]
        return b",".join(values) if values else None

    async def read_body(self, limit: int) -> bytes | None:
        """Return the body; None when the client has gone before its end.

        Raises:
            HttpRefusal: It has more than `limit` bytes; the rest is not read.
        """
        whole = bytearray()  # one piece of memory: chunks of two bytes, kept in a list, would take twenty times as much
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                text = f"a request's body may have at most {limit} bytes"
                raise HttpRefusal(413, TooLarge(text, limit=limit), close=True)
            more = message.get("more_body", False)
            if not more and not whole:
                return part
            whole += part
            if not more:
                return bytes(whole)

    async def wait_disconnected(self) -> None:
        """Wait until the client has gone. The body must have been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer_json(
        self, status: int, body: bytes, headers: Iterable[Header] = (), *, close: bool = False
    ) -> None:
        """Send a whole JSON answer."""
        all_headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            _NO_STORE,
            *headers,
            *self.added,
        ]
        if close:
            all_headers.append(_CLOSE)
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self.send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    async def answer_empty(self, status: int, headers: Iterable[Header] = ()) -> None:
        """Send an answer without a body."""
        await self.send(
            {"type": "http.response.start", "status": status, "headers": [_NO_STORE, *headers, *self.added]}
        )
        await self.send({"type": "http.response.body", "body": b""})
