"""What an HTTP request, also one for a WebSocket, says of who sends it."""

from collections.abc import Iterable, Mapping
from typing import Any

from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection
from clonk_core.wire.trace_context import trace_id_of


def http_connection(scope: Any, headers: Mapping[bytes, bytes]) -> Connection:
    """Return the other side of an ASGI request, a new one for each: HTTP has no connections that last.

    Args:
        scope: Its `client` is the client's address, proxies taken off.
        headers: The scope's, by name.
    """
    address, port = scope.get("client") or ("", 0)
    return Connection(
        transport="http",
        peer=peer_name(address, port),
        id=new_id("conn"),
        address=address,
        bearer=bearer_token(scope["headers"]) if b"authorization" in headers else None,
        trace_id=_trace_id(scope) if b"traceparent" in headers else None,
    )


def _trace_id(scope: Any) -> str | None:
    """Return the trace's id; of a header that is sent twice, which the specification refuses, none."""
    return trace_id_of(b",".join(value for name, value in scope["headers"] if name == b"traceparent"))


def peer_name(address: str, port: int) -> str:
    """Return `192.0.2.1:51234`, `[2001:db8::1]:51234`; without port where that is 0, unknown.

    Args:
        address: IP address, empty when unknown.
        port: Its port.
    """
    if not address:
        return "unknown"
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the credential of `Authorization: Bearer ...`, None for anything else.

    Two such headers make one credential with a comma (RFC 9110, section 5.2), which is nobody's: a proxy that checks
    the first and a server that takes the last would be two opinions of who calls.

    Args:
        headers: Of the request, their names in lower case.
    """
    values = [value for name, value in headers if name == b"authorization"]
    scheme, _, token = b",".join(values).decode("latin-1").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
