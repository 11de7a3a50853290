"""May they: the scope that a method declares against those that a caller holds."""

from clonk_core.errors import Forbidden
from clonk_core.messages import Caller, Method


def check_scope(caller: Caller, method: Method) -> None:
    """Let the caller through, or not.

    Raises:
        Forbidden: A scope is missing; `data.scope` names it.
    """
    if method.public or caller.may(method.scope):
        return
    raise Forbidden(f"{method.name} needs the scope {method.scope!r}", scope=method.scope, method=method.name)
