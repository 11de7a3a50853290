"""Server-sent events (WHATWG HTML, section 9.2): events to bytes, and an incremental reader for clients."""

import re
from collections.abc import Sequence
from typing import Final

import attrs

from clonk_core.errors import TooLarge
from clonk_core.messages import Event
from clonk_core.wire.jsonrpc import Frames

KEEP_ALIVE: Final = b":\n\n"
"""A comment: says that the connection lives and is no event."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"


# ── writing ──────────────────────────────────────────────────────────────────


def comment_bytes(text: str) -> bytes:
    """Return a comment, which clients pass over."""
    return b": %b\n\n" % " ".join(text.split()).encode()


def retry_bytes(delay_ms: int) -> bytes:
    """Return the field that tells a client when to return after a cut, in milliseconds."""
    return b"retry: %d\n\n" % delay_ms


def event_bytes(message: bytes, id_: str | None = None) -> bytes:
    """Return one event.

    Args:
        message: Its data. Line ends in it become several `data:` lines.
        id_: What a client gives as `Last-Event-ID` when it comes back; None leaves the last one standing.
    """
    head = b"id: %b\n" % id_.encode() if id_ is not None else b""
    if b"\n" in message or b"\r" in message:
        return head + b"".join(b"data: %b\n" % line for line in _LINE_END.split(message)) + b"\n"
    return b"%bdata: %b\n\n" % (head, message)


class SubscriptionWriter:
    """Writes the events of one subscription, each with the id `<subscription>/<seq>`.

    Readers of one run may share a writer: who is given the very batch that was written last gets the same bytes.
    """

    def __init__(self, subscription: str) -> None:
        self.frames = Frames(subscription)
        self._last_events: Sequence[Event] = ()
        self._last_bytes = b""
        self._id = b"id: %b/" % subscription.encode()
        opening = self.frames.event(0, b"").split(b'"seq":', 1)[0]
        # Head and tail of a whole event, so that one formatting gives id and frame.
        self._format = b'%b%%d\ndata: %b"seq":%%d,"result":%%b}}\n\n' % (
            self._id.replace(b"%", b"%%"),
            opening.replace(b"%", b"%%"),
        )

    def batch(self, events: Sequence[Event]) -> bytes:
        """Return a batch of events, which must not change, as one piece of bytes, to be written at once."""
        if events is not self._last_events:
            self._last_events, self._last_bytes = events, self._written(events)
        return self._last_bytes

    def _written(self, events: Sequence[Event]) -> bytes:
        template = self._format
        parts = [template % (event.seq, event.seq, event.payload) for event in events]
        joined = b"".join(parts)
        if joined.count(b"\n") == 3 * len(parts) and b"\r" not in joined:
            return joined
        # A payload with line ends in it: JSON, but not from our encoder.
        return b"".join(self.one(event) for event in events)

    def one(self, event: Event) -> bytes:
        """Return one event."""
        return event_bytes(self.frames.event(event.seq, event.payload), f"{self.frames.subscription}/{event.seq}")


def split_event_id(last_event_id: str) -> tuple[str, int] | None:
    """Read `Last-Event-ID`: the subscription and the number after which to go on; None when it is not one of ours."""
    subscription, slash, seq = last_event_id.strip().rpartition("/")
    if not slash or not subscription or not seq.isascii() or not seq.isdigit() or len(seq) > 18:
        return None
    return subscription, int(seq)


# ── reading ──────────────────────────────────────────────────────────────────


@attrs.frozen
class ServerSentEvent:
    """One event as a client sees it.

    Attributes:
        data: Its text, its lines joined by line feeds.
        event: Its type, `message` when none was named.
        id: The last event id at that point; empty before the first.
    """

    data: str
    event: str
    id: str


class Decoder:
    """Reads a stream of server-sent events piece by piece, however the network cuts it.

    Attributes:
        last_event_id: What to send as `Last-Event-ID` when coming back.
        retry_ms: Delay the server asked for before coming back, None when it named none.
    """

    def __init__(self, *, max_event_bytes: int = 64 * 2**20) -> None:
        """Start at the beginning of a stream.

        Args:
            max_event_bytes: Most that one event, or one line, may hold; memory must have a bound.
        """
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._max_event_bytes = max_event_bytes
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._after_cr = False
        self._at_start = True
        self._event = ""
        self._data: list[str] = []
        self._data_bytes = 0

    def feed(self, piece: bytes) -> Sequence[ServerSentEvent]:
        """Take the next bytes and return the events that are complete with them.

        An event that the stream's end cuts off is dropped, as the specification wants: it comes again after a resume.

        Raises:
            TooLarge: One event is larger than `max_event_bytes`.
        """
        if self._at_start:
            piece = self._without_mark(piece)
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if not piece:
            return ()
        self._after_cr = piece.endswith(b"\r")
        lines = piece.split(b"\n") if b"\r" not in piece else _LINE_END.split(piece)
        rest = lines.pop()
        if lines and self._partial:
            lines[0] = b"".join([*self._partial, lines[0]])
            self._partial, self._partial_bytes = [], 0
        events: list[ServerSentEvent] = []
        for line in lines:
            self._line(line, events)
        if rest:
            self._partial.append(rest)
            self._partial_bytes += len(rest)
            self._check_size(self._partial_bytes)
        return events

    def _without_mark(self, piece: bytes) -> bytes:
        """Drop a byte order mark at the very start, which may come in pieces itself."""
        start = b"".join(self._partial) + piece
        self._partial, self._partial_bytes = [], 0
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._partial = [start]
            return b""
        self._at_start = False
        return start.removeprefix(_BOM)

    def _line(self, line: bytes, events: list[ServerSentEvent]) -> None:
        """Process one line without its end."""
        if not line:
            self._dispatch(events)
            return
        name, colon, value = line.partition(b":")
        if not name and colon:
            return
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_bytes += len(value) + 1
            self._check_size(self._data_bytes)
            self._data.append(value.decode("utf-8", "replace"))
        elif name == b"id":
            if b"\0" not in value:
                self.last_event_id = value.decode("utf-8", "replace")
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry_ms = int(value[:18])

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        """End an event at an empty line; one without data is none."""
        if self._data:
            events.append(ServerSentEvent("\n".join(self._data), self._event or "message", self.last_event_id))
            self._data, self._data_bytes = [], 0
        self._event = ""

    def _check_size(self, size: int) -> None:
        if size > self._max_event_bytes:
            limit = self._max_event_bytes
            raise TooLarge(f"one event has more than {limit} bytes", limit=limit)
