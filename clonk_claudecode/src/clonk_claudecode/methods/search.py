"""Methods that find what was said."""

import math
from typing import Annotated

from clonk_claudecode.errors import SessionNotFound
from clonk_claudecode.exchange.messages import SearchHit
from clonk_claudecode.exchange.query import fts_expression
from clonk_claudecode.messages import SessionName
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.store import search_rows
from clonk_claudecode.store.search_rows import Place
from clonk_core.plugin import Call, Forbidden, Ge, InvalidParams, Le, MaxLen, MinLen, NotFound, method


class SearchMethods(Methods):
    """Search the messages of all sessions."""

    @method(
        scope=("read", "chat"),
        narrows=True,
        read_only=True,
        idempotent=True,
        errors=[InvalidParams, NotFound, Forbidden],
    )
    async def search(
        self,
        call: Call,
        query: Annotated[str, MinLen(1), MaxLen(1000)],
        limit: Annotated[int, Ge(1), Le(100)] = 20,
        after: Annotated[str, MaxLen(100)] | None = None,
        name: SessionName | None = None,
    ) -> tuple[SearchHit, ...]:
        """Search what was said in all sessions that the caller may reach, the best first.

        Prompts, Claude's answers and the first 10,000 characters of what each tool gave are searched, in whole words,
        whatever their case and accents.

        Args:
            query: Words that must all be there. `"several words"` must stand together, `word*` is a beginning, `OR`
                stands between alternatives, `NOT` or `-` before what must not be there; parentheses group.
            limit: At most this many, 1 to 100.
            after: The `cursor` of the last hit of the page before.
            name: Search in this session alone.
        """
        expression = fts_expression(query)
        place = None if after is None else _place(after)
        names: list[str] | None = None
        database = self._sessions.database
        if name is not None:
            if not call.may_reach(name):
                raise SessionNotFound(name)
            names = [(await self._sessions.find(name)).name]
        elif call.is_narrowed:
            names = [one for one in await database.read(search_rows.session_names) if call.may_reach(one)]
        return tuple(await database.read(search_rows.search, expression, names, place, limit))


def _place(cursor: str) -> Place:
    rank, _, rowid = cursor.partition(":")
    try:
        place = Place(float(rank), int(rowid))
    except ValueError as error:
        raise InvalidParams("is no `cursor` of a hit", path="$.after") from error
    if not (math.isfinite(place.rank) and 0 < place.rowid < 2**63):
        raise InvalidParams("is no `cursor` of a hit", path="$.after")
    return place
