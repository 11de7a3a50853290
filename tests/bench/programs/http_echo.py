"""Peer: the barest ASGI application on hypercorn and trio. It sends back the body that it gets."""

import functools
from typing import Any

import hypercorn.trio
import trio
from hypercorn.config import Config


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer one request."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body = b"".join(parts)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Any, send: Any) -> None:
    """Nothing to do at the start and the end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})


async def main() -> None:
    """Serve until killed; print the port."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    # As the server that is measured has it.
    config.include_server_header = False
    config.keep_alive_max_requests = 1_000_000
    config.keep_alive_timeout = 75
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(functools.partial(hypercorn.trio.serve, echo, config))
        print(binds[0].rpartition(":")[2], flush=True)


trio.run(main)
