"""Peer: the barest echo on trio-websocket."""

import functools

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket


async def echo(request: WebSocketRequest) -> None:
    """Serve one connection."""
    connection = await request.accept()
    try:
        while True:
            await connection.send_message(await connection.get_message())
    except ConnectionClosed:
        pass


async def main() -> None:
    """Serve until killed; print the port."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve_websocket, echo, "127.0.0.1", 0, ssl_context=None))
        print(server.port, flush=True)


trio.run(main)
