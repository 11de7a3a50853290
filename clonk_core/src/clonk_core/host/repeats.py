"""Requests that were sent twice: the same key by the same caller is answered with the same run."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import trio

from clonk_core.errors import Conflict
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Caller
from clonk_core.methods import Method
from clonk_core.runs.book import RunBook
from clonk_core.runs.journal import RequestKey
from clonk_core.wire.converter import Converter

_Place: TypeAlias = tuple[str, str, str, str]


class Repeats:
    """Finds the run that an earlier request with the same key has started.

    Args:
        converter: Gives the JSON text of arguments.
        runs: Where runs are kept, with their keys.
    """

    def __init__(self, converter: Converter, runs: RunBook) -> None:
        self._converter = converter
        self._runs = runs
        self._held: dict[_Place, trio.Event] = {}

    def key_of(self, method: Method, arguments: Mapping[str, Any]) -> RequestKey | None:
        """Return the key that a request bears, None for none.

        What a parameter's default is makes no difference: left out or given, the request is the same.
        """
        name = method.idempotency_key
        text = None if name is None else arguments.get(name)
        if text is None:
            return None
        given = {
            one.name: arguments[one.name]
            for one in method.parameters
            if one.name != name and one.name in arguments and (one.required or arguments[one.name] != one.default)
        }
        canonical = json.dumps(json.loads(self._converter.encode(given)), sort_keys=True, separators=(",", ":"))
        return RequestKey(text=str(text), digest=hashlib.sha256(canonical.encode()).hexdigest())

    async def find(self, method: Method, caller: Caller, key: RequestKey) -> Following | None:
        """Return the run that a request with this key has started, None when there is none or it is kept no more.

        Raises:
            Conflict: It had other parameters.
        """
        found = await self._runs.find_by_key(method.name, caller, key.text)
        if found is None:
            return None
        run, digest = found
        if digest != key.digest:
            raise Conflict(
                f"{method.idempotency_key} was used before, with other parameters; a new request needs a new key",
                subscription=run.id,
            )
        return Following(run=run, repeated=True)

    @asynccontextmanager
    async def hold(self, method: Method, caller: Caller, key: RequestKey) -> AsyncIterator[None]:
        """Let one request with a key in at a time, so that of two at once the second finds the first one's run."""
        place = (caller.tenant, caller.id, method.name, key.text)
        while place in self._held:
            await self._held[place].wait()
        gone = self._held[place] = trio.Event()
        try:
            yield
        finally:
            del self._held[place]
            gone.set()
