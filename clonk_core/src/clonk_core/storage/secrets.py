"""Secrets at rest: all SQL of the tables `secrets` and `secret_key`, and their encryption.

A value is encrypted with AES-256-GCM under a key that is not in the database. Every row is under the key that the table
`secret_key` names. A rotation changes that name and every row in one transaction, so whoever writes looks there for the
key to use, and whoever reads a row finds the key it needs in memory, or by reading it again: no process has to be told.
"""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import attrs

from clonk_core.clock_text import clock_text
from clonk_core.errors import ConfigError, StorageError
from clonk_core.interfaces.storage import Database, Transaction
from clonk_core.names import is_secret
from clonk_core.storage.secret_key import KeySource, SecretKey

MAX_VALUE_BYTES: Final = 64 * 1024
"""Longest value, as UTF-8. Keys and tokens are shorter; certificates with their chain fit."""

T = TypeVar("T")
Keys = Mapping[str, SecretKey]

_NONCE_BYTES: Final = 12
"""What GCM is made for (NIST SP 800-38D, 5.2.1.1); at random, good for 2^32 values under one key."""

_ATTEMPTS: Final = 5
"""How often keys are read again while others rotate them."""

_KEPT_KEYS: Final = 8
"""Keys remembered, the latest: an old one is good as long as a row is under it."""

_ENCRYPTED: Final = "key_id, cast(nonce as blob), cast(ciphertext as blob)"
"""Whatever stands there: SQLite does not check types, and not even that text is text."""

_FIND: Final = f"select {_ENCRYPTED} from secrets where tenant = :tenant and name = :name"
_LIST: Final = "select name, key_id, created_at, updated_at from secrets where tenant = :tenant order by name"
_PUT: Final = """
insert into secrets (tenant, name, key_id, nonce, ciphertext, created_at, updated_at)
values (:tenant, :name, :key_id, :nonce, :ciphertext, :now, :now)
on conflict (tenant, name) do update set
    key_id = excluded.key_id, nonce = excluded.nonce, ciphertext = excluded.ciphertext, updated_at = excluded.updated_at
"""
_DELETE: Final = "delete from secrets where tenant = :tenant and name = :name"
_UNDER_OTHER_KEYS: Final = f"""
select tenant, name, {_ENCRYPTED} from secrets where key_id <> :key_id order by tenant, name
"""
_REPLACE: Final = """
update secrets set key_id = :key_id, nonce = :nonce, ciphertext = :ciphertext where tenant = :tenant and name = :name
"""
_ONE_OF_ALL: Final = "select name from secrets limit 1"
_CURRENT_KEY: Final = "select key_id from secret_key where id = 1"
_CHOOSE_KEY: Final = """
insert into secret_key (id, key_id, chosen_at) values (1, :key_id, :now)
on conflict (id) do update set key_id = excluded.key_id, chosen_at = excluded.chosen_at
"""


@attrs.frozen(kw_only=True)
class SecretEntry:
    """One secret, without its value.

    Attributes:
        name: Its name.
        key_id: Which key it is encrypted under.
        created_at: When it was first set (RFC 3339, UTC).
        updated_at: When it was last set.
    """

    name: str
    key_id: str
    created_at: str
    updated_at: str


