"""Moments as the store keeps them."""

from datetime import datetime


def clock_text(moment: datetime) -> str:
    """Return a moment as it is stored: ISO 8601 with milliseconds, which sorts as time does."""
    return moment.isoformat(timespec="milliseconds")
