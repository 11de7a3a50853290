"""From a URL to a client: `http://...` speaks HTTP and SSE, `ws://...` speaks WebSocket."""

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from clonk_core.client.http import HttpClient
    from clonk_core.client.websocket import WebSocketClient

    Client: TypeAlias = HttpClient | WebSocketClient

SCHEMES: Final = ("http://", "https://", "ws://", "wss://")


def new_client(url: str) -> "Client":
    """Return the client for a URL, to be entered with `async with`. Only the library it needs is imported."""
    if url.startswith(("ws://", "wss://")):
        from clonk_core.client.websocket import WebSocketClient

        return WebSocketClient(url)
    from clonk_core.client.http import HttpClient

    return HttpClient(url)
