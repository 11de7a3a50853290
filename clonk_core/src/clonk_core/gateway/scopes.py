"""May they: the scopes that a method declares against those that a caller holds."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from clonk_core.errors import Forbidden, Unauthenticated
from clonk_core.messages import Caller, JsonValue
from clonk_core.methods import Method
from clonk_core.names import scope_is_narrowed

HOW_TO_PROVE: Final = (
    "say who you are: send the header `Authorization: Bearer <API key or token>`, or on a WebSocket call "
    "auth.authenticate first"
)


def check_scope(caller: Caller, method: Method, params: JsonValue) -> None:
    """Let the caller through, or not.

    Args:
        caller: Who calls.
        method: What.
        params: The arguments as they came, for scopes that are narrowed to some targets.

    Raises:
        Unauthenticated: A stranger may not call it.
        Forbidden: A scope is missing; `data.scope` names it.
    """
    if caller.kind == "stranger":
        if not method.anonymous:
            raise Unauthenticated(HOW_TO_PROVE)
        return
    if method.public or caller.may(method.scope) or any(caller.may(scope) for scope in method.also_scopes):
        return
    narrowed = [scope for scope in method.scopes if scope_is_narrowed(caller.scopes, scope)]
    if narrowed and method.narrows:
        return  # the method looks at each target itself
    if narrowed and method.target is not None:
        target = target_of(method, params)
        if target is not None and any(caller.may(scope, target) for scope in narrowed):
            return
        text = f"{method.name} needs the scope {method.scope!r} for this {method.target}"
        raise Forbidden(text, scope=method.scope, method=method.name)
    raise Forbidden(f"{method.name} needs the scope {method.scope!r}", scope=method.scope, method=method.name)


def target_of(method: Method, params: JsonValue) -> str | None:
    """Return what a call is about, as its arguments say; None when they do not, or not as a string.

    Paths are resolved, so that `ci-1/../../secret` is not taken for something below `ci-*`.
    """
    if method.target is None:
        return None
    value: Any = None
    position = next(index for index, one in enumerate(method.parameters) if one.name == method.target)
    if isinstance(params, Mapping):
        value = params.get(method.target)
    elif isinstance(params, Sequence) and position < len(params):
        value = params[position]
    if not isinstance(value, str) or "\0" in value:
        return None
    annotation = method.parameters[position].annotation
    if annotation is Path or Path in get_args(annotation):
        return os.path.realpath(os.path.expanduser(value))  # noqa: PTH111  (pathlib's resolve may raise)
    return value
