"""Events written to the journal of runs, beside SQLite itself with the same statements in the same transactions.

The raw side is a plain loop in one thread: it has no waiting tasks to wake, no thread to hand work to. What is kept for
each run is the same.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw
import attrs
import trio

from clonk_core.messages import Caller, Event
from clonk_core.runs.chunks import Chunk, pack
from clonk_core.runs.journal import _INSERT_CHUNK, _INSERT_RUN, Journal
from clonk_core.storage.core_tables import open_core_database
from tests.bench.figures import Figure, median, spread

PAYLOAD: Final = b'{"type":"text_delta","text":"a word or two"}'
CALLER: Final = Caller(id="local", kind="local", tenant="default")
NOW: Final = "2026-01-01T00:00:00Z"


@attrs.frozen(kw_only=True)
class Shape:
    """How the events come.

    Attributes:
        name: In words.
        runs: Runs that write at the same time.
        batch: Events that each stores at once.
        batches: How often each does.
    """

    name: str
    runs: int
    batch: int
    batches: int


SHAPES: Final = (
    Shape(name="one run, event by event", runs=1, batch=1, batches=2000),
    Shape(name="one run, 256 at once", runs=1, batch=256, batches=200),
    Shape(name="50 runs, event by event", runs=50, batch=1, batches=200),
)


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    for shape in SHAPES:
        rounds = 1 if quick else 7
        if quick:
            shape = attrs.evolve(shape, batches=5)
        events = shape.runs * shape.batch * shape.batches
        ours, raw = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
                ours.append(events / trio.run(_journal, Path(name), shape))
                # In the file that the journal made: the same tables, the same settings.
                raw.append(events / _raw(Path(name) / "clonk.db", shape))
        yield Figure(
            name=f"journal, {shape.name}",
            value=median(ours),
            unit="1/s",
            peer="raw SQLite",
            limit=median(raw),
            note=f"events; {1e6 / median(ours):.0f} us each against {1e6 / median(raw):.0f}; 80 % {spread(ours)}",
        )


def _chunks(shape: Shape, number: int) -> Sequence[Chunk]:
    first = number * shape.batch + 1
    return pack([Event(seq, PAYLOAD) for seq in range(first, first + shape.batch)])


async def _journal(folder: Path, shape: Shape) -> float:
    """Return the seconds that the journal takes."""
    async with open_core_database(folder) as database:
        journal = Journal(database)
        runs = [f"sub_{number}" for number in range(shape.runs)]
        for run in runs:
            await journal.begin(run, "bench.stream", CALLER, NOW)

        async def write(run: str) -> None:
            for number in range(shape.batches):
                await journal.append(run, _chunks(shape, number), None, NOW, keep_bytes=None)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for run in runs:
                nursery.start_soon(write, run)
        return time.perf_counter() - began


def _raw(path: Path, shape: Shape) -> float:
    """Return the seconds that the statements alone take, the runs' events of one moment in one transaction."""
    connection = apsw.Connection(str(path))
    connection.execute("pragma synchronous = normal")
    execute = connection.execute
    runs = [f"sub_raw_{number}" for number in range(shape.runs)]
    for run in runs:
        texts = dict.fromkeys(("tenant", "caller", "caller_kind", "method", "target"), "")
        no_key = {"idempotency_key": None, "request_digest": None}
        execute(_INSERT_RUN, {"id": run, "started_at": NOW, **texts, **no_key})
    began = time.perf_counter()
    for number in range(shape.batches):
        execute("begin immediate")
        for run in runs:
            for chunk in _chunks(shape, number):
                text = chunk.text()
                execute(
                    _INSERT_CHUNK,
                    {
                        "run_id": run,
                        "first_seq": chunk.first,
                        "last_seq": chunk.last,
                        "payload_bytes": len(text),
                        "payloads": text,
                    },
                )
        execute("commit")
    took = time.perf_counter() - began
    connection.close()
    return took
