"""The secrets of a data directory: opened to be changed, opened for a look, and what the server's start does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from clonk_core.errors import ClonkError
from clonk_core.interfaces.host import Log
from clonk_core.interfaces.storage import CoreDatabase, Transaction
from clonk_core.storage.core_tables import CORE_DATABASE, open_core_database
from clonk_core.storage.secret_key import KeySource
from clonk_core.storage.secrets import SecretStore
from clonk_core.storage.sqlite import open_sqlite

_HAS_TABLES: Final = "select 1 from sqlite_schema where type = 'table' and name = 'secret_key'"


@asynccontextmanager
async def open_secrets(data_dir: Path, keys: KeySource) -> AsyncIterator[tuple[SecretStore, CoreDatabase]]:
    """Open the secrets to change them, beside a running server or without one; `clonk.db` is made when it is missing.

    What is written is on the disk when the call returns: a rotation drops the old key after it.

    Yields:
        The secrets, and the database that they are in.
    """
    async with open_core_database(data_dir, synchronous="full") as database:
        yield SecretStore(database, keys), database


@asynccontextmanager
async def look_at_secrets(data_dir: Path, keys: KeySource) -> AsyncIterator[SecretStore | None]:
    """Open the secrets to read them. Nothing is made or migrated: None when there cannot be any."""
    path = data_dir / f"{CORE_DATABASE}.db"
    if not path.exists():
        yield None
        return
    async with open_sqlite(path, CORE_DATABASE) as database:
        yield SecretStore(database, keys) if await database.read(_has_tables) else None


async def finish_rotation(data_dir: Path, keys: KeySource, log: Log) -> None:
    """Finish a rotation that was cut off; when that fails the secrets stay readable, and the log says why."""
    if not keys.is_rotating:
        return
    try:
        async with open_secrets(data_dir, keys) as (secrets, _):
            await secrets.finish_rotation()
    except ClonkError as error:
        log.warning("a rotation of the secrets' key cannot be finished", reason=str(error))
    else:
        log.info("a rotation of the secrets' key was finished")


def _has_tables(transaction: Transaction) -> bool:
    return transaction.one(_HAS_TABLES) is not None
