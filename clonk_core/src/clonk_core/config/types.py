"""Settings classes seen from outside: their fields, and what a type allows, in words."""

import re
import types
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
import attrs

from clonk_core.plugin import Pattern

_WORDS: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    datetime: "a time such as 2027-01-31T00:00:00Z",
    type(None): "null",
    Any: "anything",
}


def fields(section: type[Any]) -> "dict[str, attrs.Attribute[Any]]":
    """Return the fields of a settings class by their keys in the file, with their types resolved."""
    attrs.resolve_types(section, include_extras=True)
    return {field.alias or field.name: field for field in attrs.fields(section) if field.init}


def keys(section: type[Any]) -> dict[str, Any]:
    """Return the type of each key of a settings class."""
    return {key: field.type for key, field in fields(section).items()}


def is_section(annotation: Any) -> bool:
    """Tell whether the type is a settings class, and not a plain value."""
    return isinstance(annotation, type) and attrs.has(annotation)


def split(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the type without `Annotated`, and its bounds, grouped ones (`Interval`, `Len`) unpacked."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    inner, *metadata = get_args(annotation)
    bounds: list[Any] = []
    for item in metadata:
        bounds.extend(item if isinstance(item, annotated_types.GroupedMetadata) else [item])
    return inner, tuple(bounds)


def choices(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, and the type itself for anything else."""
    inner, _ = split(annotation)
    if get_origin(inner) in {Union, types.UnionType}:
        return get_args(inner)
    return (annotation,)


def describe(annotation: Any) -> str:
    """Return what a type allows, in words: `a whole number from 0 to 65535`."""
    inner, bounds = split(annotation)
    members = choices(inner)
    if len(members) > 1:
        return " or ".join(describe(member) for member in members)
    origin = get_origin(inner)
    if origin is Literal:
        return _either([_plain(choice) for choice in get_args(inner)])
    if origin in {tuple, list, Sequence}:
        words = f"a list of {_plural(describe(get_args(inner)[0]))}"
    elif origin is dict:
        words = f"a mapping of names to {_plural(describe(get_args(inner)[1]))}"
    elif is_section(inner):
        words = "a section with keys of its own"
    else:
        words = _WORDS.get(inner, getattr(inner, "__name__", str(inner)))
    limits = "".join(_limits_in_words(bounds))
    shape = "; ".join(_shape_in_words(bounds))
    return words + limits + (f" ({shape})" if shape else "")


def violated(value: Any, bounds: Sequence[Any]) -> bool:
    """Tell whether a value of the right type is out of its bounds."""
    return any(not _holds(value, bound) for bound in bounds)


def _holds(value: Any, bound: Any) -> bool:
    match bound:
        case annotated_types.Ge():
            return bool(value >= bound.ge)
        case annotated_types.Gt():
            return bool(value > bound.gt)
        case annotated_types.Le():
            return bool(value <= bound.le)
        case annotated_types.Lt():
            return bool(value < bound.lt)
        case annotated_types.MinLen():
            return len(value) >= bound.min_length
        case annotated_types.MaxLen():
            return len(value) <= bound.max_length
        case Pattern():
            return re.fullmatch(bound.regex, value) is not None
        case _:
            return True


def _limits_in_words(bounds: Sequence[Any]) -> Iterator[str]:
    low = next((b for b in bounds if isinstance(b, annotated_types.Ge | annotated_types.Gt)), None)
    high = next((b for b in bounds if isinstance(b, annotated_types.Le | annotated_types.Lt)), None)
    if isinstance(low, annotated_types.Ge):
        yield f" from {low.ge}"
    elif isinstance(low, annotated_types.Gt):
        yield f" above {low.gt}"
    if isinstance(high, annotated_types.Le):
        yield f"{' to' if isinstance(low, annotated_types.Ge) else ' up to'} {high.le}"
    elif isinstance(high, annotated_types.Lt):
        yield f"{',' if low else ''} below {high.lt}"


def _shape_in_words(bounds: Sequence[Any]) -> Iterator[str]:
    for bound in bounds:
        if isinstance(bound, annotated_types.MinLen):
            yield "not empty" if bound.min_length == 1 else f"at least {bound.min_length} long"
        elif isinstance(bound, annotated_types.MaxLen):
            yield f"at most {bound.max_length} long"
        elif isinstance(bound, Pattern):
            yield bound.says or f"matching {bound.regex}"


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _plain(choice: object) -> str:
    if choice is None:
        return "null"
    if isinstance(choice, bool):
        return str(choice).lower()
    # A text that YAML would take for a number needs its quotes.
    return f'"{choice}"' if isinstance(choice, str) and not choice[:1].isalpha() else str(choice)


def _plural(words: str) -> str:
    replacements = {"text": "texts", "a path": "paths", "a whole number": "whole numbers", "a number": "numbers"}
    for one, many in replacements.items():
        if words == one or words.startswith(one + " "):
            return many + words[len(one) :]
    return words.replace("a section with keys of its own", "entries with keys of their own")
