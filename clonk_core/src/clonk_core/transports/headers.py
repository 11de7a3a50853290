"""What the transports read from HTTP headers: what is sent, and which kinds of answer a client takes."""

from typing import Final

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"


def media_type(content_type: bytes) -> str:
    """Return the media type alone, in lower case, without parameters such as `charset`."""
    return content_type.decode("latin-1").split(";", 1)[0].strip().lower()


def charset(content_type: bytes) -> str:
    """Return the charset that a content type names, in lower case; `utf-8` when it names none (RFC 8259)."""
    for parameter in content_type.decode("latin-1").split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return "utf-8"


def prefers_json(accept: bytes | None) -> bool:
    """Tell whether a client wants a stream as one JSON answer: it takes JSON, and rather than `text/event-stream`.

    Without `Accept`, when both are as welcome, and when neither is, it gets the stream.
    """
    if accept is None:
        return False
    text = accept.decode("latin-1").lower()
    return _quality(text, JSON) > _quality(text, EVENT_STREAM)


def _quality(accept: str, wanted: str) -> float:
    """Return how welcome a media type is, 0 to 1: the most specific range that fits it counts (RFC 9110, 12.5.1)."""
    best_rank, best_quality = -1, 0.0
    major = wanted.split("/", 1)[0]
    for part in accept.split(","):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        rank = {wanted: 2, f"{major}/*": 1, "*/*": 0}.get(media_range, -1)
        if rank > best_rank:
            best_rank, best_quality = rank, _q_value(parameters)
    return best_quality


def _q_value(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 1.0
    return 1.0
