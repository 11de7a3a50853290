"""A call's arguments as they may be written down: secrets masked, and short.

What is secret, the method's schema says (`writeOnly`, from `Annotated[str, Secret()]`). Arguments come as the caller
sent them, before they are checked. So for a method that takes a secret, only what fits its schema is shown: whoever
calls it with the arguments in a wrong place or shape may have put the secret there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from clonk_core.messages import JsonValue
from clonk_core.methods import Method
from clonk_core.schema.shorten import Shape, shorten

_SchemaObject = Mapping[str, Any]

_NOT_SCHEMAS: Final = frozenset({"default", "const", "enum", "examples", "$defs"})
_ANYTHING: Final[_SchemaObject] = {}
"""The schema `true`."""

_SAYS_SOMETHING: Final = frozenset({"$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf"})
"""A schema with none of these takes anything."""


class Masking:
    """Makes arguments fit to be written down. What it works out for a method is kept as long as it lives.

    Args:
        max_bytes: Most bytes of the JSON text of one call's arguments.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._plans: dict[str, _Plan] = {}

    def params(
        self, method: Method | None, params: Mapping[str, JsonValue] | Sequence[JsonValue] | None
    ) -> dict[str, JsonValue]:
        """Return the arguments as they may be written down, by name. Raises nothing.

        Args:
            method: Whose schema rules; None for a method that is not there, of which no argument is shown.
            params: Named or positional, as they came.
        """
        if not params:
            return {}
        shape: Shape | None = _NOTHING
        names: Sequence[str] = ()
        if method is not None:
            plan = self._plans.get(method.name)
            if plan is None or plan.method is not method:
                plan = self._plans[method.name] = _Plan(method)
            shape, names = plan.shape, plan.names
        if not isinstance(params, Mapping):
            params = _by_position(params, names)
            # The order of arguments is easily mistaken.
            shape = None if shape is None else _NOTHING
        short = shorten(params, self._max_bytes, shape and _Members(shape))
        return short if isinstance(short, dict) else {}


class _Plan:
    """What is known of one method.

    Attributes:
        method: Which.
        names: Of its parameters, in their order.
        shape: What may be shown of its arguments; None for a method without secrets, of which everything may.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.names = tuple(parameter.name for parameter in method.parameters)
        schemas = _Schemas(method.params_schema)
        has_secret = schemas.has_secret(method.params_schema)
        self.shape: Shape | None = schemas.shape((method.params_schema,)) if has_secret else None


@attrs.frozen
class _Members:
    """The arguments as a whole: always an object, whatever may be shown of what is in it."""

    _shape: Shape

    def shows(self, value: JsonValue) -> bool:
        return True

    def member(self, name: str) -> Shape | None:
        return self._shape.member(name)

    def item(self, index: int) -> Shape:
        return _NOTHING


class _Nothing:
    """The shape of which nothing is shown."""

    def shows(self, value: JsonValue) -> bool:
        return False

    def member(self, name: str) -> Shape:
        return self

    def item(self, index: int) -> Shape:
        return self


_NOTHING: Final = _Nothing()


class _Schemas:
    """One method's schema, and the shapes made of it, one for each set of schemas that can apply in one place."""

    def __init__(self, root: _SchemaObject) -> None:
        self._definitions: Mapping[str, Any] = root.get("$defs", {})
        self._shapes: dict[tuple[int, ...], Shape | None] = {}

    def shape(self, schemas: Iterable[Any]) -> Shape | None:
        """Return the shape where any of these schemas may apply, references and unions among them resolved."""
        found: dict[int, _SchemaObject] = {}
        for schema in schemas:
            self._resolve(schema, found)
        key = tuple(sorted(found))
        if key not in self._shapes:
            self._shapes[key] = self._make(tuple(found.values()))
        return self._shapes[key]

    def has_secret(self, schema: Any) -> bool:
        """Tell whether a schema calls anything secret, in what stands in it or in what it refers to."""
        waiting, seen = [schema], set[int]()
        while waiting:
            item = waiting.pop()
            if isinstance(item, list):
                waiting += item
            if not isinstance(item, Mapping) or id(item) in seen:
                continue
            seen.add(id(item))
            if item.get("writeOnly") is True:
                return True
            for name, value in item.items():
                if name == "properties":
                    waiting += value.values()
                elif name == "$ref":
                    waiting.append(self._referred(value))
                elif name not in _NOT_SCHEMAS:
                    waiting.append(value)
        return False

    def _referred(self, reference: str) -> Any:
        return self._definitions.get(reference.removeprefix("#/$defs/"))

    def _make(self, options: Sequence[_SchemaObject]) -> "Shape | None":
        if not options:
            return _NOTHING
        takes_anything = any(_SAYS_SOMETHING.isdisjoint(option) for option in options)
        if takes_anything and not any(map(self.has_secret, options)):
            return None
        return _SchemaShape(self, options)

    def _resolve(self, schema: Any, found: dict[int, _SchemaObject]) -> None:
        if schema is True:
            schema = _ANYTHING
        if not isinstance(schema, Mapping) or id(schema) in found:
            return
        found[id(schema)] = schema
        if "$ref" in schema:
            self._resolve(self._referred(schema["$ref"]), found)
        for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            self._resolve(option, found)
        for part in schema.get("allOf", ()):
            # A part that says nothing of a type narrows what stands beside it.
            if not _SAYS_SOMETHING.isdisjoint(part):
                self._resolve(part, found)


