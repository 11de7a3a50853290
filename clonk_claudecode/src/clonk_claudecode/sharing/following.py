"""The runs of a session, one after the other, as those who watch it are shown them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from clonk_claudecode.sharing.messages import Missed, SessionEvent
from clonk_claudecode.sharing.watching import Watch
from clonk_claudecode.store import turn_rows
from clonk_core.plugin import Caller, CallError, Database, Event, Host, InvalidParams, NotFound, Unavailable


@attrs.define(kw_only=True)
class Place:
    """Where to go on in a session's runs.

    Attributes:
        turn_id: The run to follow; None to wait for the next.
        seq: Number of its last event that is known.
        behind: The last run that is known whole; None for none at all.
    """

    turn_id: str | None = None
    seq: int = 0
    behind: str | None = None


async def place_of(database: Database, session_id: str, after: str | None, running: str | None) -> Place:
    """Return where a watching begins.

    Args:
        database: Holds the turns.
        session_id: The session.
        after: A cursor, `start`, or None for the run that answers now and what comes behind it.
        running: That run.

    Raises:
        InvalidParams: It is no place in this session's runs.
    """
    if after is None and running is not None and await database.read(turn_rows.has_turn, session_id, running):
        return Place(turn_id=running)
    if after is None:
        return Place(behind=await database.read(turn_rows.last_turn, session_id))
    if after == "start":
        return Place()
    turn_id, _, seq = after.rpartition(":")
    if not await database.read(turn_rows.has_turn, session_id, turn_id):
        raise InvalidParams("is no place in the runs of this session", path="$.after")
    return Place(turn_id=turn_id, seq=int(seq))


async def follow(host: Host, database: Database, session_id: str, place: Place, watch: Watch) -> None:
    """Put the events of a session's runs into a watch until the session is gone. Raises nothing but cancellation."""
    failure: CallError | None = Unavailable("the watching was ended by the server; watch again from the last cursor")
    try:
        await _follow(host, database, session_id, place, watch)
        failure = None
    except CallError as error:
        failure = error
    except Exception:
        host.log.exception("following a session's runs failed", session=session_id)
    finally:
        watch.finish(failure)


async def _follow(host: Host, database: Database, session_id: str, place: Place, watch: Watch) -> None:
    # The door has let the watcher in, for this session; whose prompt a run answers makes no difference.
    reader = Caller(id=host.caller.id, kind="service", tenant=host.tenant, scopes=frozenset({"*"}))
    while True:
        stirred = watch.stirred
        if place.turn_id is None:
            place = Place(
                turn_id=await database.read(turn_rows.next_turn, session_id, place.behind), behind=place.behind
            )
        if place.turn_id is None:
            if watch.is_over:
                return
            await stirred.wait()
            continue
        try:
            run = await host.hub.find_run(reader, place.turn_id)
        except NotFound:  # retention has dropped it
            await watch.put([Missed(cursor=f"{place.turn_id}:{place.seq}", subscription=place.turn_id)])
        else:
            async with run.follow(place.seq) as batches:
                async for batch in batches:
                    if watch.is_expelled:
                        return
                    await watch.put(list(_shown(place.turn_id, batch)))
        place = Place(behind=place.turn_id)


def _shown(turn_id: str, batch: Iterable[Event]) -> Iterator[SessionEvent | Missed]:
    for event in batch:
        cursor = f"{turn_id}:{event.seq}"
        payload: Any = json.loads(event.payload)
        if payload.get("type") == "gap":
            yield Missed(cursor=cursor, subscription=turn_id)
        else:
            yield SessionEvent(cursor=cursor, subscription=turn_id, event=payload)
