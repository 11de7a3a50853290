"""Calls an activation's function: arguments in, reply or run out."""

import inspect
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

from clonk_core.boundary import plugin_boundary
from clonk_core.errors import PluginError
from clonk_core.host.repeats import Repeats
from clonk_core.ids import new_id
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Call, Caller, JsonValue, Reply, StopReason
from clonk_core.methods import Method
from clonk_core.runs.book import RunBook
from clonk_core.runs.journal import RequestKey
from clonk_core.runs.producer import RunControl
from clonk_core.wire.converter import Converter


class Invoker:
    """Decodes strictly, calls, encodes. Knows nothing of scopes and limits: those are the gateway's.

    Args:
        converter: The strict converter.
        runs: Where streaming methods' runs are kept.
        current: Holds the call that runs now, for `host.caller`.
    """

    def __init__(self, converter: Converter, runs: RunBook, current: ContextVar[Call | None]) -> None:
        self._converter = converter
        self._runs = runs
        self._current = current
        self._repeats = Repeats(converter, runs)

    async def find_repeat(self, method: Method, params: JsonValue, caller: Caller) -> Following | None:
        """Return the run that an earlier request of this caller's with the same key has started.

        Raises:
            InvalidParams: The arguments do not fit.
            Conflict: The earlier request had other parameters.
        """
        if method.idempotency_key is None or not params:
            return None
        if isinstance(params, Mapping) and params.get(method.idempotency_key) is None:
            return None
        key = self._repeats.key_of(method, self._converter.decode_arguments(method, params))
        return None if key is None else await self._repeats.find(method, caller, key)

    async def invoke(
        self,
        method: Method,
        params: JsonValue,
        caller: Caller,
        call_id: str,
        *,
        target: str | None = None,
        deadline_s: float | None = None,
        reaches: Callable[[str], bool] | None = None,
    ) -> Reply | Following:
        """Call `method` for `caller`.

        Args:
            method: From the registry.
            params: Arguments as they came.
            caller: Who calls.
            call_id: Names the call in the log.
            target: What it is about, for runs.
            deadline_s: How long it may take; told to the method, enforced for runs. A plain call's limit is set by
                whoever calls this.
            reaches: Tells which targets a caller with narrowed scopes may reach; None for all.

        Raises:
            InvalidParams: The arguments do not fit.
        """
        arguments = self._converter.decode_arguments(method, params)
        if method.streaming and not method.hands_on:
            starting = partial(self._start, method, arguments, caller, call_id, target, deadline_s, reaches)
            key = self._repeats.key_of(method, arguments)
            if key is None:
                return await starting(None)
            async with self._repeats.hold(method, caller, key):
                return await self._repeats.find(method, caller, key) or await starting(key)
        call = Call(
            id=call_id, caller=caller, method=method.name, deadline_at=_deadline_at(deadline_s), reaches=reaches
        )
        token = self._current.set(call)
        try:
            with plugin_boundary():
                if method.admit is not None:
                    method.admit(call)
                value = await method.function(**_with_call(method, arguments, call))
        finally:
            self._current.reset(token)
        if method.hands_on:
            if not isinstance(value, Following):
                raise PluginError(f"{method.name} must return a Following, not {type(value).__name__}")
            return value
        return Reply(result=self._converter.encode(value))

    async def _start(
        self,
        method: Method,
        arguments: dict[str, Any],
        caller: Caller,
        call_id: str,
        target: str | None,
        deadline_s: float | None,
        reaches: Callable[[str], bool] | None,
        key: RequestKey | None,
    ) -> Following:
        """Start a run.

        A streaming method may be an async generator, or a coroutine that returns an async iterator: then what it does
        before it returns is answered as a plain call would be, and only what follows is the run.
        """
        late = _LateControl()
        call = Call(
            id=call_id,
            caller=caller,
            method=method.name,
            run_id=new_id("sub"),
            deadline_at=_deadline_at(deadline_s),
            reaches=reaches,
            report=late.report,
            add_stop_handler=late.add_stop_handler,
        )
        token = self._current.set(call)
        try:
            with plugin_boundary():
                if method.admit is not None:
                    method.admit(call)
                events = method.function(**_with_call(method, arguments, call))
                if inspect.iscoroutine(events):
                    events = await events

            def make_events(control: RunControl) -> AsyncIterator[object]:
                late.bind(control)
                return cast("AsyncIterator[object]", events)

            # The run's task inherits the context of this one, and with it the current call.
            run = await self._runs.start(
                method.name,
                caller,
                make_events,
                target=target,
                durable=method.durable,
                deadline_s=deadline_s,
                run_id=call.run_id,
                key=key,
            )
        finally:
            self._current.reset(token)
        return Following(run=run)


class _LateControl:
    """The run's control, for a `Call` that is made before the run."""

    def __init__(self) -> None:
        self._control: RunControl | None = None
        self._early: list[Callable[[StopReason], None]] = []

    def bind(self, control: RunControl) -> None:
        self._control = control
        for handler in self._early:
            control.add_stop_handler(handler)

    async def report(self, done: float, total: float | None, message: str | None) -> None:
        if self._control is not None:
            await self._control.report(done, total, message)

    def add_stop_handler(self, handler: Callable[[StopReason], None]) -> None:
        if self._control is None:
            self._early.append(handler)
        else:
            self._control.add_stop_handler(handler)


def _with_call(method: Method, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    return {**arguments, method.call_parameter: call} if method.call_parameter else arguments


def _deadline_at(deadline_s: float | None) -> float | None:
    """Return the time of day (POSIX) by which a call is stopped."""
    return None if deadline_s is None else time.time() + deadline_s
