"""A method's function to a neutral description: its parameters, its result or events, and its prose."""

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from clonk_core.errors import CallError, SchemaError
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Call, Done, JsonValue
from clonk_core.methods import Parameter
from clonk_core.names import SCOPE_VERB
from clonk_core.plugin import Activation, MethodOptions
from clonk_core.schema.annotations import TypeInspector, resolved_hints
from clonk_core.schema.defaults import default_as_json
from clonk_core.schema.docstrings import read_docstring
from clonk_core.schema.tree import (
    NO_DEFAULT,
    AnyValue,
    Choice,
    Member,
    Null,
    Numeric,
    ObjectType,
    OneOf,
    Reference,
    Text,
    Type,
)


@attrs.frozen(kw_only=True)
class Signature:
    """What a method takes and gives.

    Attributes:
        summary, description: First paragraph and whole prose of the docstring.
        parameters: As Python sees them, for decoding.
        members: As JSON sees them, in the same order.
        call_parameter: Name of the parameter that takes the `Call`, if any.
        annotation: Python type of the result, or of one event.
        result: What is answered; one event, with those of the host, for a streaming method.
        definitions: The objects that `members` and `result` refer to.
        streaming: Whether it answers with a run.
        hands_on: Whether that run exists already.
    """

    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    members: tuple[Member, ...]
    call_parameter: str | None
    annotation: Any
    result: Type
    definitions: Mapping[str, ObjectType]
    streaming: bool
    hands_on: bool


def inspect_method(
    activation: Activation, attribute_name: str, function: Callable[..., Any], options: MethodOptions
) -> Signature:
    """Describe one method of an activation.

    Args:
        activation: Whose method it is; its namespace names the place in errors.
        attribute_name: Name of the method.
        function: The plain function, `self` included.
        options: What the decorator was told.

    Raises:
        SchemaError: The signature has no schema, or the options do not go together with it.
    """
    place = f"{activation.namespace}.{attribute_name}"
    generates = inspect.isasyncgenfunction(function)
    if not generates and not inspect.iscoroutinefunction(function):
        raise SchemaError(place, "a method is `async def`")
    hints = resolved_hints(function, place)
    if "return" not in hints:
        raise SchemaError(place, "the return annotation is missing; write `-> None` when there is no result")
    prose = read_docstring(inspect.getdoc(function), place)
    if not prose.summary:
        raise SchemaError(place, "the docstring is missing: its first paragraph is what users see")
    inspector = TypeInspector()
    call_parameter, parameters, members = _parameters(function, hints, inspector, prose.members, place)
    inspector.for_results = True
    annotation, result = _result(hints["return"], inspector, f"{place} -> result", generates=generates)
    hands_on = annotation is Following
    # A coroutine that returns the iterator may refuse before the run begins; one that yields is the run from the start.
    streaming = generates or hands_on or _iterates(hints["return"])
    _check_options(options, place, streaming=streaming)
    _check_target(options, parameters, place)
    _check_idempotency_key(options, members, place)
    return Signature(
        summary=prose.summary,
        description=prose.prose,
        parameters=parameters,
        members=members,
        call_parameter=call_parameter,
        annotation=JsonValue if hands_on else annotation,
        result=result,
        definitions=inspector.definitions,
        streaming=streaming,
        hands_on=hands_on,
    )


# ── parameters ───────────────────────────────────────────────────────────────


def _parameters(
    function: Callable[..., Any],
    hints: Mapping[str, Any],
    inspector: TypeInspector,
    texts: Mapping[str, str],
    place: str,
) -> tuple[str | None, tuple[Parameter, ...], tuple[Member, ...]]:
    call_parameter: str | None = None
    parameters: list[Parameter] = []
    members: list[Member] = []
    found = list(inspect.signature(function).parameters.values())
    if not found or found[0].kind not in (found[0].POSITIONAL_ONLY, found[0].POSITIONAL_OR_KEYWORD):
        raise SchemaError(place, "a method takes `self` first")
    for item in found[1:]:
        here = f"{place}({item.name})"
        _check_parameter(item, hints, here)
        annotation = hints[item.name]
        if annotation is Call:
            if call_parameter is not None:
                raise SchemaError(here, f"there is one call; {call_parameter!r} takes it already")
            call_parameter = item.name
            continue
        described = inspector.describe(annotation, here)
        required = item.default is item.empty
        default = NO_DEFAULT if required else default_as_json(described, item.default, inspector.definitions, here)
        text = texts.get(item.name, "")
        members.append(Member(name=item.name, type=described, required=required, default=default, description=text))
        parameters.append(
            Parameter(
                name=item.name,
                annotation=annotation,
                required=required,
                default=None if required else item.default,
                description=text,
            )
        )
    return call_parameter, tuple(parameters), tuple(members)


def _check_parameter(item: inspect.Parameter, hints: Mapping[str, Any], place: str) -> None:
    if item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD):
        raise SchemaError(place, "*args and **kwargs have no schema; name each parameter")
    if item.kind is item.POSITIONAL_ONLY:
        raise SchemaError(place, "a positional-only parameter cannot be named by callers; leave out the `/`")
    if item.name.startswith("_"):
        raise SchemaError(place, "a name on the wire does not begin with `_`")
    if item.name not in hints:
        raise SchemaError(place, "the annotation is missing")


# ── result and events ────────────────────────────────────────────────────────


