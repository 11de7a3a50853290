"""The client's half of JSON-RPC: requests to bytes, and a server's messages to results, failures and events."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from clonk_core.errors import ParseError
from clonk_core.messages import NOT_GIVEN, ErrorObject, JsonValue
from clonk_core.wire.converter import Converter
from clonk_core.wire.strict_json import load, loses_digits

_MISSING: Final = object()


@attrs.frozen(kw_only=True)
class Succeeded:
    """The answer to a call that went well.

    Attributes:
        id: The request's id.
        result: What the method returned; the subscription's id for a streaming method.
    """

    id: object
    result: JsonValue


@attrs.frozen(kw_only=True)
class Failed:
    """The answer to a call that failed.

    Attributes:
        id: The request's id; None when the server could not tell it.
        error: Why; `error_codes.error_from_object` makes it an exception.
    """

    id: object
    error: ErrorObject


@attrs.frozen(kw_only=True)
class EventCame:
    """One event of a subscription."""

    subscription: str
    seq: int
    result: JsonValue


@attrs.frozen(kw_only=True)
class SubscriptionFailed:
    """A run cannot be read on now; what came before stays good, and it can be resumed later."""

    subscription: str
    error: ErrorObject


Answer = Succeeded | Failed
FromServer = Answer | EventCame | SubscriptionFailed


def request_bytes(
    method: str,
    params: Mapping[str, Any] | Sequence[Any] | None = None,
    id_: object = NOT_GIVEN,
    *,
    converter: Converter | None = None,
) -> bytes:
    """Return one request; a notification when no id is given.

    Args:
        method: Dotted name.
        params: Named or positional arguments; JSON values, or anything that a converter can write.
        id_: String, number or None.
        converter: Writes arguments that are no plain JSON values, such as paths and attrs classes.

    Raises:
        ActivationError: An argument cannot be written as JSON.
    """
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        message["params"] = params
    if id_ is not NOT_GIVEN:
        message["id"] = id_
    return (converter or Converter()).encode(message)


def parse_from_server(data: bytes | str) -> Sequence[FromServer]:
    """Read one message from a server: one item, or those of a batch's answer.

    Raises:
        ParseError: It is no JSON-RPC 2.0 message that a server sends.
    """
    if isinstance(data, bytes) and data.startswith(b'{"jsonrpc":"2.0","method":"subscription"'):
        # The message that comes by the thousand; digits beyond 64 bit need the exact way below.
        event = _quick_event(data)
        if event is not None:
            return (event,)
    value, _ = load(data)
    items = value if isinstance(value, list) else [value]
    return tuple(_from_server(item) for item in items)


def _quick_event(data: bytes) -> EventCame | None:
    if loses_digits(data):
        return None
    try:
        params = orjson.loads(data)["params"]
        subscription, seq, result = params["subscription"], params["seq"], params["result"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    if type(seq) is not int or type(subscription) is not str:
        return None
    return EventCame(subscription=subscription, seq=seq, result=result)


def _from_server(value: JsonValue) -> FromServer:
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise ParseError("the server's message is no JSON-RPC 2.0 object")
    if value.get("method") == "subscription":
        return _subscription(value.get("params"))
    if "error" in value:
        return Failed(id=value.get("id"), error=_error(value["error"]))
    result = value.get("result", _MISSING)
    if result is _MISSING:
        raise ParseError("the server's message is neither an answer nor an event")
    return Succeeded(id=value.get("id"), result=result)


def _subscription(params: JsonValue) -> EventCame | SubscriptionFailed:
    if not isinstance(params, dict) or not isinstance(params.get("subscription"), str):
        raise ParseError("the server's event names no subscription")
    subscription = params["subscription"]
    if "error" in params:
        return SubscriptionFailed(subscription=subscription, error=_error(params["error"]))
    seq = params.get("seq")
    if type(seq) is not int or "result" not in params:
        raise ParseError("the server's event has no number or no result")
    return EventCame(subscription=subscription, seq=seq, result=params["result"])


def _error(value: JsonValue) -> ErrorObject:
    if not isinstance(value, dict) or type(value.get("code")) is not int:
        raise ParseError("the server's error has no code")
    details = value.get("data")
    return ErrorObject(
        code=value["code"],
        message=str(value.get("message", "")),
        data=details if isinstance(details, dict) else {},
    )
