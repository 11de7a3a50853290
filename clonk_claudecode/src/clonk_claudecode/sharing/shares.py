"""Keys that are given out for one session, and taken back with it."""

import contextlib
from datetime import timedelta
from typing import Any, Final, Literal

import attrs

from clonk_claudecode.clock import now
from clonk_claudecode.errors import SessionNotFound
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.sessions import Sessions
from clonk_claudecode.sharing.messages import NewShare, Share
from clonk_claudecode.store import share_rows
from clonk_core.plugin import Caller, CallError, Conflict, Forbidden, NotFound, new_id

VERBS: Final[dict[str, tuple[str, ...]]] = {"read": ("read",), "chat": ("read", "chat")}
"""What each access may do."""

MAX_GOOD: Final = 100
"""Tokens of one session that are good at the same time: what a person can look after."""


async def give_out(
    sessions: Sessions, caller: Caller, session: StoredSession, access: Literal["read", "chat"], lifetime_s: float
) -> NewShare:
    """Make a key that is good for one session alone.

    Raises:
        Forbidden: It would do more than the caller may.
        Conflict: The session has as many as it may have.
        SessionNotFound: The session was deleted meanwhile.
    """
    for verb in VERBS[access]:
        if not caller.may(f"claudecode:{verb}", session.name):
            raise Forbidden(
                f"you may not give out what you may not do: 'claudecode:{verb}'", scope=f"claudecode:{verb}"
            )
    moment = now()
    share = Share(
        id=new_id("share"),
        access=access,
        created_by=caller.id,
        created_at=moment,
        expires_at=moment + timedelta(seconds=lifetime_s),
    )
    # Noted first, so that a key is never there of which the session does not know.
    try:
        is_noted = await sessions.database.run(share_rows.add_share, session.id, share, MAX_GOOD)
    except share_rows.TooManySharesError:
        raise Conflict(
            f"the session has {MAX_GOOD} tokens that are good; take some back with `claudecode.unshare`",
            name=session.name,
        ) from None
    if not is_noted:
        raise SessionNotFound(session.name)
    try:
        made: Any = await sessions.host.call(
            "keys.create",
            id=share.id,
            scopes=[f"claudecode:{verb}@{session.name}" for verb in VERBS[access]],
            description=f"share of the session {session.name}",
            expires_at=share.expires_at.isoformat(),
        )
    except CallError:  # such as a key that ends before the share would
        await sessions.database.run(share_rows.forget_share, share.id)
        raise
    return NewShare(**attrs.asdict(share), token=made["key"])


async def take_back(sessions: Sessions, caller: Caller, share: Share) -> None:
    """Take a key back for good."""
    # Whoever may change the session may take back what was given out for it, also where it can do more than they.
    keeper = attrs.evolve(caller, tenant=sessions.host.tenant, scopes=frozenset({"*"}))
    with contextlib.suppress(NotFound):  # a crash came between the note and the key
        await sessions.host.hub.keys.revoke(keeper, share.id)
    await sessions.database.run(share_rows.revoke_share, share.id, now())


async def revoke_all(sessions: Sessions, caller: Caller, session: StoredSession) -> None:
    """Take back every key that was given out for a session."""
    for share in await sessions.database.read(share_rows.open_shares, session.id):
        await take_back(sessions, caller, share)