class _SchemaShape:
    """What may be shown where any of several schemas may apply.

    A text is masked where any of them calls it secret; whatever fits none of them is masked.
    """

    def __init__(self, schemas: _Schemas, options: Sequence[_SchemaObject]) -> None:
        self._schemas = schemas
        self._options = options
        self._members: dict[str, Shape | None] = {}
        self._kinds: set[str] = set()
        self._choices: list[JsonValue] = []
        for option in options:
            values = [*option.get("enum", ()), *([option["const"]] if "const" in option else ())]
            self._choices += values
            if not values:
                self._kinds.update(_types(option))
        if any(option.get("writeOnly") is True for option in options):
            self._kinds.discard("string")

    def shows(self, value: JsonValue) -> bool:
        kind = _kind(value)
        return kind in self._kinds or (kind == "integer" and "number" in self._kinds) or value in self._choices

    def member(self, name: str) -> Shape | None:
        if name in self._members:
            return self._members[name]
        found = [one for option in self._options for one in _member_schemas(option, name)]
        shape = self._schemas.shape(found)
        if any(name in option.get("properties", ()) for option in self._options):
            self._members[name] = shape  # of the names that callers make up there is no end
        return shape

    def item(self, index: int) -> Shape | None:
        return self._schemas.shape([one for option in self._options for one in _item_schemas(option, index)])


def _member_schemas(option: _SchemaObject, name: str) -> Iterator[Any]:
    if name in option.get("properties", ()):
        yield option["properties"][name]
    elif "additionalProperties" in option:
        yield option["additionalProperties"]


def _item_schemas(option: _SchemaObject, index: int) -> Iterator[Any]:
    places = option.get("prefixItems", ())
    if index < len(places):
        yield places[index]
    elif "items" in option:
        yield option["items"]


def _types(option: _SchemaObject) -> Sequence[str]:
    declared = option.get("type", ())
    return (declared,) if isinstance(declared, str) else declared


def _kind(value: JsonValue) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, Mapping):
        return "object"
    return "array" if isinstance(value, list | tuple) else "unknown"


def _by_position(values: Sequence[JsonValue], names: Sequence[str]) -> dict[str, JsonValue]:
    """Name arguments in the order of the signature; those that are too many by their number."""
    return {names[at] if at < len(names) else f"[{at}]": value for at, value in enumerate(values)}
