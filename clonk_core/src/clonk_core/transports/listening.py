"""Opens the ports, for others only where callers must prove who they are; errors say what to do."""

import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, Literal

import attrs
import trio

from clonk_core.errors import ConfigError

_BACKLOG: Final = 1024
"""Connections that wait to be accepted; a thousand clients may come at once."""


@attrs.frozen(kw_only=True)
class Address:
    """Where a transport listens.

    Attributes:
        host: IP address.
        port: The real port, also where 0 was asked for.
        secure: Whether it speaks TLS.
    """

    host: str
    port: int
    secure: bool = False

    def url(self, scheme: Literal["http", "ws"], path: str = "") -> str:
        """Return a URL such as `http://127.0.0.1:4445/mcp`; with TLS its scheme is `https`, or `wss`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}{'s' if self.secure else ''}://{host}:{self.port}{path}"


async def open_listeners(
    host: str, port: int, *, setting: str, loopback_only: bool = True
) -> tuple[list[trio.SocketListener], Address]:
    """Listen on every address of `host`, all on one port.

    Args:
        host: Name or IP address.
        port: 0 takes a free one.
        setting: Name of the port's setting, for the errors; its section's `host` is the one of the address.
        loopback_only: Whether an address that others can reach is refused.

    Returns:
        The listeners, and the first one's address.

    Raises:
        ConfigError: Not the loopback where it must be, no such host, port in use or not permitted.
    """
    host_setting = f"{setting.rpartition('.')[0]}.host"
    addresses = await _resolve(host, host_setting)
    if loopback_only:
        _require_loopback(host, addresses, host_setting)
    listeners: list[trio.SocketListener] = []
    try:
        for address in addresses:
            bound = await _bind(address, port, setting)
            if bound is None:
                continue
            listeners.append(bound)
            port = bound.socket.getsockname()[1]
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    if not listeners:
        raise ConfigError(f"{host_setting}: {host!r} has no address that this machine can listen on")
    name = listeners[0].socket.getsockname()
    return listeners, Address(host=name[0], port=name[1])


async def _resolve(host: str, setting: str) -> Sequence[str]:
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"{setting}: {host!r} cannot be resolved: {error.strerror or error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _require_loopback(host: str, addresses: Sequence[str], setting: str) -> None:
    for address in addresses:
        if not ip_address(address.partition("%")[0]).is_loopback:
            raise ConfigError(
                f"{setting}: {host!r} is {address}, which others can reach; while callers need not prove who they "
                "are, only the loopback is served: 127.0.0.1, ::1 or localhost"
            )


async def _bind(address: str, port: int, setting: str) -> trio.SocketListener | None:
    """Return a listener, or None where the machine lacks the address's family."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind((address, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            return None
        raise ConfigError(_explain(error, address, port, setting)) from error
    return trio.SocketListener(sock)


def _explain(error: OSError, address: str, port: int, setting: str) -> str:
    where = f"port {port} on {address}"
    if error.errno == errno.EADDRINUSE:
        return f"{setting}: {where} is in use; stop the other program, or choose another port (0 takes a free one)"
    if error.errno == errno.EACCES:
        return f"{setting}: {where} may not be opened by this user; choose a port from 1024 on"
    return f"{setting}: {where} cannot be opened: {error.strerror or error}"
