"""Asks other activations for the objects that handles name, as the caller and never beyond what the caller may."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import attrs
import trio

from clonk_arbor.messages import Handle
from clonk_arbor.values import HANDLE, check_handle
from clonk_arbor.views import ObjectState
from clonk_core.plugin import Caller, CallError, Forbidden, Host, InvalidParams, JsonValue, NotFound

MAX_RESOLVED: Final = 100
"""Most handles that one context resolves, the nearest to the node first: each is a call of another activation."""

AT_THE_SAME_TIME: Final = 8

EACH_WITHIN_S: Final = 5.0
"""One object that hangs must not cost the others."""

MAX_OBJECT_BYTES: Final = 1024 * 1024
"""Largest object, as JSON."""

MAX_REASON: Final = 300

PATH: Final = f"$.content.{HANDLE}.method"


@attrs.frozen
class Resolution:
    """What became of a handle.

    Attributes:
        state: As in `ObjectEntry`.
        content: The object; None where there is none.
        size: Bytes of it as JSON; 0 where there is none.
        reason: Why there is none.
    """

    state: ObjectState
    content: JsonValue = None
    size: int = 0
    reason: str | None = None


class Resolver:
    """Resolves handles for the current caller.

    Args:
        host: Calls the others.
        caller: Who asks.
    """

    def __init__(self, host: Host, caller: Caller) -> None:
        self._host = host
        self._caller = caller
        self._callable = {method.name: method for method in host.hub.methods(caller)}

    async def resolve(self, handles: Sequence[Handle]) -> Sequence[Resolution]:
        """Return what each handle leads to, in their order."""
        found = [Resolution("unresolved", reason=f"only the {MAX_RESOLVED} nearest are resolved")] * len(handles)
        room = trio.CapacityLimiter(AT_THE_SAME_TIME)

        async def resolve(place: int, handle: Handle) -> None:
            async with room:
                found[place] = await self._resolve(handle)

        async with trio.open_nursery() as nursery:
            for place, handle in enumerate(handles[:MAX_RESOLVED]):
                nursery.start_soon(resolve, place, handle)
        return found

    async def _resolve(self, handle: Handle) -> Resolution:
        refused = self._refusal(handle)
        if refused is not None:
            return refused
        try:
            with trio.fail_after(EACH_WITHIN_S):
                value = await self._host.call(handle.method, **handle.params)
        except NotFound as error:
            return _without("missing", str(error))
        except Forbidden as error:
            return _without("forbidden", str(error))
        except CallError as error:
            return _without("failed", f"{error.kind}: {error}")
        except trio.TooSlowError:
            return _without("failed", f"took longer than {EACH_WITHIN_S:g} s")
        except Exception:
            # Another activation's call may raise anything. The path is told without it.
            self._host.log.exception("a handle was not resolved", method=handle.method)
            return _without("failed", "the activation failed; the server's log says how")
        size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
        if size > MAX_OBJECT_BYTES:
            return _without("failed", f"the object is {size} bytes of JSON, the limit is {MAX_OBJECT_BYTES}")
        return Resolution("resolved", value, size)

    def _refusal(self, handle: Handle) -> Resolution | None:
        """Return why a handle's method is not called; None when it may be."""
        method = self._callable.get(handle.method)
        if method is None:
            if self._host.has(handle.method):
                return _without("forbidden", "the caller may not call it")
            return _without("missing", f"there is no method {handle.method}")
        if method.namespace.split(".")[0] == "arbor" or method.streaming or not method.read_only:
            return _without("failed", "a handle names a plain method of another activation that only reads")
        if not self._covers(method, handle.params):
            return _without("forbidden", "the caller's scopes do not cover it")
        return None

    def _covers(self, method: Any, params: Mapping[str, JsonValue]) -> bool:
        """Tell whether the caller's scopes cover a call. The host checks none: the door is behind us."""
        if method.public or any(self._caller.may(scope) for scope in method.scopes):
            return True
        target = None if method.target is None else params.get(method.target)
        if not isinstance(target, str) or _is_path(method, method.target):
            return False
        return any(self._caller.may(scope, target) for scope in method.scopes)


def _is_path(method: Any, name: str) -> bool:
    """Tell whether a parameter is a path, of which a pattern on its text says nothing."""
    annotation = next(one.annotation for one in method.parameters if one.name == name)
    return annotation is Path or Path in get_args(annotation)


def _without(state: ObjectState, reason: str) -> Resolution:
    return Resolution(state, reason=reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + "…")


def check_resolvable(host: Host, contents: Sequence[JsonValue]) -> None:
    """Refuse a handle that can never be resolved. Whether the caller may is looked at when somebody asks.

    Raises:
        InvalidParams: Its method is not there, streams, or does more than read.
    """
    wanted = {}
    for content in contents:
        if isinstance(content, dict) and HANDLE in content:
            handle = check_handle(content, "$.content")
            wanted[handle.method] = handle
    if not wanted:
        return
    known = {method.name: method for method in host.hub.methods(host.caller)}
    for name in wanted:
        if not host.has(name):
            raise InvalidParams(f"there is no method {name!r} to resolve it; `rpc.discover` lists all", path=PATH)
        method = known.get(name)
        if method is not None and (method.streaming or not method.read_only):
            raise InvalidParams(f"{name} is no plain method that only reads", path=PATH)
