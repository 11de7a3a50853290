"""Spans of time on the command line: `90s`, `10min`, `12h`, `7d`."""

import re
from typing import Final

from clonk_core.cli.exit_codes import UsageError

_UNITS_S: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> float:
    """Return a span of time in seconds.

    Raises:
        UsageError: It is none.
    """
    found = re.fullmatch(r"([0-9]{1,9})(s|min|h|d)", text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no span of time; write it as 90s, 10min, 12h or 7d")
    return float(int(found[1]) * _UNITS_S[found[2]])
