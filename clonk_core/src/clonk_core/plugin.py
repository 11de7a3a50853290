"""The public API for plugin authors. Everything an activation needs comes from here.

Importing it costs attrs, pluggy and the standard library: no server, no database, no Claude library.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

import attrs

from clonk_core.errors import (
    ActivationError,
    CallCancelled,
    CallError,
    Conflict,
    ConstraintViolation,
    DeadlineExceeded,
    Forbidden,
    InvalidParams,
    NotFound,
    RateLimited,
    ServerRestarted,
    StorageFull,
    TooLarge,
    Unavailable,
)
from clonk_core.hookspecs import hookimpl, hookspec
from clonk_core.ids import new_id
from clonk_core.interfaces.host import Host, Log, SettingOrigin
from clonk_core.interfaces.hub import PluginStatus, RunSummary
from clonk_core.interfaces.metrics import Counter, Gauge, Histogram, PluginMetrics
from clonk_core.interfaces.runs import Following, Run
from clonk_core.interfaces.storage import Database, Transaction
from clonk_core.messages import (
    Call,
    Caller,
    Done,
    ErrorObject,
    Event,
    Identity,
    JsonValue,
    Outcome,
    StopReason,
    Written,
)

if TYPE_CHECKING:
    from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen

__all__ = [
    "Activation",
    "ActivationError",
    "Call",
    "CallCancelled",
    "CallError",
    "Caller",
    "Check",
    "CheckResult",
    "Command",
    "Conflict",
    "ConstraintViolation",
    "Counter",
    "Database",
    "DeadlineExceeded",
    "Done",
    "ErrorObject",
    "Event",
    "Following",
    "Forbidden",
    "Gauge",
    "Ge",
    "Gt",
    "Histogram",
    "Host",
    "Identity",
    "InvalidParams",
    "JsonValue",
    "Le",
    "Log",
    "Lt",
    "MaxLen",
    "MethodOptions",
    "MinLen",
    "NotFound",
    "Outcome",
    "Pattern",
    "PluginMetrics",
    "PluginStatus",
    "RateLimited",
    "Run",
    "RunSummary",
    "Secret",
    "ServerRestarted",
    "SettingOrigin",
    "StopReason",
    "StorageFull",
    "TooLarge",
    "Transaction",
    "Unavailable",
    "Written",
    "hookimpl",
    "hookspec",
    "method",
    "new_id",
]

_BOUNDS: Final = frozenset({"Ge", "Gt", "Le", "Lt", "MaxLen", "MinLen"})


def __getattr__(name: str) -> Any:
    """Import the bounds of `annotated_types` when one is asked for: they would be a fifth of this module's import."""
    if name not in _BOUNDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import annotated_types

    return getattr(annotated_types, name)


F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class Pattern:
    """Bound on a string: `Annotated[str, Pattern("[a-z]+")]`.

    Attributes:
        regex: The whole string must match; the dialect that Python's `re` and ECMA 262 share.
        says: What is allowed, in words, for the error message.
    """

    regex: str
    says: str = ""


@attrs.frozen
class Secret:
    """Marks a string that nobody else may read: `Annotated[str, Secret()]`.

    It is masked in the audit log, and in the schema it is `writeOnly` with the format `password`. In a result it marks
    what is shown once.
    """


@attrs.frozen(kw_only=True)
class MethodOptions:
    """What `method` was told; see there."""

    scope: str | Sequence[str] | None = None
    target: str | None = None
    narrows: bool = False
    durable: bool = False
    public: bool = False
    anonymous: bool = False
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    idempotency_key: str | None = None
    deadline_s: float | None = None
    errors: tuple[type[CallError], ...] = ()


