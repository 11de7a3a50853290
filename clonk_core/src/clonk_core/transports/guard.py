"""Who may knock: checks `Host` and `Origin` before anything else is read of a request.

A server on the loopback is within reach of every web page that a browser shows: directly, which `Origin` tells,
and through a name that is made to point to 127.0.0.1 (DNS rebinding), which `Host` tells.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import urlsplit

import attrs

from clonk_core.errors import Forbidden

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
"""Always allowed, as is the bind address."""

WILDCARD: Final = "*"
"""Allows everything; for a server behind a proxy that checks by itself."""


@attrs.frozen(kw_only=True)
class Refusal:
    """Why a request is turned away.

    Attributes:
        status: HTTP status: 421 for a foreign host, 403 for a foreign origin.
        error: What the caller is told.
    """

    status: Literal[403, 421]
    error: Forbidden


@attrs.frozen(kw_only=True)
class Guard:
    """The names this server answers to and the web origins that may call it.

    Attributes:
        hosts: `name` allows every port, `name:port` that one alone. Lower case; IPv6 addresses in brackets.
        origins: `scheme://name[:port]`, compared as browsers send them. Beside them every origin whose host is in
            `hosts` is allowed.
    """

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def build(cls, bind_host: str, allowed_hosts: Sequence[str] = (), allowed_origins: Sequence[str] = ()) -> "Guard":
        """Return a guard for a server bound to `bind_host`, with further names and origins."""
        names = (*LOOPBACK_NAMES, bind_host, *allowed_hosts)
        return cls(
            hosts=frozenset(_normal_host(name) for name in names),
            origins=frozenset(origin.lower().rstrip("/") for origin in allowed_origins),
        )

    def refusal(self, host: bytes | None, origin: bytes | None) -> Refusal | None:
        """Return why a request with these headers is refused, or None.

        A request without `Host` can only be HTTP/1.0, which no browser speaks, and is let through.
        """
        if host is not None and not self._host_allowed(host.decode("latin-1")):
            return Refusal(status=421, error=Forbidden("this server does not answer to that Host", header="Host"))
        if origin is not None and not self.allows_origin(origin):
            return Refusal(status=403, error=Forbidden("web pages of that Origin may not call", header="Origin"))
        return None

    def allows_origin(self, origin: bytes) -> bool:
        """Tell whether pages of this origin may call; `null` (a sandbox, a file) never may unless it is listed."""
        text = origin.decode("latin-1").strip().lower()
        if WILDCARD in self.origins or text in self.origins:
            return True
        try:
            parts = urlsplit(text)
        except ValueError:
            return False
        if parts.scheme not in {"http", "https"} or parts.path or parts.query or parts.fragment:
            return False
        return WILDCARD not in self.hosts and self._host_allowed(parts.netloc)

    def _host_allowed(self, value: str) -> bool:
        if WILDCARD in self.hosts:
            return True
        normal = _normal_host(value)
        return normal in self.hosts or _without_port(normal) in self.hosts


def _normal_host(value: str) -> str:
    """Return `value` in the one spelling that is compared: lower case, no final dot, IPv6 compressed in brackets."""
    text = value.strip().lower()
    name = _without_port(text)
    port = text[len(name) :]
    bare = name.strip("[]").rstrip(".")
    try:
        address = ip_address(bare)
    except ValueError:
        return bare + port
    return (f"[{address}]" if address.version == 6 else str(address)) + port


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[: text.find("]") + 1] or text
    if text.count(":") > 1:
        return text  # an IPv6 address without brackets, from the configuration
    name, colon, port = text.rpartition(":")
    return name if colon and port.isdigit() else text
