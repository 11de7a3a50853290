"""Events that the host itself puts between an activation's: progress and gaps. Their JSON is written here."""

import orjson

from clonk_core.messages import Event


def progress_payload(done: float, total: float | None, message: str | None) -> bytes:
    """Return `{"type":"progress","done":..}` with `total` and `message` when they were given."""
    members: dict[str, object] = {"type": "progress", "done": done}
    if total is not None:
        members["total"] = total
    if message is not None:
        members["message"] = message
    return orjson.dumps(members)


def gap_event(first: int, last: int) -> Event:
    """Return the event that stands for events `first` to `last`, kept no more; numbered as the last of them."""
    return Event(last, orjson.dumps({"type": "gap", "from": first, "to": last}))
