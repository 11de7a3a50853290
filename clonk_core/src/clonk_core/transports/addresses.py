"""Who is behind the proxies: what `X-Forwarded-For` and `X-Forwarded-Proto` say, as far as it can be believed."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

import attrs

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"

_MAX_ENTRIES: Final = 50
"""Most entries of a header that are looked at; real chains have a handful."""

_MAX_BYTES: Final = 4096
"""Most of a header that is looked at: its end, where the proxies that are believed write."""

_ENCRYPTED: Final = {b"https": True, b"wss": True, b"http": False, b"ws": False}


@attrs.frozen(kw_only=True)
class ClientAddress:
    """Where a client really is.

    Attributes:
        address: Its IP address.
        secure: Whether it came to the proxies by TLS; None when they do not say, or there are none.
    """

    address: str
    secure: bool | None = None


@attrs.frozen
class Proxies:
    """The proxies that are believed.

    Attributes:
        networks: Where they are.
    """

    networks: tuple[IpNetwork, ...] = ()

    @classmethod
    def build(cls, networks: Sequence[str]) -> "Proxies":
        """Return those in the networks of `server.trusted_proxies`."""
        return cls(tuple(_without_mapping(ip_network(network)) for network in networks))

    def client(self, peer_ip: str, headers: Iterable[tuple[bytes, bytes]]) -> ClientAddress:
        """Return the client behind a connection.

        Each proxy appends to `X-Forwarded-For` whom it was called by. So the list is walked from its right end as long
        as those who wrote it are believed; the rest may be the client's own invention.

        Args:
            peer_ip: Who opened the connection.
            headers: The request's headers in their order, names in lower case.
        """
        address = _parse(peer_ip)
        if address is None or not self._trusts(address):
            return ClientAddress(address=peer_ip if address is None else str(address))
        headers = tuple(headers)
        proxies = 0
        for entry in _entries(headers, _FOR):
            found = _parse_entry(entry)
            if found is None:
                break
            address = found
            if not self._trusts(address):
                break
            proxies += 1
        # Each proxy appends here too, or one of them writes the only entry.
        schemes = _entries(headers, _PROTO)[: proxies + 1]
        return ClientAddress(address=str(address), secure=_ENCRYPTED.get(schemes[-1].lower()) if schemes else None)

    def see_through(self, scope: Any) -> Any:
        """Return an ASGI scope whose `client` and `scheme` are those of the client instead of the last proxy's.

        The port is 0 where it is not known, as is usual.
        """
        peer = scope.get("client")
        if not self.networks or peer is None:
            return scope
        found = self.client(peer[0], scope["headers"])
        seen = {**scope}
        if found.address != peer[0]:
            seen["client"] = (found.address, 0)
        if found.secure is not None:
            seen["scheme"] = "https" if found.secure else "http"
        return seen

    def _trusts(self, address: IpAddress) -> bool:
        return any(address in network for network in self.networks)


def _entries(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the last entries of a header whose lines make one list, the last one first."""
    whole = b",".join(value for key, value in headers if key == name)
    if not whole:
        return []
    end = whole[-_MAX_BYTES:]
    entries = end.rsplit(b",", _MAX_ENTRIES)
    if len(entries) > _MAX_ENTRIES or len(end) < len(whole):
        del entries[0]  # what is left over, or the rest of an entry
    return [entry.strip() for entry in reversed(entries)]


def _parse_entry(entry: bytes) -> IpAddress | None:
    """Return the address of `192.0.2.1`, `192.0.2.1:8080`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:8080`."""
    text = entry.decode("latin-1")
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or not (port == "" or _is_port(port)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(f":{port}"):
            return None
    return None if "%" in text else _parse(text)


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdigit()


def _parse(text: str) -> IpAddress | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _without_mapping(network: IpNetwork) -> IpNetwork:
    """Return `10.0.0.0/8` for `::ffff:10.0.0.0/104`, in which addresses would never be found."""
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= 96:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network
