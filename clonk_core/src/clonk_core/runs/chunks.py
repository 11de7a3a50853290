"""Chunks: events that are stored together in one row and read back together. No I/O here."""

from collections.abc import Iterable, Sequence

import attrs

from clonk_core.messages import Event
from clonk_core.runs.limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS


@attrs.frozen
class Chunk:
    """Consecutive events, at most one batch of them.

    Attributes:
        first: Number of the first.
        last: Number of the last.
        size: Bytes of their payloads.
        events: The events themselves.
    """

    first: int
    last: int
    size: int
    events: tuple[Event, ...]

    def text(self) -> bytes:
        """Return the payloads as they are stored: JSON texts, one a line."""
        return b"\n".join([event.payload for event in self.events])


def pack(events: Sequence[Event]) -> list[Chunk]:
    """Cut consecutive events into chunks that each fit one batch; a single larger event is a chunk of its own."""
    chunks: list[Chunk] = []
    start = size = 0
    for index, event in enumerate(events):
        length = len(event.payload)
        if index > start and (size + length > MAX_BATCH_BYTES or index - start == MAX_BATCH_EVENTS):
            chunks.append(_chunk(events[start:index], size))
            start, size = index, 0
        size += length
    if events:
        chunks.append(_chunk(events[start:], size))
    return chunks


def _chunk(events: Sequence[Event], size: int) -> Chunk:
    return Chunk(events[0].seq, events[-1].seq, size, tuple(events))


def unpack(first: int, text: bytes) -> list[Event]:
    """Return the events of a stored chunk."""
    return [Event(seq, payload) for seq, payload in enumerate(text.split(b"\n"), first)]


def first_batch(chunks: Iterable[Chunk], after: int) -> list[Event]:
    """Return the events after number `after` of consecutive chunks, whole chunks as long as they fit one batch."""
    batch: list[Event] = []
    size = 0
    for chunk in chunks:
        if chunk.last <= after:
            continue
        if batch and (size + chunk.size > MAX_BATCH_BYTES or len(batch) + len(chunk.events) > MAX_BATCH_EVENTS):
            break
        batch.extend(chunk.events if chunk.first > after else chunk.events[after + 1 - chunk.first :])
        size += chunk.size
    return batch
