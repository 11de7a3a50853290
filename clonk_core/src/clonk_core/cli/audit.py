"""`clonk audit`: read the audit log, or check it. Reads the data directory's own database: no server is needed."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import attrs
from cyclopts import Parameter

from clonk_core.cli.exit_codes import FAILED, OK, CommandError, UsageError
from clonk_core.cli.flags import ConfigFile, Json
from clonk_core.cli.moments import moment
from clonk_core.cli.output import print_columns, print_json
from clonk_core.errors import InvalidParams
from clonk_core.gateway_messages import AuditFilters, AuditRow
from clonk_core.messages import AuditKind

if TYPE_CHECKING:
    from clonk_core.gateway.audit import AuditLog

DataDir: TypeAlias = Annotated[Path | None, Parameter(name="--data-dir")]

_PAGE: Final = 1000


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class RowFilters:
    """Which rows are wanted.

    Attributes:
        caller: Only what this caller did.
        kind: Only rows of this kind.
        action: Only this method or tool; with a * at the end, all that begin so.
        target: Only what was about this, such as a session's name.
        outcome: Only what came to this, such as ok or forbidden.
        run: Only what belongs to this run (sub_...).
        tenant: Only this tenant's.
        since: Not before this time: 2026-01-31, 2026-01-31T09:30:00Z, or 2h for two hours ago.
        until: Before this time.
    """

    caller: str | None = None
    kind: AuditKind | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    run: str | None = None
    tenant: str | None = None
    since: str | None = None
    until: str | None = None

    def wanted(self, now: datetime) -> AuditFilters:
        """Return them as the log takes them."""
        return AuditFilters(
            caller=self.caller,
            kind=self.kind,
            action=self.action,
            target=self.target,
            outcome=self.outcome,
            run_id=self.run,
            tenant=self.tenant,
            since=None if self.since is None else moment(self.since, now),
            until=None if self.until is None else moment(self.until, now),
        )


EVERY_ROW: Final = RowFilters()


async def tail(
    *,
    limit: int = 20,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=(), show_default=False)] = False,
    filters: RowFilters = EVERY_ROW,
    json: Json = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> int:
    """Print the newest rows of the audit log, oldest first: number, time, kind, caller, action, target, outcome.

    For example: clonk audit tail --follow --action "claudecode.*" --since 2h

    It reads the database in the data directory, beside a running server or without one.

    Args:
        limit: How many; those that fit the filters are counted.
        follow: Go on with those that come, until Ctrl-C.
        json: Print JSON, one row a line, with everything there is.
        data_dir: Folder of the databases, when it is not the configured one.
        config: Configuration file that says where the databases are.
    """
    if limit < 0:
        raise UsageError("--limit must not be negative")
    wanted = filters.wanted(datetime.now(UTC))
    async with _opened(data_dir, config) as log:
        newest = await log.newest()
        _print(await _newest_rows(log, wanted, limit, newest), json=json)
        if follow:
            async for row in log.follow(wanted, after=newest):
                _print([row], json=json)
    return OK


async def verify(
    *, head: str | None = None, json: Json = False, data_dir: DataDir = None, config: ConfigFile = None
) -> int:
    """Check that no row of the audit log was changed, taken out or put elsewhere. Exit code 1 when one was.

    It prints the head, the number and hash of the newest row. Kept where nobody who can write the database can change
    it, it lets a later check tell that the newest rows were not cut off: clonk audit verify --head 1234:9f86...

    Args:
        head: A head that an earlier check printed; it must still be in the log.
        json: Print the report as JSON.
        data_dir: Folder of the databases, when it is not the configured one.
        config: Configuration file that says where the databases are.
    """
    async with _opened(data_dir, config) as log:
        try:
            report = await log.verify(expect_head=head)
        except InvalidParams as error:
            raise UsageError(f"--head {error.detail}") from error
    if json:
        print_json(attrs.asdict(report), compact=True)
    else:
        print(f"rows {report.first_seq} to {report.head.partition(':')[0]}: {report.rows} checked")
        print(f"head: {report.head}")
        for problem in report.problems:
            print(f"{problem.kind} at row {problem.seq}: {problem.message}")
        print("the log is intact" if report.intact else "the log is NOT as it was written", flush=True)
    return OK if report.intact else FAILED


@asynccontextmanager
async def _opened(data_dir: Path | None, config: Path | None) -> AsyncIterator["AuditLog"]:
    """Give the log in the data directory, opened for reading.

    Raises:
        CommandError: There is none.
    """
    from clonk_core.gateway.audit import AuditLog
    from clonk_core.gateway.audit_store import has_table
    from clonk_core.storage.core_tables import CORE_DATABASE, open_core_database_read_only

    folder = _configured_data_dir(config) if data_dir is None else data_dir
    if not (folder / f"{CORE_DATABASE}.db").is_file():
        raise CommandError(f"there is no database of Clonk's in {folder}; name its folder with --data-dir")
    async with open_core_database_read_only(folder) as database:
        if not await database.read(has_table):
            raise CommandError(f"the database in {folder} has no audit log yet; a server of this version adds it")
        yield AuditLog(database)


def _configured_data_dir(config: Path | None) -> Path:
    from clonk_core.app import draw

    return draw(config, os.environ, {}).settings.storage.data_dir.expanduser()


async def _newest_rows(log: "AuditLog", wanted: AuditFilters, limit: int, newest: int) -> Sequence[AuditRow]:
    """Return the newest rows up to number `newest`, oldest first."""
    rows: list[AuditRow] = []
    before = newest + 1
    while len(rows) < limit:
        page = await log.query(wanted, limit=min(limit - len(rows), _PAGE), before=before)
        if not page:
            break
        rows += page
        before = page[-1].seq
    return rows[::-1]


def _print(rows: Sequence[AuditRow], *, json: bool) -> None:
    if json:
        for row in rows:
            print_json(attrs.asdict(row), compact=True)
    else:
        print_columns([_columns(row) for row in rows])


def _columns(row: AuditRow) -> tuple[str, ...]:
    return tuple(
        _printable(text)
        for text in (str(row.seq), row.at, row.kind, row.caller, row.action, row.target or "-", row.outcome)
    )


def _printable(text: str) -> str:
    """Return a text without what would steer a terminal: callers choose some of these."""
    return "".join(character if character.isprintable() else "?" for character in text[:120])
