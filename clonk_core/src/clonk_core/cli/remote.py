"""A running server as `reach` gives it: errors as `CallError`, and no server as `NoServer`."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from clonk_core.cli.exit_codes import NoServer
from clonk_core.cli.reach import Stream
from clonk_core.client.base import ClientError, EventStream, RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.client.key import own_key, refusal
from clonk_core.messages import ErrorObject
from clonk_core.wire.error_codes import error_from_object


@asynccontextmanager
async def open_remote(url: str) -> AsyncIterator["RemoteCallee"]:
    """Give the server at `url`.

    Raises:
        NoServer: It is no address, or nobody answers there.
    """
    async with HttpClient(url, api_key=own_key(os.environ)) as client:
        yield RemoteCallee(client, url)


class RemoteCallee:
    """Calls a running server."""

    def __init__(self, client: HttpClient, url: str) -> None:
        self._client = client
        self._url = url

    async def call(self, method: str, /, **params: Any) -> Any:
        """Call a plain method and return its result."""
        with self._translated():
            return await self._client.call(method, **params)

    @asynccontextmanager
    async def stream(self, method: str, /, **params: Any) -> AsyncIterator[Stream]:
        """Call a streaming method and read its events."""
        with self._translated():
            async with self._client.stream(method, **params) as events:
                yield _Numbered(events)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except RemoteError as error:
            # The server speaks of headers; here it is a variable that is wrong or missing.
            message = refusal(error.message, os.environ) if error.kind == "unauthenticated" else error.message
            told = ErrorObject(code=error.code, message=message, data={"kind": error.kind, **error.data})
            raise error_from_object(told) from error
        except ClientError as error:
            raise NoServer(self._url, str(error)) from error


class _Numbered:
    """Events as pairs of number and value."""

    def __init__(self, events: EventStream) -> None:
        self.subscription = events.subscription
        self._events = events

    async def __aiter__(self) -> AsyncIterator[tuple[int, Any]]:
        async for event in self._events:
            yield event.seq, event.event