class SecretStore:
    """The secrets of one database.

    Every method raises `StorageFull` and `StorageError` as the database does, and `ConfigError` when the key cannot be
    read or is another than the secrets are under. No error tells a value.

    Args:
        database: `clonk.db`.
        keys: Where the key comes from.
    """

    def __init__(self, database: Database, keys: KeySource) -> None:
        self._database = database
        self._keys = keys
        self._known: dict[str, SecretKey] = {}

    async def learn_keys(self) -> None:
        """Read the keys there are. Known ones stay: rows are under one of them until they are re-encrypted."""
        for key in await self._keys.load():
            self._known.pop(key.id, None)
            self._known[key.id] = key
        self._known = dict(list(self._known.items())[-_KEPT_KEYS:])

    async def set(self, tenant: str, name: str, value: str) -> None:
        """Keep a secret, in the place of the one that had its name.

        Args:
            tenant: Whose it is.
            name: A letter, then letters, digits, `_` and `-`; at most 64.
            value: 1 byte to 64 KiB of text.

        Raises:
            ValueError: The name or the value is not like that.
        """
        check(name, value)
        await self.learn_keys()
        await self._with_keys(lambda known: self._database.run(_set, self._keys, known, tenant, name, value))

    async def get(self, tenant: str, name: str) -> str | None:
        """Return a secret, None when there is none of that name."""
        return await self._with_keys(lambda known: self._database.read(_get, known, tenant, name))

    async def delete(self, tenant: str, name: str) -> bool:
        """Delete a secret; return whether it was there."""
        return await self._database.run(_delete, tenant, name)

    async def list(self, tenant: str) -> tuple[SecretEntry, ...]:
        """Return what there is, by name."""
        return await self._database.read(_list, tenant)

    async def rotate(self, old_keys: Sequence[SecretKey] = ()) -> tuple[int, str]:
        """Put every secret under a new key: one that is made for it, or the configured one.

        The database must be open with `synchronous="full"`: what was re-encrypted must be on the disk before the old
        key goes. Other processes may use the secrets meanwhile. When one secret cannot be decrypted, none is changed.

        Args:
            old_keys: Keys that secrets may be under, beside those that the source has.

        Returns:
            How many secrets were encrypted anew, and the new key's id.
        """
        await self.finish_rotation()
        return await self._reencrypt(old_keys)

    async def finish_rotation(self) -> None:
        """Do the rest of a rotation that was cut off; nothing when there was none. As `rotate` otherwise."""
        if self._keys.is_rotating:
            await self._reencrypt(())

    async def _reencrypt(self, old_keys: Sequence[SecretKey]) -> tuple[int, str]:
        await self.learn_keys()
        more = {key.id: key for key in old_keys}
        done = await self._with_keys(lambda known: self._database.run(_rotate, self._keys, {**known, **more}))
        # A transaction of its own, after the commit: until then the old key must be there.
        await self._database.run(_settle, self._keys)
        return done

    async def _with_keys(self, attempt: Callable[[Keys], Awaitable[T]]) -> T:
        """Do what needs keys. When one is missing, read them again: another process may have rotated them."""
        missing = None
        for _ in range(_ATTEMPTS):
            try:
                return await attempt(self._known)
            except _KeyMissing as error:
                if missing is not None and error.key_id == missing.key_id:
                    break  # it was there before the keys were read, and is not among them
                missing = error
            await self.learn_keys()
        if missing is None:
            raise AssertionError("the last attempt returns or raises")
        raise ConfigError(self._wrong_key(missing)) from missing

    def _wrong_key(self, missing: "_KeyMissing") -> str:
        return (
            f"the secret {missing.name!r} is encrypted under the key {missing.key_id}, which is not in "
            f"{self._keys.place}; put that key back, give it to `clonk secrets rotate --old-key-file FILE`, or delete "
            "the secret and set it again"
        )


def check(name: str, value: str | None = None) -> None:
    """Refuse a name, and a value, that cannot be kept. The value is not told.

    Raises:
        ValueError: It is so; the text says what is allowed.
    """
    if not is_secret(name):
        raise ValueError(f"{name!r:.100} is no name of a secret: a letter, then letters, digits, `_`, `-`; at most 64")
    if value is None:
        return
    size = len(value.encode())
    if not 1 <= size <= MAX_VALUE_BYTES:
        raise ValueError(f"the secret {name!r} has {size} bytes; 1 to {MAX_VALUE_BYTES} are allowed")
    if "\0" in value:
        raise ValueError(f"the secret {name!r} has a zero byte, which is no text")


