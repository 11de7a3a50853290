"""What is shown to those who watch a session, and what is given to those it is shared with."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import attrs

from clonk_core.plugin import Done, JsonValue, MaxLen, Pattern, Secret

Cursor = Annotated[
    str, MaxLen(100), Pattern(r"start|[A-Za-z0-9_-]+:[0-9]{1,18}", "`start`, or a `cursor` of this session's events")
]
"""A place in a session's events: the run, a colon, the number of the event that was seen last."""


@attrs.frozen(kw_only=True)
class Watcher:
    """Somebody who watches.

    Attributes:
        id: Names this watching (`watch_...`); one caller may watch more than once.
        caller: Who it is: a key's id, a user, `local`.
        may_prompt: Whether it may prompt the session too.
        since: When it began.
    """

    id: str
    caller: str
    may_prompt: bool
    since: datetime


@attrs.frozen(kw_only=True)
class Attached:
    """The first event: from here on the session's events are shown.

    Attributes:
        session: The session's name.
        watch_id: Names this watching.
        watchers: Who watches now, this one included.
        subscription: The run that answers now; null when none does.
    """

    type: Literal["attached"] = "attached"
    session: str
    watch_id: str
    watchers: tuple[Watcher, ...]
    subscription: str | None


@attrs.frozen(kw_only=True)
class SessionEvent:
    """One event of one of the session's runs, as whoever sent the prompt sees it.

    Attributes:
        cursor: Its place; `after` goes on behind it.
        subscription: The run.
        event: The event, told apart by its `type`, as `claudecode.chat` gives it.
    """

    type: Literal["session_event"] = "session_event"
    cursor: str
    subscription: str
    event: JsonValue


@attrs.frozen(kw_only=True)
class Missed:
    """Events that are kept no more; `claudecode.history` has the messages.

    Attributes:
        cursor: The place of the last one that is missing.
        subscription: The run they belonged to.
    """

    type: Literal["missed"] = "missed"
    cursor: str
    subscription: str


@attrs.frozen(kw_only=True)
class Presence:
    """Somebody began to watch, or stopped.

    Attributes:
        change: What happened.
        watcher: Who it was.
        watchers: Who watches now.
    """

    type: Literal["presence"] = "presence"
    change: Literal["joined", "left"]
    watcher: Watcher
    watchers: tuple[Watcher, ...]


@attrs.frozen(kw_only=True)
class SessionChanged:
    """The session itself was changed.

    Attributes:
        change: What happened to it.
        session: Its name now.
    """

    type: Literal["session_changed"] = "session_changed"
    change: Literal["updated", "archived", "restored", "rewound"]
    session: str


@attrs.frozen(kw_only=True)
class WatchDone(Done):
    """The last event.

    Attributes:
        outcome: `complete` when the session was deleted, `cancelled` when the watching was stopped.
        error: What went wrong, if anything did.
    """


WatchEvent: TypeAlias = Attached | SessionEvent | Missed | Presence | SessionChanged | WatchDone


@attrs.frozen(kw_only=True)
class Share:
    """A key that was given out for one session.

    Attributes:
        id: The key's id; audit rows and runs name its holder by it.
        access: `read` may look and watch, `chat` may prompt, stop and answer questions too.
        created_by: Who gave it out.
        created_at: When.
        expires_at: When it stops working.
        revoked_at: When it was taken back; null while it was not.
    """

    id: str
    access: Literal["read", "chat"]
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


@attrs.frozen(kw_only=True)
class NewShare(Share):
    """A share, with its token.

    Attributes:
        token: To be presented as an API key: `Authorization: Bearer <token>`. It is shown this once.
    """

    token: Annotated[str, Secret()]
