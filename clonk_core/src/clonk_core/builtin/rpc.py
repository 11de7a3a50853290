"""`rpc`: what is there, and how to come back to a run."""

from typing import Annotated

import attrs

from clonk_core.interfaces.hub import Hub
from clonk_core.plugin import (
    Activation,
    Call,
    Following,
    Ge,
    InvalidParams,
    JsonValue,
    Le,
    MaxLen,
    NotFound,
    RunSummary,
    method,
)

Subscription = Annotated[str, MaxLen(64)]


@attrs.frozen(kw_only=True)
class Stopped:
    """A run that has ended.

    Attributes:
        subscription: Its id.
        outcome: How it ended: `cancelled`, or what it came to before it could be stopped.
        last_seq: Number of its last event, which is `done`.
    """

    subscription: str
    outcome: str
    last_seq: int


class Rpc(Activation):
    """The protocol's own methods."""

    namespace = "rpc"
    version = "1.0.0"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @method(anonymous=True, read_only=True, idempotent=True)
    async def discover(self, call: Call) -> JsonValue:
        """Return the OpenRPC document of every method the caller may call.

        What OpenRPC has no word for stands in `x-clonk-*` members. See https://spec.open-rpc.org.
        """
        return self._hub.openrpc(call.caller)

    @method(public=True, read_only=True, errors=[NotFound, InvalidParams])
    async def resume(self, call: Call, subscription: Subscription, after: Annotated[int, Ge(0)] = 0) -> Following:
        """Go on reading a run.

        Answers like the method that started it: first the same subscription, then the events that came after.

        Args:
            subscription: Id of the run, as its first answer gave it.
            after: Number of the last event that the caller has; 0 reads from the beginning.
        """
        run = await self._hub.find_run(call.caller, subscription)
        if after > run.last_seq:
            raise InvalidParams(f"the run has events 1 to {run.last_seq}, not {after}", path="$.after")
        return Following(run=run, after=after)

    @method(public=True, idempotent=True, errors=[NotFound])
    async def cancel(self, call: Call, subscription: Subscription) -> Stopped:
        """Stop a run and answer when it has stopped. A run that has ended already stays as it is.

        Args:
            subscription: Id of the run.
        """
        run = await self._hub.find_run(call.caller, subscription)
        await run.stop("cancelled")
        return Stopped(subscription=run.id, outcome=run.outcome or "cancelled", last_seq=run.last_seq)

    @method(public=True, read_only=True, idempotent=True)
    async def subscriptions(
        self, call: Call, limit: Annotated[int, Ge(1), Le(1000)] = 100, before: Subscription | None = None
    ) -> tuple[RunSummary, ...]:
        """List the caller's runs, newest first: those that run and those that are kept.

        Args:
            limit: At most this many.
            before: Only runs older than this one: the last of the page before.
        """
        return tuple(await self._hub.list_runs(call.caller, limit=limit, before=before))
