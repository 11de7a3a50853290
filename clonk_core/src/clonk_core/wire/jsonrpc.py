"""JSON-RPC 2.0 envelopes: bytes in, messages out, and back. No sockets here; see transports/."""

from collections.abc import Iterable, Sequence
from typing import Final

import attrs
import orjson

from clonk_core.errors import CallError, InvalidRequest, ParseError, TooLarge
from clonk_core.messages import NOT_GIVEN, Event, JsonValue, Request
from clonk_core.wire.error_codes import error_object
from clonk_core.wire.strict_json import RepeatedNames, first_repeated, load

_MISSING: Final = object()


@attrs.frozen(kw_only=True)
class Limits:
    """What a message may be at most.

    Attributes:
        message_bytes: Length of one message. Transports stop reading earlier where they can.
        batch_items: Requests in one batch: one message must not start work without bound.
    """

    message_bytes: int = 10 * 2**20
    batch_items: int = 100


DEFAULT_LIMITS: Final = Limits()


@attrs.frozen
class Refused:
    """Something that is no request and has its error answer already.

    Attributes:
        id: The id to answer with: the sender's where it could be told, else None.
        error: Why.
    """

    id: object
    error: CallError


@attrs.frozen
class Batch:
    """Several requests in one message, at least one item, in the order sent."""

    items: tuple[Request | Refused, ...]


Incoming = Request | Refused | Batch


def parse(data: bytes | str, limits: Limits = DEFAULT_LIMITS) -> Incoming:
    """Read one message from a client. Raises nothing: what is wrong comes back as `Refused`.

    Members beside `jsonrpc`, `method`, `params` and `id` are tolerated, except `result` and `error`, which would make
    it unclear whether it is a request.

    Args:
        data: The message; text frames of a WebSocket come as str.
        limits: Bounds of size.
    """
    size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode("utf-8", "surrogatepass"))
    if size > limits.message_bytes:
        limit = limits.message_bytes
        return Refused(None, TooLarge(f"the message has {size} bytes, at most {limit} are read", limit=limit))
    try:
        value, has_repeated = load(data)
    except ParseError as error:
        return Refused(None, error)
    if type(value) is not list:
        return _request(value, size, has_repeated=has_repeated)
    if not value:
        return Refused(None, InvalidRequest("a batch needs at least one request"))
    if len(value) > limits.batch_items:
        text = f"the batch has {len(value)} requests, at most {limits.batch_items} are taken at once"
        return Refused(None, InvalidRequest(text, limit=limits.batch_items))
    # Counted once for the whole batch, so shared out: the first one has what does not divide evenly.
    share, rest = divmod(size, len(value))
    first = _request(value[0], share + rest, has_repeated=has_repeated)
    return Batch((first, *(_request(item, share, has_repeated=has_repeated) for item in value[1:])))


def _request(value: JsonValue, size: int, *, has_repeated: bool) -> Request | Refused:
    """Turn one JSON value into a request, or into why it is none."""
    if not isinstance(value, dict):
        return Refused(None, InvalidRequest("a request is a JSON object"))
    id_ = value.get("id", NOT_GIVEN)
    if not _is_id(id_):
        return Refused(None, InvalidRequest("`id` must be a string, a number or null"))
    method = value.get("method", _MISSING)
    params = value.get("params", _MISSING)
    wrong = None
    if has_repeated and (repeated := first_repeated(value)) is not None:
        wrong = f"the name {repeated[:100]!r} stands twice in one object"
        if isinstance(value, RepeatedNames) and repeated == "id":
            id_ = None
    elif "result" in value or "error" in value:
        wrong = "an answer (`result` or `error`), but this side asks nothing"
        id_ = None
    elif value.get("jsonrpc") != "2.0":
        wrong = '`jsonrpc` must be "2.0"'
    elif type(method) is not str:
        wrong = "`method` is missing" if method is _MISSING else "`method` must be a string"
    elif params is not _MISSING and type(params) is not dict and type(params) is not list:
        wrong = "`params` must be an object or an array"
    if wrong is not None:
        return Refused(None if id_ is NOT_GIVEN else id_, InvalidRequest(wrong))
    return Request(method=method, params=None if params is _MISSING else params, id=id_, size=size)


def _is_id(value: object) -> bool:
    """Tell whether a request may bear this id (a bool is a Python int and no JSON number)."""
    return value is NOT_GIVEN or value is None or type(value) in (str, int, float)


# ── answers ──────────────────────────────────────────────────────────────────


def reply_bytes(id_: object, result: bytes) -> bytes:
    """Return the answer of a plain method.

    Args:
        id_: The request's id, exactly as it came.
        result: JSON bytes of the result.
    """
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (_id_bytes(id_), result)


def error_bytes(id_: object, error: CallError) -> bytes:
    """Return the answer of a call that failed, or that was none (`id_` None)."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (_id_bytes(id_), error_object_bytes(error))


def error_object_bytes(error: CallError) -> bytes:
    """Return the JSON of an error object alone."""
    found = error_object(error)
    return orjson.dumps({"code": found.code, "message": found.message, "data": found.data})


def subscription_reply(id_: object, subscription: str) -> bytes:
    """Return the answer of a streaming method: the id of its run."""
    return reply_bytes(id_, orjson.dumps(subscription))


def batch_bytes(answers: Iterable[bytes]) -> bytes:
    """Return one answer to a batch; empty bytes (nothing is to be sent) when it held notifications only."""
    joined = b",".join(answers)
    return b"[%b]" % joined if joined else b""


class Frames:
    """Builds the messages of one subscription by putting bytes together."""

    def __init__(self, subscription: str) -> None:
        name = orjson.dumps(subscription)
        self.subscription = subscription
        self._head = b'{"jsonrpc":"2.0","method":"subscription","params":{"subscription":%b,' % name

    def event(self, seq: int, payload: bytes) -> bytes:
        """Return the notification of one event."""
        return b'%b"seq":%d,"result":%b}}' % (self._head, seq, payload)

    def events(self, events: Sequence[Event]) -> list[bytes]:
        """Return the notifications of a batch of events."""
        head = self._head
        return [b'%b"seq":%d,"result":%b}}' % (head, event.seq, event.payload) for event in events]

    def error(self, error: CallError) -> bytes:
        """Return the notification that the run cannot be read on now; it has no number and is not kept."""
        return b'%b"error":%b}}' % (self._head, error_object_bytes(error))


def _id_bytes(id_: object) -> bytes:
    """Write an id as it came; nothing else than `None` for a notification, which should get no answer at all."""
    if id_ is NOT_GIVEN:
        return b"null"
    try:
        return orjson.dumps(id_)
    except TypeError:
        # An integer beyond 64 bit: parse kept its digits.
        return str(id_).encode()
