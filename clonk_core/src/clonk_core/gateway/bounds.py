"""How far a key reaches beside its scopes: a key that makes another one gives it no wider bounds than its own."""

from collections.abc import Iterable
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

import attrs

from clonk_core.errors import Forbidden
from clonk_core.gateway.keys import ApiKey
from clonk_core.gateway.rate_limit import Rate, parse_rate
from clonk_core.gateway_messages import KeyRequest

_BOUNDS: Final = ("rate_limit", "burst", "bytes_limit", "max_runs", "allowed_networks", "expires_at")


def bounded(wanted: KeyRequest, maker: ApiKey, default_rate: str | None) -> KeyRequest:
    """Return the key that is wanted, with its maker's bounds where it names none.

    Args:
        wanted: Within the rules, see `check_key_request`.
        maker: The key that makes it.
        default_rate: Most calls of a key that names no limit; None for none.

    Raises:
        Forbidden: It names a wider one; `data.bound` says which.
    """
    rate_limit, burst = _rate(wanted, maker, default_rate)
    return attrs.evolve(
        wanted,
        rate_limit=rate_limit,
        burst=burst,
        bytes_limit=_bytes_limit(wanted, maker),
        max_runs=_max_runs(wanted, maker),
        allowed_networks=_networks(wanted, maker),
        expires_at=_expiry(wanted, maker),
    )


def wider_bound(key: ApiKey, makers: Iterable[ApiKey], default_rate: str | None) -> str | None:
    """Return the name of a bound in which a key is wider than one of `makers`, None for none."""
    request = KeyRequest(id=key.id, scopes=(), **{name: getattr(key, name) for name in _BOUNDS})
    for maker in makers:
        try:
            found = bounded(request, maker, default_rate)
        except Forbidden as error:
            return str(error.data["bound"])
        for name in _BOUNDS:  # what it does not name, and its maker has
            if getattr(found, name) != getattr(request, name):
                return name
    return None


def _rate(wanted: KeyRequest, maker: ApiKey, default_rate: str | None) -> tuple[str | None, int | None]:
    if wanted.rate_limit is None:
        # A maker without a rate has the default, as the new key will.
        rated = wanted if maker.rate_limit is None else maker
        return rated.rate_limit, rated.burst
    own = maker.rate_limit or default_rate
    if own is not None and not _is_within(parse_rate(wanted.rate_limit, wanted.burst), parse_rate(own, maker.burst)):
        raise _too_wide("rate_limit", own if maker.burst is None else f"{own}, {maker.burst} at once")
    return wanted.rate_limit, wanted.burst


def _is_within(rate: Rate, outer: Rate) -> bool:
    # Multiplied out, since thirds are not exact.
    return rate.amount * outer.span_s <= outer.amount * rate.span_s and rate.burst <= outer.burst


def _bytes_limit(wanted: KeyRequest, maker: ApiKey) -> str | None:
    if wanted.bytes_limit is None or maker.bytes_limit is None:
        return wanted.bytes_limit or maker.bytes_limit
    if not _is_within(parse_rate(wanted.bytes_limit), parse_rate(maker.bytes_limit)):
        raise _too_wide("bytes_limit", maker.bytes_limit)
    return wanted.bytes_limit


def _max_runs(wanted: KeyRequest, maker: ApiKey) -> int | None:
    if wanted.max_runs is None or maker.max_runs is None:
        return wanted.max_runs or maker.max_runs
    if wanted.max_runs > maker.max_runs:
        raise _too_wide("max_runs", str(maker.max_runs))
    return wanted.max_runs


def _expiry(wanted: KeyRequest, maker: ApiKey) -> datetime | None:
    if wanted.expires_at is None or maker.expires_at is None:
        return wanted.expires_at or maker.expires_at
    if wanted.expires_at.timestamp() > maker.expires_at.timestamp():
        raise _too_wide("expires_at", maker.expires_at.isoformat(timespec="seconds"))
    return wanted.expires_at


def _networks(wanted: KeyRequest, maker: ApiKey) -> tuple[str, ...]:
    if not wanted.allowed_networks or not maker.networks:
        return wanted.allowed_networks or maker.allowed_networks
    for text in wanted.allowed_networks:
        network = ip_network(text, strict=False)
        if not any(_is_inside(network, outer) for outer in maker.networks):
            raise _too_wide("allowed_networks", ", ".join(maker.allowed_networks))
    return wanted.allowed_networks


def _is_inside(network: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(outer, IPv4Network) and network.subnet_of(outer)
    return isinstance(outer, IPv6Network) and network.subnet_of(outer)


def _too_wide(bound: str, own: str) -> Forbidden:
    return Forbidden(f"{bound}: a key gives no wider bounds than its own, {own}", bound=bound)
