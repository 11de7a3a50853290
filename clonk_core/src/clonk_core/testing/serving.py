"""A host's transports on free ports and pipes, and a client for each."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from clonk_core.app import Addresses, serve_app
from clonk_core.testing.host import TestHost

if TYPE_CHECKING:
    from clonk_core.client.base import Client


@asynccontextmanager
async def served(host: TestHost) -> AsyncIterator[Addresses]:
    """Open both ports of a host, and close them in order.

    Args:
        host: Opened with `server.http_port: 0` and `server.websocket_port: 0`, as `open_host` does by itself.
    """
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(serve_app, host.app, shutdown=shutdown))
        try:
            yield addresses
        finally:
            shutdown.set()


@asynccontextmanager
async def connected(host: TestHost, transport: str, *, api_key: str | None = None) -> AsyncIterator["Client"]:
    """Give a client that reaches the host over a real socket or pipe.

    Args:
        host: The host.
        transport: `http`, `websocket` or `stdio`.
        api_key: Whose calls they are, on a host that asks.
    """
    if transport == "stdio":
        async with _over_pipes(host) as client:
            yield client
        return
    async with served(host) as addresses:
        if transport == "http":
            from clonk_core.client.http import HttpClient

            async with HttpClient(addresses.http.url("http"), api_key=api_key) as over_http:
                yield over_http
        else:
            from clonk_core.client.websocket import WebSocketClient

            async with WebSocketClient(addresses.websocket.url("ws", "/ws"), api_key=api_key) as over_websocket:
                yield over_websocket


@asynccontextmanager
async def _over_pipes(host: TestHost) -> AsyncIterator["Client"]:
    """Serve stdio on two pipes of the operating system."""
    from clonk_core.client.stdio import PipeClient
    from clonk_core.transports.stdio import serve_stdio

    requests_out, requests_in = os.pipe()
    answers_out, answers_in = os.pipe()
    async with (
        trio.lowlevel.FdStream(requests_out) as source,
        trio.lowlevel.FdStream(answers_in) as sink,
        trio.lowlevel.FdStream(answers_out) as answers,
        trio.lowlevel.FdStream(requests_in) as requests,
        trio.open_nursery() as nursery,
    ):
        log = host.app.logs.get("stdio")
        serve = partial(serve_stdio, host.dispatch, host.app.settings.server, log=log, metrics=host.app.metrics)
        nursery.start_soon(serve, source, sink)
        async with PipeClient(answers, requests) as client:
            yield client
