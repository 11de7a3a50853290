"""Methods as the registry knows them. Apart from `messages.py`, which the plugin API loads and which needs none."""

from collections.abc import Callable
from typing import Any

import attrs

from clonk_core.errors import CallError
from clonk_core.messages import Call, Caller, JsonValue
from clonk_core.names import scope_is_narrowed


@attrs.frozen(kw_only=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        name: As in the signature.
        annotation: Its Python type, `Annotated` kept.
        required: Whether it has no default.
        default: The default; None when required.
        description: From the docstring.
    """

    name: str
    annotation: Any
    required: bool
    default: Any = None
    description: str = ""


@attrs.frozen(kw_only=True)
class Method:
    """One method as the registry knows it.

    Attributes:
        name: Dotted name, `claudecode.create`.
        namespace: All but the last part.
        summary: First paragraph of the docstring, on one line.
        description: The whole prose of the docstring.
        parameters: In the order of the signature, without `self` and the `Call`.
        call_parameter: Name of the parameter that takes the `Call`, if any.
        result: Python type of the result, or of one event of a streaming method.
        scope: What a caller must hold, `claudecode:create`.
        also_scopes: Further scopes, any of which does instead.
        target: Name of the parameter that says what the call is about, None for none.
        narrows: Whether it shows a caller with narrowed scopes only what those cover, by itself.
        streaming: Whether it answers with a run.
        durable: Whether its run goes on without a reader and is kept.
        hands_on: Whether it is streaming by handing on an existing run (`rpc.resume`).
        public: Whether it needs no scope at all.
        anonymous: Whether it may be called before the caller has said who it is.
        read_only, destructive, idempotent: Hints for clients.
        idempotency_key: Name of the parameter by which a repeated request is known, None for none.
        deadline_s: Longest time a call may take, None for the server's default.
        errors: Errors of its own that it declares.
        params_schema: JSON Schema of the parameters as one object.
        result_schema: JSON Schema of the result; of one event for a streaming method.
        hash: First 16 hex digits of SHA-256 over the canonical JSON of its contract.
        admit: Refuses calls on the activation's own account; None when it refuses none.
        function: The bound function.
    """

    name: str
    namespace: str
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    call_parameter: str | None
    result: Any
    scope: str
    also_scopes: tuple[str, ...] = ()
    target: str | None = None
    narrows: bool = False
    streaming: bool = False
    durable: bool = False
    hands_on: bool = False
    public: bool = False
    anonymous: bool = False
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    idempotency_key: str | None = None
    deadline_s: float | None = None
    errors: tuple[type[CallError], ...] = ()
    params_schema: JsonValue = attrs.field(factory=dict, repr=False)
    result_schema: JsonValue = attrs.field(factory=dict, repr=False)
    hash: str = ""
    admit: Callable[[Call], None] | None = attrs.field(default=None, repr=False)
    function: Callable[..., Any] = attrs.field(repr=False)

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every scope that is enough."""
        return (self.scope, *self.also_scopes)

    def may_be_called_by(self, caller: Caller) -> bool:
        """Tell whether a caller may call it, at least for some targets."""
        if caller.kind == "stranger":
            return self.anonymous
        if self.public or any(caller.may(scope) for scope in self.scopes):
            return True
        if self.target is None and not self.narrows:
            return False
        return any(scope_is_narrowed(caller.scopes, scope) for scope in self.scopes)


def reach_of(caller: Caller, method: Method) -> Callable[[str], bool] | None:
    """Return what tells which targets of a method a caller may reach; None for all."""
    if method.public or any(caller.may(scope) for scope in method.scopes):
        return None
    return lambda target: any(caller.may(scope, target) for scope in method.scopes)
