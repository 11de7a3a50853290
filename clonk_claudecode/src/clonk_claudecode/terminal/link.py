"""From a URL to a client: `http://...` speaks HTTP and SSE, `ws://...` speaks WebSocket."""

import os
from typing import TYPE_CHECKING, Final, TypeAlias

from clonk_core.client.base import RemoteError
from clonk_core.client.key import own_key, refusal

if TYPE_CHECKING:
    from clonk_core.client.http import HttpClient
    from clonk_core.client.websocket import WebSocketClient

    Client: TypeAlias = HttpClient | WebSocketClient

SCHEMES: Final = ("http://", "https://", "ws://", "wss://")


def new_client(url: str) -> "Client":
    """Return the client for a URL, to be entered with `async with`. Only the library it needs is imported."""
    key = own_key(os.environ)
    if url.startswith(("ws://", "wss://")):
        from clonk_core.client.websocket import WebSocketClient

        return WebSocketClient(url, api_key=key)
    from clonk_core.client.http import HttpClient

    return HttpClient(url, api_key=key)


def refusal_text(error: RemoteError) -> str:
    """Return what to tell of an error that a server answered."""
    return refusal(error.message, os.environ) if error.kind == "unauthenticated" else error.message
