"""Where `clonk call` and the like send their calls: a running server, or a host in this process."""

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson

from clonk_core.app import draw, open_app
from clonk_core.cli.exit_codes import CommandError
from clonk_core.ids import new_id
from clonk_core.interfaces import Connection, Dispatch, Following
from clonk_core.messages import Event, Request
from clonk_core.observe.logs import Logs


class Stream(Protocol):
    """The events of one run, with their numbers; the last is `done`."""

    @property
    def subscription(self) -> str:
        """The run's id."""

    def __aiter__(self) -> AsyncIterator[tuple[int, Any]]: ...


class Callee(Protocol):
    """Takes calls."""

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Call a plain method and return its result; raises `CallError`."""

    def stream(self, method: str, params: dict[str, Any]) -> AbstractAsyncContextManager[Stream]:
        """Call a streaming method and read its events; raises `CallError`."""


@asynccontextmanager
async def reach(url: str, *, local: bool, config: Path | None = None) -> AsyncIterator[Callee]:
    """Give what takes the calls.

    Args:
        url: The server's HTTP address.
        local: Open a host in this process instead, on the data directory.
        config: Configuration file for `local`.

    Raises:
        NoServer: Nobody answers at `url`.
        ConfigError, StorageError: The host cannot be opened.
    """
    if local:
        blueprint = draw(config, os.environ, {})
        # The answer is what the user wants to see; what went wrong stays visible.
        logs = Logs(level="warning", format=blueprint.settings.logging.format)
        async with open_app(blueprint, logs=logs) as app:
            yield LocalCallee(app.dispatch)
        return
    if config is not None:
        raise CommandError("--config is for --local; a running server has its own configuration")
    from clonk_core.cli.remote import open_remote

    async with open_remote(url) as callee:
        yield callee


class LocalCallee:
    """Calls through the whole gateway of a host in this process."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._connection = Connection(transport="inside", peer="command line", id=new_id("conn"))

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Call a plain method and return its result."""
        answer = await self._ask(method, params)
        if isinstance(answer, Following):
            await answer.run.stop("cancelled")
            raise CommandError(f"{method} streams")
        return orjson.loads(answer.result)

    @asynccontextmanager
    async def stream(self, method: str, params: dict[str, Any]) -> AsyncIterator[Stream]:
        """Call a streaming method and read its events."""
        answer = await self._ask(method, params)
        if not isinstance(answer, Following):
            raise CommandError(f"{method} does not stream")
        async with answer.run.follow(answer.after) as batches:
            yield _LocalStream(answer.run.id, batches)

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        return await self._dispatch(Request(method=method, params=params, id=1), self._connection)


class _LocalStream:
    def __init__(self, subscription: str, batches: AsyncIterator[Any]) -> None:
        self.subscription = subscription
        self._batches = batches

    async def __aiter__(self) -> AsyncIterator[tuple[int, Any]]:
        async for batch in self._batches:
            for event in batch:
                assert isinstance(event, Event)  # noqa: S101 - for the type checker
                yield event.seq, orjson.loads(event.payload)
