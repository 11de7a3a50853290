"""The keeping of keys: making, changing and taking back API keys, for `keys.*` and `clonk keys`."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import attrs

from clonk_core.errors import Conflict, Forbidden, InvalidParams, NotFound
from clonk_core.gateway.bounds import bounded, wider_bound
from clonk_core.gateway.key_store import KeyStore
from clonk_core.gateway.keys import ApiKey, KeyRing, check_key_request, hash_of, new_secret
from clonk_core.gateway_messages import ApiKeyInfo, AuditEntry, KeyRequest
from clonk_core.interfaces.keeping import AuditWriter
from clonk_core.messages import Caller, JsonValue
from clonk_core.names import scope_covers


class KeyOffice:
    """Makes, changes and takes back the keys of one database.

    Args:
        store: The database's keys.
        ring: All keys, those of the configuration among them; told of each change.
        audit: Where changes are written down; None when it is off.
        clock: Gives the time of day (POSIX, in seconds).
        peer: From where the changes come; empty where a call's own row tells.
        default_rate: Most calls of a key that names no limit; None for none.
    """

    def __init__(
        self,
        store: KeyStore,
        ring: KeyRing,
        audit: AuditWriter | None,
        clock: Callable[[], float],
        *,
        peer: str = "",
        default_rate: str | None = None,
    ) -> None:
        self._store = store
        self._ring = ring
        self._audit = audit
        self._clock = clock
        self._peer = peer
        self._default_rate = default_rate
        self._seen = -1

    # ── looking ──────────────────────────────────────────────────────────────

    def list(self, caller: Caller) -> Sequence[ApiKeyInfo]:
        """Return the keys of the caller's tenant, of all tenants for whoever may do everything, by id."""
        found = sorted((key for key in self._ring.keys if _reaches(caller, key)), key=lambda key: key.id)
        return [key.info(self._clock()) for key in found]

    def get(self, caller: Caller, key_id: str) -> ApiKeyInfo:
        """Return one key.

        Raises:
            NotFound: There is none, or none that the caller may see.
        """
        return self._find(caller, key_id).info(self._clock())

    def _find(self, caller: Caller, key_id: str) -> ApiKey:
        for key in self._ring.keys:
            if key.id == key_id and _reaches(caller, key):
                return key
        raise NotFound(f"there is no key {key_id[:80]!r}; `keys.list` lists all", id=key_id[:80])

    @property
    def lets_anyone_in(self) -> bool:
        """Whether there is a key that is good now."""
        return self._ring.lets_anyone_in

    async def refresh(self) -> bool:
        """Take over what the database has; tell whether that was something new."""
        if await self._store.changes() == self._seen:
            return False
        self._seen, keys = await self._store.all()
        self._ring.replace(keys)
        return True

    # ── changing ─────────────────────────────────────────────────────────────

    async def create(self, caller: Caller, wanted: KeyRequest) -> tuple[ApiKeyInfo, str]:
        """Make a key; return it and its secret, which nobody can be shown again.

        Made by a key, it has that key's bounds where it names none: limits, networks and expiry.

        Raises:
            InvalidParams: A word is against the rules.
            Forbidden: It would do more than its maker may, or reach further.
            Conflict: The id is taken.
        """
        key, secret = self._made(caller, wanted)
        _check_gives_no_more(caller, key)
        if any(known.id == key.id for known in self._ring.keys):
            raise Conflict(f"there is a key {key.id!r} already, perhaps a revoked one; choose another id", id=key.id)
        # Written down first: what cannot be written down is not done.
        await self._note(caller, "keys.create", key, {"scopes": sorted(key.scopes), "tenant": key.tenant})
        await self._store.add(key)
        await self.refresh()
        # As it is kept, with times in milliseconds, so that nobody is told what a later look will not show.
        return self.get(caller, key.id), secret

    async def revoke(self, caller: Caller, key_id: str, *, made_too: bool = False) -> ApiKeyInfo:
        """Take a key back; with `made_too` those as well that were made with it, and with those.

        Raises:
            NotFound: There is none.
            Conflict: It stands in the configuration.
            Forbidden: It may do more than the caller.
        """
        known = self._find(caller, key_id)
        self._check_stored(known)
        taken = [known, *self._made_with(known)] if made_too else [known]
        for one in taken:
            _check_gives_no_more(caller, one)
        for one in taken:
            await self._note(caller, "keys.revoke", one, {} if one is known else {"made_with": one.created_by})
            await self._store.revoke(one.id, self._now())
        await self.refresh()
        return self.get(caller, key_id)

    def _made_with(self, maker: ApiKey) -> Sequence[ApiKey]:
        """Return the keys that a key has made, and that those have made, and that are not revoked."""
        found: list[ApiKey] = []
        makers = {maker.id}
        # An id is never used twice, so nobody is their own maker's maker.
        while made := [key for key in self._ring.keys if key.created_by in makers and key.tenant == maker.tenant]:
            found += [key for key in made if key.revoked_at is None]
            makers = {key.id for key in made}
        return found

    async def rotate(self, caller: Caller, key_id: str, keep_old_for_s: float) -> tuple[ApiKeyInfo, str]:
        """Give a key a new secret; the old one is good for `keep_old_for_s` more. Return both.

        Raises:
            NotFound: There is none.
            Conflict: It stands in the configuration, or was revoked.
            Forbidden: It may do more than the caller, or reach further.
        """
        known = self._find(caller, key_id)
        self._check_stored(known)
        _check_gives_no_more(caller, known)
        # Whoever gets its secret has its bounds.
        bound = wider_bound(known, self._makers(caller), self._default_rate)
        if bound is not None:
            raise Forbidden(f"the key {key_id!r} has wider bounds than yours: {bound}", bound=bound)
        secret = new_secret(key_id)
        now = self._now()
        if known.revoked_at is not None:
            raise Conflict(f"the key {key_id!r} was revoked; make a new one", id=key_id)
        await self._note(caller, "keys.rotate", known, {"keep_old_for_s": keep_old_for_s})
        key = await self._store.rotate(key_id, hash_of(secret), now, now + timedelta(seconds=keep_old_for_s))
        await self.refresh()
        return key.info(self._clock()), secret

    def _made(self, caller: Caller, wanted: KeyRequest) -> tuple[ApiKey, str]:
        try:
            check_key_request(wanted)
            for maker in self._makers(caller):
                wanted = bounded(wanted, maker, self._default_rate)
            secret = new_secret(wanted.id)
            key = ApiKey(
                id=wanted.id,
                hashes=(hash_of(secret),),
                scopes=frozenset(wanted.scopes),
                tenant=wanted.tenant or caller.tenant,
                description=wanted.description,
                rate_limit=wanted.rate_limit,
                burst=wanted.burst,
                bytes_limit=wanted.bytes_limit,
                max_runs=wanted.max_runs,
                allowed_networks=tuple(wanted.allowed_networks),
                created_at=self._now(),
                created_by=caller.id,
                expires_at=wanted.expires_at,
            )
        except ValueError as error:
            name, _, text = str(error).partition(": ")
            known = {field.name for field in attrs.fields(KeyRequest)}
            raise (InvalidParams(text, path=f"$.{name}") if name in known else InvalidParams(str(error))) from error
        if key.expires_at is not None and key.expires_at.timestamp() <= self._clock():
            raise InvalidParams("is in the past", path="$.expires_at")
        return key, secret

    def _makers(self, caller: Caller) -> Sequence[ApiKey]:
        """Return the key that calls, twice where one of the configuration has the same id; none for other callers."""
        if caller.kind != "key":
            return ()
        return [key for key in self._ring.keys if (key.id, key.tenant) == (caller.id, caller.tenant)]

    def _check_stored(self, key: ApiKey) -> None:
        if key.source == "configuration":
            raise Conflict(f"the key {key.id!r} stands in the configuration file; change it there", id=key.id)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    async def _note(self, caller: Caller, action: str, key: ApiKey, detail: dict[str, JsonValue]) -> None:
        if self._audit is not None:
            entry = AuditEntry(kind="key", caller=caller, action=action, target=key.id, peer=self._peer, detail=detail)
            await self._audit.write(entry)


def _reaches(caller: Caller, key: ApiKey) -> bool:
    return key.tenant == caller.tenant or (caller.tenant == "default" and "*" in caller.scopes)


def _check_gives_no_more(caller: Caller, key: ApiKey) -> None:
    """Refuse a key that may do what the caller may not: whoever keeps keys must not become more by it.

    Raises:
        Forbidden: It would; `data.scope` names the first such scope.
    """
    if key.tenant != caller.tenant and not ("*" in caller.scopes and caller.tenant == "default"):
        raise Forbidden(f"you may keep keys of the tenant {caller.tenant!r} alone", tenant=key.tenant)
    for scope in sorted(key.scopes):
        if not scope_covers(caller.scopes, scope):
            raise Forbidden(f"a key with the scope {scope!r} could do more than you may", scope=scope)
