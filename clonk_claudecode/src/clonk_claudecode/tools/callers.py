"""What a session's tool may do to sessions: nothing, or what it was given in so many words.

The scopes of such a caller are those of the methods that it was given, and no others of its owner's.
"""

from typing import Final

from clonk_claudecode.permissions.callers import refuse_sessions
from clonk_claudecode.tools.patterns import OF_SESSIONS
from clonk_core.plugin import Call, Caller

OF_ALL_SESSIONS: Final = frozenset({"claudecode.list", "claudecode.search"})


def refuse_ungiven(call: Call) -> None:
    """Refuse a session's tool that was given nothing of sessions, and what none can be given.

    Raises:
        Forbidden: It is such a tool.
    """
    caller = call.caller
    if caller.kind != "session":
        return
    given = _given(caller)
    if call.method not in OF_SESSIONS or not given:
        refuse_sessions(caller)
    # Of a call by way of another activation the method does not know that it must leave some out.
    if call.method in OF_ALL_SESSIONS and not call.is_narrowed and not any(caller.may(scope) for scope in given):
        refuse_sessions(caller)


def refuse_unreached(caller: Caller, session: str) -> None:
    """Refuse a session's tool that was given something of sessions, but not of this one.

    Raises:
        Forbidden: It is such a tool.
    """
    if caller.kind == "session" and not any(caller.may(scope, session) for scope in _given(caller)):
        refuse_sessions(caller)


def _given(caller: Caller) -> list[str]:
    return [scope.partition("@")[0] for scope in caller.scopes if scope.startswith("claudecode:")]