class _KeyMissing(Exception):
    """A secret is under a key that is not known; raised within a transaction, which is undone."""

    def __init__(self, key_id: str, name: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id
        self.name = name


# Each of these is one transaction.


def _set(transaction: Transaction, source: KeySource, known: Keys, tenant: str, name: str, value: str) -> None:
    key = _writing_key(transaction, source, known)
    transaction.execute(_PUT, {**_encrypted(key, tenant, name, value), "now": clock_text(datetime.now(UTC))})


def _writing_key(transaction: Transaction, source: KeySource, known: Keys) -> SecretKey:
    """Return the key to write under: that of all the others."""
    current = _current_key(transaction)
    if current is not None and current in known:
        return known[current]
    other = transaction.one(_ONE_OF_ALL)
    if other is not None:
        raise _KeyMissing(str(current), other[0])
    key = source.first()
    transaction.execute(_CHOOSE_KEY, {"key_id": key.id, "now": clock_text(datetime.now(UTC))})
    return key


def _get(transaction: Transaction, known: Keys, tenant: str, name: str) -> str | None:
    row = transaction.one(_FIND, {"tenant": tenant, "name": name})
    if row is None:
        return None
    key_id, nonce, ciphertext = row
    return _decrypted(known, tenant, name, key_id, nonce, ciphertext)


def _delete(transaction: Transaction, tenant: str, name: str) -> bool:
    transaction.execute(_DELETE, {"tenant": tenant, "name": name})
    return transaction.changes() > 0


def _list(transaction: Transaction, tenant: str) -> tuple[SecretEntry, ...]:
    return tuple(
        SecretEntry(name=name, key_id=key_id, created_at=created_at, updated_at=updated_at)
        for name, key_id, created_at, updated_at in transaction.execute(_LIST, {"tenant": tenant})
    )


def _rotate(transaction: Transaction, source: KeySource, known: Keys) -> tuple[int, str]:
    new = source.next()
    is_new = new.id != _current_key(transaction)
    try:
        rows = [
            _encrypted(new, tenant, name, _decrypted(known, tenant, name, key_id, nonce, ciphertext))
            for tenant, name, key_id, nonce, ciphertext in transaction.all(_UNDER_OTHER_KEYS, {"key_id": new.id})
        ]
        transaction.execute_many(_REPLACE, rows)
        # Also when nothing was to be done: this commit puts on the disk what an interrupted rotation has committed.
        transaction.execute(_CHOOSE_KEY, {"key_id": new.id, "now": clock_text(datetime.now(UTC))})
    except BaseException:
        if is_new:
            source.abandon()
        raise
    return len(rows), new.id


def _settle(transaction: Transaction, source: KeySource) -> None:
    source.settle(_current_key(transaction))


def _current_key(transaction: Transaction) -> str | None:
    row = transaction.one(_CURRENT_KEY)
    return None if row is None else str(row[0])


def _encrypted(key: SecretKey, tenant: str, name: str, value: str) -> dict[str, str | bytes]:
    # Here, because the library takes 20 ms to import and most commands keep no secret.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    ciphertext = AESGCM(key.material).encrypt(nonce, value.encode(), _associated(tenant, name))
    return {"tenant": tenant, "name": name, "key_id": key.id, "nonce": nonce, "ciphertext": ciphertext}


def _decrypted(known: Keys, tenant: str, name: str, key_id: str, nonce: bytes, ciphertext: bytes) -> str:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if key_id not in known:
        raise _KeyMissing(str(key_id), name)
    tampered = (
        f"the secret {name!r} was changed in the database by something else than Clonk; delete it and set it again"
    )
    if len(nonce) != _NONCE_BYTES:
        raise StorageError(tampered)
    try:
        return AESGCM(known[key_id].material).decrypt(nonce, ciphertext, _associated(tenant, name)).decode()
    except InvalidTag as error:
        raise StorageError(tampered) from error


def _associated(tenant: str, name: str) -> bytes:
    """Return what is authenticated beside the value. A name has no zero byte, so it cannot be read in two ways."""
    return b"\0".join((b"clonk.secret.1", tenant.encode(), name.encode()))
