"""Where `clonk call` and the like send their calls: a running server, or a host in this process."""

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from clonk_core.cli.exit_codes import UsageError


class Stream(Protocol):
    """The events of one run; the last is `done`."""

    @property
    def subscription(self) -> str:
        """The run's id."""

    def __aiter__(self) -> AsyncIterator[tuple[int, Any]]:
        """Iterate over the events with their numbers."""


class Callee(Protocol):
    """Takes calls; what they answer badly is raised as `CallError`."""

    async def call(self, method: str, /, **params: Any) -> Any:
        """Call a plain method and return its result."""

    def stream(self, method: str, /, **params: Any) -> AbstractAsyncContextManager[Stream]:
        """Call a streaming method and read its events."""


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
        async with _open_local(config) as callee:
            yield callee
        return
    if config is not None:
        raise UsageError("--config is for --local; a running server has its own configuration")
    async with _open_remote(url) as callee:
        yield callee


@asynccontextmanager
async def _open_local(config: Path | None) -> AsyncIterator[Callee]:
    from clonk_core.app import draw, open_app
    from clonk_core.client.inside import InsideClient
    from clonk_core.ids import new_id
    from clonk_core.interfaces.door import Connection
    from clonk_core.observe.logs import Logs

    blueprint = draw(config, os.environ, {})
    # The answer is what the user wants to see; what goes wrong stays visible.
    logs = Logs(level="warning", format=blueprint.settings.logging.format)
    async with open_app(blueprint, logs=logs) as app:
        yield InsideClient(app.dispatch, Connection(transport="inside", peer="command line", id=new_id("conn")))


@asynccontextmanager
async def _open_remote(url: str) -> AsyncIterator[Callee]:
    from clonk_core.cli.remote import open_remote

    async with open_remote(url) as callee:
        yield callee