def method(
    *,
    scope: str | Sequence[str] | None = None,
    target: str | None = None,
    narrows: bool = False,
    durable: bool = False,
    public: bool = False,
    anonymous: bool = False,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
    idempotency_key: str | None = None,
    deadline_s: float | None = None,
    errors: Sequence[type[CallError]] = (),
) -> Callable[[F], F]:
    """Offer an async method of an `Activation` to callers. Its signature is its schema, its docstring its help.

    It is called what the function is called; a keyword of Python's is written with a `_` behind it: `import_` is
    offered as `import`.

    Args:
        scope: Verb that a key must hold (`read` for `dice:read`); the method's own name when None. Of several, any one
            is enough: `("read", "chat")`.
        target: Name of the parameter that says what the call is about, such as a session's name. Keys can be narrowed
            to targets by a pattern (`dice:roll@red-*`), and the audit log shows it.
        narrows: The method itself shows a caller only what `call.may_reach(target)` allows: for lists, and
            where the target is not among the parameters. A method with neither `target` nor `narrows` cannot be called
            with a key that is narrowed.
        durable: A streaming method whose run goes on without a reader, is kept and can be resumed.
        public: Callable without any scope, by every caller that is known.
        anonymous: Callable also before the caller has said who it is; includes `public`.
        read_only: Hint: changes nothing.
        destructive: Hint: may delete or overwrite.
        idempotent: Hint: calling it twice does what calling it once does.
        idempotency_key: Name of the parameter, a string or null, by which a durable streaming method knows a request
            that is repeated: the same key by the same caller with the same other arguments is answered with the run
            that the first one has started, as long as that is kept; with other arguments it is a `conflict`. The
            host does all of it; the method may leave the argument alone.
        deadline_s: Longest time a call may take, in seconds; None for the server's `call_deadline_s` for plain methods
            and no limit for streaming ones.
        errors: Errors of the activation's own that it may answer with.
    """
    options = MethodOptions(
        scope=scope if scope is None or isinstance(scope, str) else tuple(scope),
        target=target,
        narrows=narrows,
        durable=durable,
        public=public or anonymous,
        anonymous=anonymous,
        read_only=read_only,
        destructive=destructive,
        idempotent=idempotent,
        idempotency_key=idempotency_key,
        deadline_s=deadline_s,
        errors=tuple(errors),
    )

    def mark(function: F) -> F:
        function.__clonk_method__ = options  # type: ignore[attr-defined]
        return function

    return mark


class Activation:
    """A plugin's object that offers methods under one namespace. Subclass it; one instance lives per tenant.

    Attributes:
        namespace: First part of its methods' names: lower-case letters, digits and `_`; dots nest.
        version: Version of the contract it offers.
        children: Activations nested below this one, each with a namespace that begins with this one's and a dot.
    """

    namespace: ClassVar[str]
    version: ClassVar[str] = "0"
    children: "Sequence[Activation]" = ()

    async def open(self) -> None:
        """Get ready, once, after the databases are open and before the first call. Override when there is need.

        A parent is opened before its children. What is raised here leaves the whole package out; what takes longer than
        a minute, too. Other packages may not be there yet: call them from `serve` and from methods on.
        """

    def admit(self, call: Call) -> None:
        """Look at a call of one of its methods before it is answered, and raise what it is refused with.

        Override when there is need. Beside the scopes, which the door looks at, this holds for every call: also for
        those that other activations make, and then with the caller whose call they are answering.

        Args:
            call: Who calls what.
        """

    async def serve(self, started: Callable[[], None]) -> None:
        """Work in the background until cancelled. Override when there is need.

        The host supervises it: when it raises it is started again with a growing delay; at shutdown it is cancelled
        after the calls have ended. Returning ends it for good.

        Args:
            started: To be called once, when the service works.
        """
        started()

    async def close(self) -> None:
        """Let go of what `open` took, once, after the services have ended. Override when there is need.

        Called when `open` has returned, children before their parent; what takes longer than 5 s is cancelled.
        """


@attrs.frozen(kw_only=True)
class Command:
    """One command of the command line.

    Attributes:
        name: What is typed after `clonk`.
        function: Async or plain; its signature is the command's flags and its docstring the help. Returns the exit code
            (None is 0).
    """

    name: str
    function: Callable[..., Awaitable[int | None] | int | None]


@attrs.frozen(kw_only=True)
class CheckResult:
    """What a check of `clonk doctor` found.

    Attributes:
        state: `ok`, `warning` (works, but look), `failed` (does not work).
        message: What was found, one line.
        fix: What to do about it.
    """

    state: Literal["ok", "warning", "failed"]
    message: str
    fix: str = ""


@attrs.frozen(kw_only=True)
class Check:
    """One check of `clonk doctor`.

    Attributes:
        name: What is checked, two or three words.
        function: Async, returns what it found.
    """

    name: str
    function: Callable[[], Awaitable[CheckResult]]
