"""Events between packages: those who tell and those who hear do not know each other."""

from typing import Any

import attrs
import trio

from clonk_core.boundary import plugin_boundary
from clonk_core.interfaces.host import Handler, Log
from clonk_core.wire.converter import Converter

HANDLER_DEADLINE_S = 30.0
"""A handler that takes longer is cancelled: whoever emits waits for the handlers."""


@attrs.define
class _Subscriber:
    plugin: str
    handler: Handler
    as_json: bool


class EventBus:
    """Hands each event to the handlers of its class, or of its name.

    A handler subscribed by class gets the object. One subscribed by name (the event class's `name`, such as
    `claudecode.turn_ended`) gets JSON values, so that packages need not import each other.
    """

    def __init__(self, converter: Converter, log: Log) -> None:
        self._converter = converter
        self._log = log
        self._subscribers: dict[type[Any] | str, list[_Subscriber]] = {}

    def subscribe(self, plugin: str, event: type[Any] | str, handler: Handler) -> None:
        """Call `handler` for each event of this class or name."""
        self._subscribers.setdefault(event, []).append(_Subscriber(plugin, handler, isinstance(event, str)))

    def forget(self, plugin: str) -> None:
        """Drop every handler of a plugin."""
        for subscribers in self._subscribers.values():
            subscribers[:] = [one for one in subscribers if one.plugin != plugin]

    async def emit(self, event: object) -> None:
        """Tell an event to its handlers, all at the same time, and return when they have ended."""
        name = getattr(type(event), "name", None)
        keys = (type(event), name) if isinstance(name, str) else (type(event),)
        subscribers = [one for key in keys for one in self._subscribers.get(key, ())]
        if not subscribers:
            return
        values = self._converter.unstructure(event) if any(one.as_json for one in subscribers) else None
        async with trio.open_nursery() as nursery:
            for one in subscribers:
                nursery.start_soon(self._tell, one, values if one.as_json else event)

    async def _tell(self, subscriber: _Subscriber, event: object) -> None:
        try:
            with plugin_boundary(), trio.fail_after(HANDLER_DEADLINE_S):
                await subscriber.handler(event)
        except Exception:  # noqa: BLE001 - another package's code: recorded, and the rest goes on
            self._log.exception("event handler failed", plugin=subscriber.plugin, event_class=type(event).__name__)
