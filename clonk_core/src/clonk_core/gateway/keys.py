"""API keys: how they are made and presented, and the ring of all that are let in, looked up by hash.

A key is looked up by the SHA-256 of all that was presented. So an unknown id costs exactly what a wrong secret costs,
ten thousand keys cost what one costs, and what an attacker could learn from timing is about a hash that they cannot
choose (a key has 256 bits of its own, so a slow hash for passwords would add nothing).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

import attrs
import trio

from clonk_core.gateway.rate_limit import Rate, parse_rate
from clonk_core.gateway_messages import MAX_COUNT, MAX_DESCRIPTION, ApiKeyInfo, KeyRequest
from clonk_core.names import KEY_ID, SCOPE

KEY_PREFIX: Final = "clonk_"
"""What every key that was made here begins with."""

_SECRET_BYTES: Final = 32

EMPTY_HASH: Final = hashlib.sha256(b"").hexdigest()
"""The placeholder of the specification's example; nobody gets in with it."""

PLACEHOLDERS: Final = (EMPTY_HASH, "...")
"""What stands in the specification's examples instead of a hash."""

_TENANT: Final = re.compile("[A-Za-z0-9_-]{1,64}")
_CALLS: Final = re.compile("[1-9][0-9]{0,8}/(s|min|h|day)")
_BYTES: Final = re.compile("[1-9][0-9]{0,8}(KiB|MiB|GiB)/(s|min|h|day)")
_SPANS: Final = "spans are s, min, h and day"


@attrs.frozen(kw_only=True)
class Allowance:
    """How much a caller may do.

    Attributes:
        calls: Rate of calls, None for no limit.
        data: Rate of bytes taken, None for no limit.
        max_runs: Streams at the same time, None for no limit.
    """

    calls: Rate | None = None
    data: Rate | None = None
    max_runs: int | None = None


NO_LIMITS: Final = Allowance()


def allowance(
    rate_limit: str | None, burst: int | None = None, bytes_limit: str | None = None, max_runs: int | None = None
) -> Allowance:
    """Return an allowance as the configuration writes it.

    Raises:
        ValueError: A rate is none.
    """
    return Allowance(
        calls=None if rate_limit is None else parse_rate(rate_limit, burst),
        data=None if bytes_limit is None else parse_rate(bytes_limit),
        max_runs=max_runs,
    )


@attrs.frozen(kw_only=True)
class ApiKey:
    """One API key.

    Attributes:
        id: Its name; callers are known by it.
        hashes: SHA-256, in hex, of what lets in: the key, and the one before it until `previous_until`.
        scopes: What it may do.
        tenant: Whose data it reaches.
        source: Whether it stands in the configuration or in `clonk.db`.
        description: What it is for.
        rate_limit, burst, bytes_limit, max_runs: As the configuration writes them.
        allowed_networks: Where it may be used from; everywhere when empty.
        created_at, created_by: When, and by whom; None for those of the configuration.
        expires_at: From when on it is good for nothing, None for never.
        rotated_at: When its secret was last changed.
        previous_until: Until when the secret before that is good.
        revoked_at: When it was taken back; None while it is good.
    """

    id: str
    hashes: tuple[str, ...]
    scopes: frozenset[str]
    tenant: str = "default"
    source: Literal["configuration", "database"] = "database"
    description: str = ""
    rate_limit: str | None = None
    burst: int | None = None
    bytes_limit: str | None = None
    max_runs: int | None = None
    allowed_networks: tuple[str, ...] = ()
    created_at: datetime | None = None
    created_by: str | None = None
    expires_at: datetime | None = None
    rotated_at: datetime | None = None
    previous_until: datetime | None = None
    revoked_at: datetime | None = None
    allowance: Allowance = attrs.field(init=False)
    networks: tuple[IPv4Network | IPv6Network, ...] = attrs.field(init=False, repr=False)

    @allowance.default
    def _allowance(self) -> Allowance:
        return allowance(self.rate_limit, self.burst, self.bytes_limit, self.max_runs)

    @networks.default
    def _networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(network, strict=False) for network in self.allowed_networks)

    def good_until(self, secret_hash: str) -> float | None:
        """Return until when this secret is good (POSIX time), None for no end.

        A time that is past, when it is good no more.
        """
        ends = []
        if self.revoked_at is not None:
            ends.append(0.0)
        if self.expires_at is not None:
            ends.append(self.expires_at.timestamp())
        if secret_hash != self.hashes[0] and self.previous_until is not None:
            ends.append(self.previous_until.timestamp())
        return min(ends, default=None)

    def info(self, now: float) -> ApiKeyInfo:
        """Return what may be known of it.

        Args:
            now: The time of day (POSIX).
        """
        state: Literal["good", "expired", "revoked", "placeholder"] = "good"
        if self.revoked_at is not None:
            state = "revoked"
        elif self.expires_at is not None and self.expires_at.timestamp() <= now:
            state = "expired"
        elif self.hashes[0] in PLACEHOLDERS:
            state = "placeholder"
        shared = {field.name for field in attrs.fields(ApiKeyInfo)} - {"state", "scopes"}
        values = {name: getattr(self, name) for name in shared}
        return ApiKeyInfo(state=state, scopes=tuple(sorted(self.scopes)), **values)

    def reaches_from(self, address: str) -> bool:
        """Tell whether it may be used from an IP address."""
        if not self.networks:
            return True
        found = parsed_address(address)
        return found is not None and any(found in network for network in self.networks)


