"""Times on the command line: a clock time, or how long ago."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from clonk_core.cli.exit_codes import UsageError

_AGO: Final = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str, now: datetime) -> datetime:
    """Return a time.

    Args:
        text: `2026-01-31`, `2026-01-31T09:30:00Z` (UTC where it has no zone), or how long ago: `90s`, `15m`, `2h`,
            `7d`.
        now: The clock time.

    Raises:
        UsageError: It is none of these.
    """
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no time; write 2026-01-31, 2026-01-31T09:30:00Z, or 2h for two hours ago"
        ) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
