"""Who may have a say about sessions: people and programs, never a session's own tools."""

from clonk_core.plugin import Caller, Forbidden


def refuse_sessions(caller: Caller) -> None:
    """Refuse a call that a session's own tool makes, with whatever scopes its owner has.

    Raises:
        Forbidden: It is such a call.
    """
    if caller.kind == "session":
        raise Forbidden("a tool that a session uses may not do this; whoever owns the session can")