def parsed_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address, an IPv4 one in IPv6's clothes as IPv4; None for anything else."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def new_secret(key_id: str) -> str:
    """Return a new key to present: `clonk_<id>_<secret>` with 256 bits of secret."""
    return f"{KEY_PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def hash_of(credential: str) -> str:
    """Return the SHA-256 of what was presented, in hex."""
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()


def check_key_request(wanted: KeyRequest) -> None:
    """Refuse words that are against the rules.

    Raises:
        ValueError: It says which, as `<field>: <what is allowed>`.
    """
    if not KEY_ID.fullmatch(wanted.id):
        raise ValueError(
            f"id: {wanted.id[:80]!r} is no name of a key: 1 to 64 letters, digits, `_`, `.` and `-`, beginning "
            "with a letter or digit, and none of local, stranger and service"
        )
    if wanted.tenant is not None and not _TENANT.fullmatch(wanted.tenant):
        raise ValueError(f"tenant: {wanted.tenant[:80]!r} is none: letters, digits, _ and -, at most 64")
    if len(wanted.description) > MAX_DESCRIPTION:
        raise ValueError(f"description: at most {MAX_DESCRIPTION} characters")
    if not wanted.scopes:
        raise ValueError("scopes: a key needs one at least")
    for scope in wanted.scopes:
        if not SCOPE.fullmatch(scope):
            raise ValueError(f"scopes: {scope[:80]!r} is no scope such as arbor:read, claudecode:* or *")
    for network in wanted.allowed_networks:
        try:
            ip_network(network, strict=False)
        except ValueError as error:
            raise ValueError(f"allowed_networks: {network[:80]!r} is no network such as 10.0.0.0/8") from error
    _check_limits(wanted)


def _check_limits(wanted: KeyRequest) -> None:
    if wanted.rate_limit is not None and not _CALLS.fullmatch(wanted.rate_limit):
        raise ValueError(f"rate_limit: {wanted.rate_limit[:80]!r} is none such as 100/min; {_SPANS}")
    if wanted.bytes_limit is not None and not _BYTES.fullmatch(wanted.bytes_limit):
        raise ValueError(f"bytes_limit: {wanted.bytes_limit[:80]!r} is none such as 50MiB/min; {_SPANS}")
    for name, count in (("burst", wanted.burst), ("max_runs", wanted.max_runs)):
        if count is not None and not 1 <= count <= MAX_COUNT:
            raise ValueError(f"{name}: {count} is not between 1 and {MAX_COUNT}")
    if wanted.burst is not None and wanted.rate_limit is None:
        raise ValueError("burst: says nothing without a rate limit")


@attrs.frozen
class Found:
    """A key that was presented.

    Attributes:
        key: Which.
        secret_hash: SHA-256 of what was presented.
        good_until: POSIX time, None for no end.
    """

    key: ApiKey
    secret_hash: str
    good_until: float | None


class KeyRing:
    """All keys that are let in.

    Args:
        fixed: Those of the configuration.
        clock: Gives the time of day (POSIX, in seconds).
    """

    def __init__(self, fixed: Sequence[ApiKey], clock: Callable[[], float]) -> None:
        self._fixed = tuple(fixed)
        self._clock = clock
        self._stored: tuple[ApiKey, ...] = ()
        self._by_hash: dict[str, ApiKey] = {}
        self._by_name: dict[tuple[str, str], ApiKey] = {}
        self._changed = trio.Event()
        self._index()

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """Every key, those of the configuration first; also those that are good no more."""
        return (*self._fixed, *self._stored)

    @property
    def lets_anyone_in(self) -> bool:
        """Whether there is a key that is good now."""
        return any(self._is_good(key, secret_hash) for secret_hash, key in self._by_hash.items())

    def replace(self, stored: Sequence[ApiKey]) -> None:
        """Take over what the database has, and wake those that wait for a change."""
        self._stored = tuple(stored)
        self._index()
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def find(self, credential: str) -> Found | None:
        """Return the key that was presented, None when there is no such key or it is good no more."""
        return self.look_up(hash_of(credential))

    def look_up(self, secret_hash: str) -> Found | None:
        """Like `find`, by the hash."""
        key = self._by_hash.get(secret_hash)
        if key is None or not any(hmac.compare_digest(secret_hash, known) for known in key.hashes):
            return None
        until = key.good_until(secret_hash)
        return None if until is not None and until <= self._clock() else Found(key, secret_hash, until)

    def is_ours(self, credential: str) -> bool:
        """Tell whether it is, was, or looks like a key of ours, which no plugin shall see."""
        return credential.startswith(KEY_PREFIX) or hash_of(credential) in self._by_hash

    def named(self, key_id: str, tenant: str) -> ApiKey | None:
        """Return a tenant's key, also one that is good no more; None when there is none."""
        return self._by_name.get((tenant, key_id))

    def is_good(self, key: ApiKey) -> bool:
        """Tell whether a key lets in whoever presents it as it is now."""
        return key.hashes[0] not in PLACEHOLDERS and self._is_good(key, key.hashes[0])

    async def wait_changed(self) -> None:
        """Wait until keys are added, changed or taken back."""
        await self._changed.wait()

    def _is_good(self, key: ApiKey, secret_hash: str) -> bool:
        until = key.good_until(secret_hash)
        return until is None or until > self._clock()

    def _index(self) -> None:
        # The configuration's last: of two keys with one id or hash, the operator's file rules.
        self._by_hash = {
            secret_hash: key
            for key in (*self._stored, *self._fixed)
            for secret_hash in key.hashes
            if secret_hash not in PLACEHOLDERS
        }
        self._by_name = {(key.tenant, key.id): key for key in (*self._stored, *self._fixed)}
