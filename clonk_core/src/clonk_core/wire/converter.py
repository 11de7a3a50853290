"""The strict converter: JSON values to typed arguments and typed results to JSON bytes. Nothing is coerced."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from clonk_core.errors import InvalidParams
from clonk_core.messages import JsonValue
from clonk_core.methods import Method
from clonk_core.wire.decoding import Decoders
from clonk_core.wire.encoding import Encoder
from clonk_core.wire.misfit import MAX_PROBLEMS, Misfit, below, member_path, unknown_name

_MISSING: Final = object()


@attrs.frozen(kw_only=True)
class _Parameter:
    name: str
    decode: Callable[[Any], Any]
    required: bool


@attrs.frozen(kw_only=True)
class _Plan:
    """How one method's arguments are decoded, made once."""

    method: Method
    parameters: tuple[_Parameter, ...]
    names: frozenset[str]


class Converter:
    """Decodes arguments and encodes results. What it makes for a type is kept as long as the converter lives."""

    def __init__(self) -> None:
        self._decoders = Decoders()
        self._encoder = Encoder()
        self._plans: dict[str, _Plan] = {}
        # As attributes and not as methods: one call less on the way of every event.
        self.encode = self._encoder.encode
        self.unstructure = self._encoder.unstructure

    def decode_arguments(
        self, method: Method, params: Mapping[str, JsonValue] | Sequence[JsonValue] | None
    ) -> dict[str, Any]:
        """Return the arguments to call the method with, by name; those left out are left out, their defaults hold.

        Args:
            method: Whose signature rules.
            params: Named or positional, as they came.

        Raises:
            InvalidParams: The first problem, with its path; up to ten more are in `data.problems`.
        """
        plan = self._plans.get(method.name)
        if plan is None or plan.method is not method:
            plan = self._plan(method)
        if params is None:
            params = {}
        elif not isinstance(params, Mapping):
            params = _by_name(plan, params)
        arguments: dict[str, Any] = {}
        problems: list[tuple[str, str]] = []
        given = 0
        for parameter in plan.parameters:
            value = params.get(parameter.name, _MISSING)
            if value is _MISSING:
                if parameter.required:
                    problems.append((f".{parameter.name}", "required field missing"))
                continue
            given += 1
            try:
                arguments[parameter.name] = parameter.decode(value)
            except Misfit as misfit:
                problems.extend(below(f".{parameter.name}", misfit))
        if given < len(params):
            problems[:0] = _unknown_names(params, plan.names)
        if problems:
            raise _invalid(problems, method.name)
        return arguments

    def decode(self, annotation: Any, value: JsonValue) -> Any:
        """Return the JSON value as the annotated type.

        Raises:
            InvalidParams: It does not fit, with the path.
        """
        try:
            return self._decoders.decoder(annotation)(value)
        except Misfit as misfit:
            raise _invalid(misfit.problems, None) from None

    def _plan(self, method: Method) -> _Plan:
        parameters = tuple(
            _Parameter(name=item.name, decode=self._decoders.decoder(item.annotation), required=item.required)
            for item in method.parameters
        )
        plan = _Plan(method=method, parameters=parameters, names=frozenset(item.name for item in parameters))
        self._plans[method.name] = plan
        return plan


def _by_name(plan: _Plan, values: Sequence[JsonValue]) -> dict[str, JsonValue]:
    """Name positional arguments in the order of the signature."""
    if len(values) > len(plan.parameters):
        takes = len(plan.parameters)
        text = f"too many arguments: {len(values)} were given, the method takes {takes}"
        raise InvalidParams(text, path=f"$[{takes}]", method=plan.method.name)
    return {parameter.name: value for parameter, value in zip(plan.parameters, values, strict=False)}


def _unknown_names(params: Mapping[str, JsonValue], known: frozenset[str]) -> list[tuple[str, str]]:
    """Return a problem for each argument that the method has no parameter for."""
    unknown = [name for name in params if name not in known]
    return [(member_path(name), unknown_name(name, known)) for name in unknown[:MAX_PROBLEMS]]


def _invalid(problems: Sequence[tuple[str, str]], method: str | None) -> InvalidParams:
    """Return the error for the first problem, which carries the next few."""
    (path, text), *others = problems
    error = InvalidParams(text, path=f"${path}", method=method)
    if others:
        error.data["problems"] = [{"path": f"${path}", "message": text} for path, text in others[: MAX_PROBLEMS - 1]]
    return error
