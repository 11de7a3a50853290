"""Moments, as the store keeps them."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the clock time in whole milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def clock_text(moment: datetime) -> str:
    """Return a moment as it is stored: ISO 8601 with milliseconds, which sorts as time does."""
    return moment.isoformat(timespec="milliseconds")
