"""What browsers want to hear before a page of another origin may call (the guard has let the origin through)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

_EXPOSED: Final = (
    b"Mcp-Session-Id, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, WWW-Authenticate"
)
_METHODS: Final = b"GET, POST, DELETE, OPTIONS"
_HEADERS: Final = (
    b"Accept, Authorization, Content-Type, Last-Event-ID, MCP-Protocol-Version, Mcp-Method, Mcp-Name, "
    b"Mcp-Session-Id, traceparent"
)
_MAX_AGE_S: Final = b"600"


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a browser asks what a page may do, before it does it."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def preflight_headers(headers: Mapping[bytes, bytes]) -> Sequence[tuple[bytes, bytes]]:
    """Return the answer to a preflight beside what `with_cors` adds."""
    answer = [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _HEADERS),
        (b"access-control-max-age", _MAX_AGE_S),
    ]
    if b"access-control-request-private-network" in headers:
        answer.append((b"access-control-allow-private-network", b"true"))
    return answer


def with_cors(send: Callable[[Any], Awaitable[None]], origin: bytes) -> Callable[[Any], Awaitable[None]]:
    """Return `send` with the headers added that let pages of `origin` read the answer."""

    async def send_with_cors(message: Any) -> None:
        if message["type"] == "http.response.start":
            added = [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"Origin"),
            ]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return send_with_cors
