"""The core's own database, `clonk.db`: where its tables are defined and how it is opened.

The SQL that reads and writes a table stands in the room that owns it (`runs/journal.py` for runs), since rooms do not
import each other; the definitions of all of them are one numbered sequence of files in `storage/migrations`.
"""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.storage.sqlite import SqliteDatabase, Synchronous, open_sqlite, open_sqlite_read_only

CORE_DATABASE: Final = "clonk"
"""Name of the core's database, without the ending."""

CORE_MIGRATIONS: Final = "clonk_core.storage.migrations"
"""Where its numbered SQL files are."""


def open_core_database(
    data_dir: Path, *, synchronous: Synchronous = "normal", metrics: Metrics = NO_METRICS
) -> AbstractAsyncContextManager[SqliteDatabase]:
    """Open `clonk.db` in the data directory, migrated; takes and raises what `open_sqlite` does."""
    path = data_dir / f"{CORE_DATABASE}.db"
    return open_sqlite(path, CORE_DATABASE, migrations=[CORE_MIGRATIONS], synchronous=synchronous, metrics=metrics)


def open_core_database_read_only(data_dir: Path) -> AbstractAsyncContextManager[SqliteDatabase]:
    """Open `clonk.db` in the data directory for reading, as it is; raises as `open_sqlite_read_only` does."""
    return open_sqlite_read_only(data_dir / f"{CORE_DATABASE}.db", CORE_DATABASE)
