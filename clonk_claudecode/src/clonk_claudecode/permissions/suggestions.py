"""The binary's own suggestions of how not to be asked again, kept within the session."""

from collections.abc import Mapping
from typing import Any

from clonk_core.plugin import JsonValue


def session_suggestions(request: Mapping[str, Any]) -> tuple[dict[str, JsonValue], ...]:
    """Return the suggestions of a `can_use_tool` request, as they would hold for the session alone.

    For rules the binary suggests `localSettings`: a file in the workspace, which it writes and, without that source
    among `--setting-sources`, does not read (seen with 2.1.330). For the destination `session` it writes no file and
    does what it says.
    """
    suggested = request.get("permission_suggestions")
    if not isinstance(suggested, list):
        return ()
    return tuple({**update, "destination": "session"} for update in suggested if isinstance(update, dict))
