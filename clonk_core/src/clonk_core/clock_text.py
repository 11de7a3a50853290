"""Clock times as they are stored and shown."""

from datetime import UTC, datetime


def clock_text(moment: datetime) -> str:
    """Return a clock time as text: RFC 3339, UTC with milliseconds, so that the order of texts is that of times.

    For example `2026-01-31T09:30:00.000Z`.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"
