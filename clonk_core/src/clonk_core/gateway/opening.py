"""Opens the gateway: keys, tokens, limits and the watch over connections, and the tasks that keep them current."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal, Protocol

import attrs
import trio

from clonk_core.config.auth_settings import AuthSettings
from clonk_core.errors import ClonkError
from clonk_core.gateway.admission import Admission
from clonk_core.gateway.authenticate import Authenticator, Tokens
from clonk_core.gateway.dispatch import Gateway, RealmDoor
from clonk_core.gateway.failures import Failures
from clonk_core.gateway.fixed_keys import fixed_keys
from clonk_core.gateway.key_store import KeyStore
from clonk_core.gateway.keys import KeyRing
from clonk_core.gateway.office import KeyOffice
from clonk_core.gateway.plugin_credentials import Asked, PluginCredentials
from clonk_core.gateway.rate_limit import MemoryLimiter
from clonk_core.gateway.records import Counters, Records, ShowParams
from clonk_core.gateway.watch import Watch
from clonk_core.interfaces.host import CredentialCheck, Log
from clonk_core.interfaces.keeping import AuditWriter
from clonk_core.interfaces.storage import Database


class Realm(RealmDoor, Protocol):
    """What the gateway needs of a realm, the keeping of keys included."""

    @property
    def credentials(self) -> Sequence[tuple[str, CredentialCheck]]: ...

    async def stop_runs_of(self, caller_id: str) -> None: ...


@attrs.frozen(kw_only=True)
class Parts:
    """What the gateway stands on.

    Attributes:
        database: The core's own, with the tables of keys.
        audit: The audit log; None when it is off.
        counters: The metrics; None when they are off.
        tokens: Verifies tokens of the identity provider; None without one.
        show_params: Gives a call's arguments as they may be written down.
        clock: Gives the time of day (POSIX, in seconds).
        log: Where calls and faults are told.
        requests: Which calls are told.
        audit_required: Whether calls that change something are written down before they are done, too.
    """

    database: Database
    audit: AuditWriter | None
    counters: Counters | None
    tokens: Tokens | None
    show_params: ShowParams
    clock: Callable[[], float]
    log: Log
    requests: Literal["all", "failed", "none"] = "all"
    audit_required: bool = False


@asynccontextmanager
async def open_gateway(
    realms: Mapping[str, Realm], settings: AuthSettings, parts: Parts, *, call_deadline_s: float
) -> AsyncIterator[Gateway]:
    """Open the gateway, and close it for everyone at the end."""
    ring = KeyRing(fixed_keys(settings.api_keys), parts.clock)
    office = KeyOffice(KeyStore(parts.database), ring, parts.audit, parts.clock, default_rate=settings.rate_limit)
    await office.refresh()
    authenticator = Authenticator(
        settings,
        ring,
        tokens=parts.tokens,
        plugins=_plugin_credentials(realms, parts.log),
        failures=Failures(settings.max_failure_delay_s),
        clock=parts.clock,
    )
    watch = Watch(authenticator.ended, settings.authenticate_within_s)
    limiter = MemoryLimiter()
    counters = parts.counters
    gateway = Gateway(
        realms,
        authenticator=authenticator,
        admission=Admission(settings, limiter, counters.rate_limited if counters else _count_nothing),
        records=Records(
            parts.audit,
            parts.show_params,
            counters,
            limiter,
            parts.log,
            requests=parts.requests,
            audit_required=parts.audit_required,
        ),
        watch=watch,
        keys=office,
        log=parts.log,
        call_deadline_s=call_deadline_s,
    )
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.look_for_ever)
        nursery.start_soon(_keep_current, office, ring, watch, realms, settings.key_check_s, parts.log)
        try:
            yield gateway
        except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery that would wrap it
            failure = error
        finally:
            gateway.close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _plugin_credentials(realms: Mapping[str, Realm], log: Log) -> PluginCredentials | None:
    asked = [
        Asked(plugin=plugin, tenant=tenant, check=check)
        for tenant, realm in realms.items()
        for plugin, check in realm.credentials
    ]
    return PluginCredentials(asked, log) if asked else None


def _count_nothing(_kind: str) -> None:
    """Count nothing: the metrics are off."""


async def _keep_current(
    office: KeyOffice, ring: KeyRing, watch: Watch, realms: Mapping[str, Realm], every_s: float, log: Log
) -> None:
    """Look for keys that another process changed, and end what keys that were revoked have open."""
    revoked = {key.id for key in ring.keys if key.revoked_at is not None}
    while True:
        with trio.move_on_after(every_s):
            await ring.wait_changed()
        try:
            await office.refresh()
        except ClonkError as error:  # a broken disk; looked at again later
            log.warning("keys cannot be read", error=str(error))
        now_revoked = {key.id for key in ring.keys if key.revoked_at is not None}
        fresh, revoked = now_revoked - revoked, now_revoked
        if not fresh:
            continue
        watch.look()
        for key in ring.keys:
            realm = realms.get(key.tenant)
            if key.id in fresh and realm is not None:
                log.info("key revoked", key=key.id)
                await realm.stop_runs_of(key.id)
