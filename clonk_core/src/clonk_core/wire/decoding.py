"""Decoders: one function for each annotated type, made once, that turns a JSON value into the type or says why not."""

import enum
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, Union

import attrs
import cattrs
from cattrs.errors import AttributeValidationNote, ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from clonk_core.errors import ActivationError, CallError, InvalidParams
from clonk_core.messages import AnyJson
from clonk_core.wire.decoder_parts import (
    ANY,
    PLAIN,
    Decode,
    Decoder,
    array,
    bounded,
    bounds_of,
    choice,
    fixed_array,
    table,
)
from clonk_core.wire.misfit import MAX_PROBLEMS, Misfit, below, member_path, unknown_name, wrong_kind


def tag_of(annotated_class: type) -> str | None:
    """Return what the `type` member of an attrs class always is, None when it has no such member."""
    for field in attrs.fields(annotated_class):
        if field.name == "type" and typing.get_origin(field.type) is Literal:
            values = typing.get_args(field.type)
            if len(values) == 1 and type(values[0]) is str:
                return values[0]
    return None


class _Generator(cattrs.Converter):
    """Generates the code for attrs classes, with our decoder for the type of each field.

    Registered hooks would not do: for str, int, float and bool cattrs has its own ahead of them, which coerce.
    """

    def __init__(self, find: Callable[[Any], Decoder]) -> None:
        super().__init__(detailed_validation=True, forbid_extra_keys=True)
        self._find = find

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> Any:
        """Return the decoder of a field's type in the shape that cattrs calls."""
        decode = self._find(type).decode
        return lambda value, _: decode(value)


class Decoders:
    """Makes decoders and keeps them."""

    def __init__(self) -> None:
        self._made: dict[Any, Decoder] = {}
        self._generator = _Generator(self._get)

    def decoder(self, annotation: Any) -> Decode:
        """Return the function that decodes an annotated type.

        Raises:
            ActivationError: The type has no decoder.
        """
        return self._get(annotation).decode

    def _get(self, annotation: Any) -> Decoder:
        try:
            found = self._made.get(annotation)
        except TypeError:
            # Metadata that does not hash.
            return self._make(annotation)
        if found is None:
            found = self._make(annotation)
            self._made[annotation] = found
        return found

    def _make(self, annotation: Any) -> Decoder:  # noqa: PLR0911 - one for each kind of type
        plain = PLAIN.get(annotation) if isinstance(annotation, type) or annotation is None else None
        if plain is not None:
            return plain
        if isinstance(annotation, NewType):
            return self._get(annotation.__supertype__)
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            return self._annotated(arguments[0], arguments[1:])
        if origin is Literal:
            return choice([(value, value) for value in arguments])
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        if origin in (list, Sequence):
            return array(self._get(arguments[0]), lambda items: items)
        if origin is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return array(self._get(arguments[0]), tuple)
            return fixed_array([self._get(item) for item in arguments])
        if origin in (dict, Mapping):
            return table(self._get(arguments[1]))
        if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            return choice([(member.value, member) for member in annotation])
        if isinstance(annotation, type) and attrs.has(annotation):
            return self._object(annotation)
        raise ActivationError(f"the type {annotation!r} cannot be decoded")

    def _annotated(self, inner: Any, metadata: Sequence[Any]) -> Decoder:
        if any(isinstance(item, AnyJson) for item in metadata):
            return ANY
        bounds = bounds_of(metadata)
        return bounded(self._get(inner), bounds) if bounds else self._get(inner)

    def _union(self, options: Sequence[Any]) -> Decoder:
        """Decide by the JSON type, and between objects by their `type` member."""
        decoders = [self._get(option) for option in options]
        if any(not item.kinds for item in decoders):
            return ANY
        objects = [option for option in options if isinstance(option, type) and attrs.has(option)]
        by_kind: dict[type, Decode] = {}
        for item in decoders:
            for kind in sorted(item.kinds, key=lambda kind: kind is float):
                by_kind.setdefault(kind, item.decode)
        if len(objects) > 1:
            by_kind[dict] = self._tagged(objects)
        expects = " or ".join(dict.fromkeys(item.expects for item in decoders))

        def decode(value: Any) -> Any:
            chosen = by_kind.get(type(value))
            if chosen is None:
                raise wrong_kind(expects, value)
            return chosen(value)

        return Decoder(decode, frozenset(by_kind), expects)

    def _tagged(self, classes: Sequence[type]) -> Decode:
        by_tag: dict[str, Decode] = {}
        for item in classes:
            attrs.resolve_types(item)
            tag = tag_of(item)
            if tag is None:
                raise ActivationError(f"{item.__name__} needs a member `type: Literal[...]` to be told apart")
            by_tag[tag] = self._get(item).decode
        allowed = ", ".join(repr(tag) for tag in by_tag)

        def decode(value: Any) -> Any:
            tag = value.get("type")
            chosen = by_tag.get(tag) if type(tag) is str else None
            if chosen is None:
                text = "required field missing" if "type" not in value else f"expected one of {allowed}"
                raise Misfit([(".type", text)])
            return chosen(value)

        return decode

    def _object(self, annotated_class: type) -> Decoder:
        """Make the decoder of an attrs class; it may hold itself, so it is known before it is made."""
        generated: Callable[[Any, Any], Any] | None = None
        names: frozenset[str] = frozenset()
        has_tag = False

        def decode(value: Any) -> Any:
            if type(value) is not dict:
                raise wrong_kind("an object", value)
            # A tag is always sent: it tells what the rest is.
            if has_tag and "type" not in value:
                raise Misfit([(".type", "required field missing")])
            try:
                return generated(value, annotated_class)  # type: ignore[misc]
            except ClassValidationError as error:
                raise Misfit(_class_problems(error, names)[:MAX_PROBLEMS]) from None

        decoder = Decoder(decode, frozenset({dict}), "an object")
        self._made[annotated_class] = decoder
        try:
            attrs.resolve_types(annotated_class)
            has_tag = tag_of(annotated_class) is not None
            names = frozenset(field.name for field in attrs.fields(annotated_class) if field.init)
            generated = make_dict_structure_fn(
                annotated_class, self._generator, _cattrs_forbid_extra_keys=True, _cattrs_use_linecache=False
            )
        except BaseException:
            del self._made[annotated_class]
            raise
        return decoder


def _class_problems(group: ClassValidationError, names: frozenset[str]) -> list[tuple[str, str]]:
    """Turn what the generated code gathered into problems: unknown names first, they explain what is missing."""
    unknown: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for error in group.exceptions:
        notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, AttributeValidationNote)]
        step = f".{notes[0].name}" if notes else ""
        if isinstance(error, Misfit):
            others.extend(below(step, error))
        elif isinstance(error, ForbiddenExtraKeysError):
            extra = sorted(str(name) for name in error.extra_fields)
            unknown.extend((member_path(name), unknown_name(name, names)) for name in extra)
        elif isinstance(error, KeyError) and step:
            others.append((step, "required field missing"))
        elif isinstance(error, RecursionError):
            others.append((step, "nested too deeply"))
        elif isinstance(error, InvalidParams):
            others.append((step, error.detail))
        elif isinstance(error, CallError | ValueError | TypeError):
            # An attrs validator's word; its first argument is the sentence.
            others.append((step, str(error.args[0]) if error.args else type(error).__name__))
        else:
            raise error
    return unknown + others
