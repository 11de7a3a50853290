"""Spans of time on the command line: `90s`, `10min`, `12h`, `7d`."""

import re
from typing import Final

from clonk_core.cli.exit_codes import UsageError

_LONGEST_S: Final = 100 * 365 * 86_400
"""A hundred years: later times are more than the calendar takes."""

_UNITS_S: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> float:
    """Return a span of time in seconds.

    Raises:
        UsageError: It is none, or too long.
    """
    found = re.fullmatch(r"([0-9]{1,9})(s|min|h|d)", text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no span of time; write it as 90s, 10min, 12h or 7d")
    span_s = int(found[1]) * _UNITS_S[found[2]]
    if span_s > _LONGEST_S:
        raise UsageError(f"{text!r} is too long; a span of time has at most 36500d")
    return float(span_s)