def _result(annotation: Any, inspector: TypeInspector, place: str, *, generates: bool) -> tuple[Any, Type]:
    """Return the Python type of the result or of one event, and its description."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    iterates = _iterates(annotation)
    if generates and not iterates:
        raise SchemaError(place, "a method that yields returns `AsyncIterator[T]`")
    if annotation is Following:
        return Following, AnyValue()
    if not iterates:
        return annotation, inspector.describe(annotation, place)
    if origin is AsyncGenerator and len(arguments) == 2 and arguments[1] not in (None, type(None)):
        raise SchemaError(place, "nothing can be sent into a stream; write `AsyncIterator[T]`")
    return arguments[0], _events(arguments[0], inspector, place)


def _iterates(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (AsyncIterator, AsyncGenerator)


PROGRESS: Final = ObjectType(
    name="Progress",
    description="How far the work is.",
    members=(
        Member(name="type", type=Choice(("progress",)), required=True),
        Member(name="done", type=Numeric(), required=True, description="How much is done."),
        Member(
            name="total",
            type=OneOf((Numeric(), Null())),
            required=False,
            default=None,
            description="How much there is; null when nobody knows.",
        ),
        Member(
            name="message",
            type=OneOf((Text(), Null())),
            required=False,
            default=None,
            description="What is being done, for a person.",
        ),
    ),
)
"""The event that `call.progress` makes."""

GAP: Final = ObjectType(
    name="Gap",
    description="Events that are no longer kept.",
    members=(
        Member(name="type", type=Choice(("gap",)), required=True),
        Member(name="from", type=Numeric(whole=True), required=True, description="Number of the first one dropped."),
        Member(name="to", type=Numeric(whole=True), required=True, description="Number of the last one dropped."),
    ),
)
"""The event that tells a reader what retention has dropped."""


def _events(annotation: Any, inspector: TypeInspector, place: str) -> Type:
    """Describe one event of a stream: the method's own, and those that the host adds."""
    own = _own_events(annotation, inspector, place)
    if isinstance(own, AnyValue):
        return own
    done = inspector.describe(Done, place)
    options = list(own.options if isinstance(own, OneOf) else (own,))
    for added in (PROGRESS, GAP):
        name = added.name
        while name in inspector.definitions:
            name += "Event"
        inspector.definitions[name] = attrs.evolve(added, name=name)
        options.append(Reference(name))
    # Done stands beside a subclass: the host writes a plain one when the method fails before its own.
    return OneOf(tuple(dict.fromkeys([*options, done])))


def _own_events(annotation: Any, inspector: TypeInspector, place: str) -> Type:
    own = inspector.describe(annotation, place)
    done_names = {
        inspector.describe(option, place).name  # type: ignore[union-attr]
        for option in (annotation, *typing.get_args(annotation))
        if isinstance(option, type) and issubclass(option, Done)
    }
    for option in own.options if isinstance(own, OneOf) else (own,):
        if not isinstance(option, Reference):
            continue
        tag = inspector.definitions[option.name].tag
        if tag in ("progress", "gap") or (tag == "done" and option.name not in done_names):
            hint = "derive it from Done" if tag == "done" else "choose another"
            raise SchemaError(place, f"{option.name} has the `type` {tag!r}, which is the host's own event; {hint}")
    return own


# ── options ──────────────────────────────────────────────────────────────────


MAX_DEADLINE_S: Final = 366 * 86_400
"""A year; the clock time of a deadline beyond the year 9999 could not be told."""


def _check_options(options: MethodOptions, place: str, *, streaming: bool) -> None:
    if options.durable and not streaming:
        raise SchemaError(place, "only a streaming method (`AsyncIterator[T]`) can be durable")
    _check_scope(options.scope, place)
    if options.deadline_s is not None and not 0 < options.deadline_s <= MAX_DEADLINE_S:
        raise SchemaError(place, f"deadline_s={options.deadline_s!r} must be more than 0 and at most {MAX_DEADLINE_S}")
    _check_errors(options.errors, place)


def _check_scope(scope: str | Sequence[str] | None, place: str) -> None:
    verbs = [] if scope is None else [scope] if isinstance(scope, str) else list(scope)
    if scope is not None and not verbs:
        raise SchemaError(place, "scope=() names no verb; leave it out for the method's own name")
    for verb in verbs:
        if not SCOPE_VERB.fullmatch(verb):
            raise SchemaError(place, f"the scope {verb!r} is no verb: lower-case letters, digits and `_`")


def _check_target(options: MethodOptions, parameters: Sequence[Parameter], place: str) -> None:
    if options.target is not None and options.target not in {parameter.name for parameter in parameters}:
        raise SchemaError(place, f"target={options.target!r} is none of the parameters")


def _check_idempotency_key(options: MethodOptions, members: Sequence[Member], place: str) -> None:
    name = options.idempotency_key
    if name is None:
        return
    if not options.durable:
        raise SchemaError(place, "only a durable method's runs are kept, by which a repeated request could be known")
    member = next((one for one in members if one.name == name), None)
    if member is None or member.required or member.default is not None:
        raise SchemaError(place, f"idempotency_key={name!r} must be a parameter with the default None")


def _check_errors(errors: Sequence[Any], place: str) -> None:
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, CallError)) or error is CallError:
            raise SchemaError(place, f"errors={error!r}: errors are subclasses of NotFound, Conflict and the like")
