"""A book of runs on a real database, and what it needs of host and wire."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest

from clonk_core.errors import CallError, Internal
from clonk_core.interfaces.runs import Run
from clonk_core.messages import LOCAL_CALLER, ErrorObject, Event
from clonk_core.runs.book import RunBook, open_runs
from clonk_core.runs.limits import RunLimits
from clonk_core.runs.producer import RunControl
from clonk_core.storage.core_tables import open_core_database
from clonk_core.storage.sqlite import SqliteDatabase

OpenBook = Callable[..., AbstractAsyncContextManager[RunBook]]


def encode(event: object) -> bytes:
    if attrs.has(type(event)):
        event = attrs.asdict(event, filter=lambda _, value: value is not None)  # type: ignore[arg-type]
    return orjson.dumps(event)


def error_object(error: CallError) -> ErrorObject:
    return ErrorObject(code=1, message=error.message, data={"kind": error.kind, **error.data})


class Tools:
    """What the tests of runs share.

    Attributes:
        incidents: Every exception that was reported as an incident.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.incidents: list[Exception] = []
        self.database: SqliteDatabase

    def incident(self, error: Exception) -> Internal:
        self.incidents.append(error)
        return Internal("inc_1")

    @asynccontextmanager
    async def open(self, *, data_dir: Path | None = None, **limits: Any) -> AsyncIterator[RunBook]:
        """Open a book as after a start of the server, with some bounds changed."""
        async with (
            open_core_database(data_dir or self.data_dir) as self.database,
            open_runs(
                self.database,
                encode=encode,
                error_object=error_object,
                incident=self.incident,
                limits=RunLimits(**limits),
            ) as book,
        ):
            yield book

    @staticmethod
    def count_to(count: int, text: str = "x") -> Callable[[RunControl], AsyncIterator[object]]:
        """An activation that yields `count` events without waiting."""

        async def events(control: RunControl) -> AsyncIterator[object]:
            for number in range(1, count + 1):
                yield {"type": "text", "text": text, "number": number}

        return events

    @staticmethod
    async def start(book: RunBook, make_events: Callable[[RunControl], AsyncIterator[object]], **options: Any) -> Run:
        return await book.start("test.stream", LOCAL_CALLER, make_events, **{"durable": True, **options})

    @staticmethod
    async def read(run: Run, after: int = 0, until: int | None = None) -> list[Event]:
        """Follow a run to its end, or until an event of that number has come."""
        events: list[Event] = []
        async with run.follow(after) as batches:
            async for batch in batches:
                events.extend(batch)
                if until is not None and events[-1].seq >= until:
                    break
        return events

    @staticmethod
    def done(events: Sequence[Event]) -> dict[str, Any]:
        """The last event, which must be the only `done`."""
        objects = [orjson.loads(event.payload) for event in events]
        assert [event["type"] for event in objects].count("done") == 1
        last: dict[str, Any] = objects[-1]
        assert last["type"] == "done"
        return last

    @staticmethod
    def seqs(events: Sequence[Event]) -> list[int]:
        return [event.seq for event in events]


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path)
