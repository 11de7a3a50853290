"""Keys that were given out for one session."""

from datetime import datetime
from typing import Any, Final

from clonk_claudecode.clock import clock_text
from clonk_claudecode.sharing.messages import Share
from clonk_core.plugin import Transaction

_SHARE: Final = "id, access, created_by, created_at, expires_at, revoked_at"
INSERT_SHARE: Final = """
    insert into shares (id, session_id, access, created_by, created_at, expires_at)
    values (:id, :session_id, :access, :created_by, :created_at, :expires_at)"""
SHARES: Final = f"select {_SHARE} from shares where session_id = :session_id order by created_at desc, id limit 1000"
SHARE: Final = f"select {_SHARE} from shares where session_id = :session_id and id = :id"
OPEN_SHARES: Final = f"select {_SHARE} from shares where session_id = :session_id and revoked_at is null"
COUNT_GOOD: Final = """
    select count(*) from shares where session_id = :session_id and revoked_at is null and expires_at > :now"""
FORGET_SHARE: Final = "delete from shares where id = :id"
REVOKE_SHARE: Final = "update shares set revoked_at = :now where id = :id and revoked_at is null"


class TooManySharesError(Exception):
    """A session has as many shares that are good as it may have."""


def add_share(transaction: Transaction, session_id: str, share: Share, limit: int) -> bool:
    """Note that a key is given out; False when the session was deleted meanwhile.

    Raises:
        TooManySharesError: There are `limit` that are still good.
    """
    if transaction.one("select 1 from sessions where id = :id", {"id": session_id}) is None:
        return False
    good = transaction.one(COUNT_GOOD, {"session_id": session_id, "now": clock_text(share.created_at)})
    if good is not None and int(good[0]) >= limit:
        raise TooManySharesError
    transaction.execute(
        INSERT_SHARE,
        {
            "id": share.id,
            "session_id": session_id,
            "access": share.access,
            "created_by": share.created_by,
            "created_at": clock_text(share.created_at),
            "expires_at": clock_text(share.expires_at),
        },
    )
    return True


def shares(transaction: Transaction, session_id: str) -> list[Share]:
    """Return the latest 1,000 shares of a session, newest first."""
    return [_share(row) for row in transaction.all(SHARES, {"session_id": session_id})]


def open_shares(transaction: Transaction, session_id: str) -> list[Share]:
    """Return the shares of a session that were not taken back, those that have expired included."""
    return [_share(row) for row in transaction.all(OPEN_SHARES, {"session_id": session_id})]


def share_by_id(transaction: Transaction, session_id: str, share_id: str) -> Share | None:
    """Return one share of a session, or None."""
    row = transaction.one(SHARE, {"session_id": session_id, "id": share_id})
    return None if row is None else _share(row)


def forget_share(transaction: Transaction, share_id: str) -> None:
    """Take back the note of a key that was not made."""
    transaction.execute(FORGET_SHARE, {"id": share_id})


def revoke_share(transaction: Transaction, share_id: str, now: datetime) -> None:
    """Note that a share was taken back."""
    transaction.execute(REVOKE_SHARE, {"id": share_id, "now": clock_text(now)})


def _share(row: tuple[Any, ...]) -> Share:
    return Share(
        id=row[0],
        access=row[1],
        created_by=row[2],
        created_at=datetime.fromisoformat(row[3]),
        expires_at=datetime.fromisoformat(row[4]),
        revoked_at=None if row[5] is None else datetime.fromisoformat(row[5]),
    )
