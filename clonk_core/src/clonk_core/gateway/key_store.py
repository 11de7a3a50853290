"""API keys in `clonk.db`: all SQL of the tables `api_keys` and `key_changes`."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from clonk_core.clock_text import clock_text
from clonk_core.errors import Conflict, NotFound
from clonk_core.gateway.keys import ApiKey
from clonk_core.interfaces.storage import Database, Transaction

_COLUMNS: Final = (
    "id, secret_hash, previous_hash, previous_until, scopes, tenant, description, rate_limit, burst, bytes_limit, "
    "max_runs, allowed_networks, created_at, created_by, expires_at, rotated_at, revoked_at"
)
_INSERT: Final = f"""
insert into api_keys ({_COLUMNS})
values (:id, :secret_hash, null, null, :scopes, :tenant, :description, :rate_limit, :burst, :bytes_limit, :max_runs,
    :allowed_networks, :created_at, :created_by, :expires_at, null, null)
on conflict (id) do nothing
"""
_ALL: Final = f"select {_COLUMNS} from api_keys order by id"
_ONE: Final = f"select {_COLUMNS} from api_keys where id = :id"
_REVOKE: Final = "update api_keys set revoked_at = :now where id = :id and revoked_at is null"
_ROTATE: Final = """
update api_keys set previous_hash = secret_hash, previous_until = :previous_until, secret_hash = :secret_hash,
    rotated_at = :now where id = :id
"""
_NOTE_CHANGE: Final = "update key_changes set number = number + 1 where id = 1"
_CHANGES: Final = "select number from key_changes where id = 1"


class KeyStore:
    """The keys of one database.

    Every method raises `StorageFull` and `StorageError` as the database does.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> tuple[int, tuple[ApiKey, ...]]:
        """Return how often keys were changed so far, and all keys by id."""
        return await self._database.read(_all)

    async def changes(self) -> int:
        """Return how often keys were changed so far."""
        return await self._database.read(_changes)

    async def add(self, key: ApiKey) -> None:
        """Add a new key.

        Raises:
            Conflict: The id is taken, perhaps by a key that was revoked: audit rows name keys by id.
        """
        await self._database.run(_add, key)

    async def revoke(self, key_id: str, now: datetime) -> ApiKey:
        """Take a key back; one that was taken back stays as it is.

        Raises:
            NotFound: There is none.
        """
        return await self._database.run(_change, key_id, _REVOKE, {"now": clock_text(now)})

    async def rotate(self, key_id: str, secret_hash: str, now: datetime, previous_until: datetime) -> ApiKey:
        """Give a key a new secret; the old one is good until `previous_until`, the one before that no more.

        Raises:
            NotFound: There is none.
            Conflict: It was revoked.
        """
        bindings = {"secret_hash": secret_hash, "now": clock_text(now), "previous_until": clock_text(previous_until)}
        return await self._database.run(_rotate, key_id, bindings)


def _all(transaction: Transaction) -> tuple[int, tuple[ApiKey, ...]]:
    return _changes(transaction), tuple(_key(row) for row in transaction.execute(_ALL))


def _changes(transaction: Transaction) -> int:
    row = transaction.one(_CHANGES)
    return int(row[0]) if row else 0


def _add(transaction: Transaction, key: ApiKey) -> None:
    transaction.execute(_INSERT, _bindings(key))
    if not transaction.changes():
        raise Conflict(f"there is a key {key.id!r} already, perhaps a revoked one; choose another id", id=key.id)
    transaction.execute(_NOTE_CHANGE)


def _rotate(transaction: Transaction, key_id: str, bindings: Mapping[str, Any]) -> ApiKey:
    if _get(transaction, key_id).revoked_at is not None:
        raise Conflict(f"the key {key_id!r} was revoked; make a new one", id=key_id)
    return _change(transaction, key_id, _ROTATE, bindings)


def _change(transaction: Transaction, key_id: str, statement: str, bindings: Mapping[str, Any]) -> ApiKey:
    _get(transaction, key_id)
    transaction.execute(statement, {"id": key_id, **bindings})
    transaction.execute(_NOTE_CHANGE)
    return _get(transaction, key_id)


def _get(transaction: Transaction, key_id: str) -> ApiKey:
    row = transaction.one(_ONE, {"id": key_id})
    if row is None:
        raise NotFound(f"there is no key {key_id[:80]!r} in the database; `keys.list` lists all", id=key_id[:80])
    return _key(row)


def _bindings(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "secret_hash": key.hashes[0],
        "scopes": json.dumps(sorted(key.scopes)),
        "tenant": key.tenant,
        "description": key.description,
        "rate_limit": key.rate_limit,
        "burst": key.burst,
        "bytes_limit": key.bytes_limit,
        "max_runs": key.max_runs,
        "allowed_networks": json.dumps(key.allowed_networks),
        "created_at": None if key.created_at is None else clock_text(key.created_at),
        "created_by": key.created_by,
        "expires_at": None if key.expires_at is None else clock_text(key.expires_at),
    }


def _key(row: tuple[Any, ...]) -> ApiKey:
    values = dict(zip((name.strip() for name in _COLUMNS.split(",")), row, strict=True))
    previous_hash = values.pop("previous_hash")
    secret_hash = values.pop("secret_hash")
    for name in ("created_at", "expires_at", "rotated_at", "previous_until", "revoked_at"):
        values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
    values["scopes"] = frozenset(json.loads(values["scopes"]))
    values["allowed_networks"] = tuple(json.loads(values["allowed_networks"]))
    return ApiKey(hashes=(secret_hash, *([previous_hash] if previous_hash else [])), source="database", **values)
