"""The neutral description as JSON Schema, kept to what draft 07 and 2020-12 read alike.

`$ref` is a JSON pointer into `$defs`, which both resolve; since draft 07 ignores what stands beside a `$ref`, a text or
a default goes around it (`allOf`). Arrays with a type for each place have `prefixItems` for 2020-12, and an `items`
that is true in both. No `title`, no `$schema`, no `$id`: these schemas are put into other documents.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from clonk_core.schema.signature import Signature
from clonk_core.schema.tree import (
    NO_DEFAULT,
    AnyValue,
    Array,
    Boolean,
    Choice,
    Definitions,
    FixedArray,
    Member,
    Null,
    Numeric,
    ObjectType,
    OneOf,
    Reference,
    Table,
    Text,
    Type,
)

Schema = dict[str, Any]

_PATH_PATTERN: Final = "^[^\\u0000]+$"
_UUID_PATTERN: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_DATE_PATTERN: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_DATE_TIME_PATTERN: Final = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)

_TEXT_FORMATS: Final[dict[str, Schema]] = {
    "plain": {},
    # `format` is an annotation to most readers; the pattern holds for all of them.
    "date-time": {"format": "date-time", "pattern": _DATE_TIME_PATTERN},
    "date": {"format": "date", "pattern": _DATE_PATTERN},
    "uuid": {"format": "uuid", "pattern": _UUID_PATTERN},
    "path": {"pattern": _PATH_PATTERN},
}


def params_schema(signature: Signature) -> Schema:
    """Return the schema of a method's parameters as one object; properties stand in the order of the signature."""
    renderer = Renderer(prose=True)
    schema = renderer.members(signature.members)
    return _with_definitions(schema, signature, renderer)


def result_schema(signature: Signature) -> Schema:
    """Return the schema of a method's result, or of one event."""
    renderer = Renderer(prose=True)
    return _with_definitions(renderer.type(signature.result), signature, renderer)


def _with_definitions(schema: Schema, signature: Signature, renderer: "Renderer") -> Schema:
    definitions = renderer.definitions(schema, signature.definitions)
    return {**schema, "$defs": definitions} if definitions else schema


@attrs.frozen
class Renderer:
    """Renders descriptions.

    Attributes:
        prose: Whether texts for people are part of it; without them it is the bare contract.
    """

    prose: bool

    def type(self, found: Type) -> Schema:  # noqa: PLR0911 - one for each kind of type
        """Return the schema of a type; objects are references into `#/$defs`."""
        match found:
            case AnyValue():
                return {}
            case Null():
                return {"type": "null"}
            case Boolean():
                return {"type": "boolean"}
            case Numeric():
                return _numeric(found)
            case Text():
                return _text(found)
            case Choice(values):
                return _choice(values)
            case Array():
                bounds = _present(minItems=found.min_items, maxItems=found.max_items)
                return {"type": "array", "items": self.type(found.item), **bounds}
            case FixedArray(items):
                return self._fixed_array(items)
            case Table():
                bounds = _present(minProperties=found.min_items, maxProperties=found.max_items)
                return {"type": "object", "additionalProperties": self.type(found.value), **bounds}
            case Reference(name):
                return {"$ref": f"#/$defs/{name}"}
            case OneOf(options):
                return {"anyOf": [self.type(option) for option in options]}

    def members(self, members: Iterable[Member]) -> Schema:
        """Return the schema of an object with these members and no others."""
        members = tuple(members)
        schema: Schema = {"type": "object", "properties": {member.name: self._member(member) for member in members}}
        required = [member.name for member in members if member.required]
        if required:
            schema["required"] = required
        schema["additionalProperties"] = False
        return schema

    def object(self, found: ObjectType) -> Schema:
        """Return the schema of an object type."""
        schema = self.members(found.members)
        return {"description": found.description, **schema} if self.prose and found.description else schema

    def definitions(self, schema: Schema, known: Definitions) -> dict[str, Schema]:
        """Return the schemas of all objects that a schema refers to, directly or through others."""
        rendered: dict[str, Schema] = {}
        waiting = list(references(schema))
        while waiting:
            name = waiting.pop(0)
            if name not in rendered:
                rendered[name] = self.object(known[name])
                waiting.extend(references(rendered[name]))
        return rendered

    def _member(self, member: Member) -> Schema:
        schema = self.type(member.type)
        added: Schema = {}
        if self.prose and member.description:
            added["description"] = member.description
        if member.default is not NO_DEFAULT and not _says_itself(member):
            added["default"] = member.default
        if added and "$ref" in schema:
            schema = {"allOf": [schema]}
        return {**schema, **added}

    def _fixed_array(self, items: tuple[Type, ...]) -> Schema:
        rendered = [self.type(item) for item in items]
        distinct = [schema for number, schema in enumerate(rendered) if schema not in rendered[:number]]
        schema: Schema = {"type": "array"}
        if len(distinct) > 1:
            schema["prefixItems"] = rendered
        schema["items"] = {"anyOf": distinct} if len(distinct) > 1 else distinct[0]
        return {**schema, "minItems": len(items), "maxItems": len(items)}


def references(schema: Any) -> list[str]:
    """Return the names of the definitions that a schema refers to, in the order they come."""
    found: list[str] = []

    def collect(reference: str) -> str:
        found.append(reference.removeprefix("#/$defs/"))
        return reference

    map_references(schema, collect)
    return found


def map_references(schema: Any, change: Callable[[str], str]) -> Any:
    """Return a schema with every `$ref` changed; properties that happen to have that name are left alone."""
    if isinstance(schema, list):
        return [map_references(item, change) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed: Schema = {}
    for name, value in schema.items():
        if name == "$ref":
            changed[name] = change(value)
        elif name in ("properties", "$defs"):
            changed[name] = {key: map_references(item, change) for key, item in value.items()}
        elif name in ("default", "const", "enum"):
            changed[name] = value
        else:
            changed[name] = map_references(value, change)
    return changed


def _says_itself(member: Member) -> bool:
    """Tell whether a default is the only value there is: the tag of a union."""
    return isinstance(member.type, Choice) and len(member.type.values) == 1 and member.required


def _numeric(found: Numeric) -> Schema:
    bounds = _present(
        minimum=found.minimum,
        maximum=found.maximum,
        exclusiveMinimum=found.above,
        exclusiveMaximum=found.below,
        multipleOf=found.multiple_of,
    )
    return {"type": "integer" if found.whole else "number", **bounds}


def _text(found: Text) -> Schema:
    schema: Schema = {"type": "string", **_TEXT_FORMATS[found.format]}
    schema |= _present(minLength=found.min_length, maxLength=found.max_length)
    if found.secret:
        schema |= {"format": "password", "writeOnly": True}
    # Schemas search, signatures match the whole.
    patterns = [f"^(?:{pattern})$" for pattern in found.patterns]
    if len(patterns) == 1:
        schema["pattern"] = patterns[0]
    elif patterns:
        schema["allOf"] = [{"pattern": pattern} for pattern in patterns]
    return schema


def _choice(values: tuple[Any, ...]) -> Schema:
    names = {str: "string", bool: "boolean", int: "integer", type(None): "null"}
    kinds = list(dict.fromkeys(names[type(value)] for value in values))
    schema: Schema = {"type": kinds[0] if len(kinds) == 1 else kinds}
    return {**schema, "const": values[0]} if len(values) == 1 else {**schema, "enum": list(values)}


def _present(**members: Any) -> Schema:
    return {name: value for name, value in members.items() if value is not None}
