"""`name=value` to arguments, as the schema wants them."""

from typing import Any

import pytest

from clonk_core.cli.arguments import parse
from clonk_core.cli.exit_codes import UsageError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "whole": {"type": "integer"},
        "number": {"type": "number"},
        "flag": {"type": "boolean"},
        "either": {"type": ["integer", "string"]},
        "list": {"type": "array", "items": {"type": "string"}},
        "thing": {"$ref": "#/$defs/Thing"},
        "color": {"enum": ["red", "5"]},
        "level": {"enum": [1, 2]},
        "any": {},
        "loop": {"$ref": "#/$defs/Loop"},
    },
    "$defs": {
        "Thing": {"type": "object", "properties": {}},
        "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"type": "string"}]},
    },
}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("text=hello", "hello"),
        ("text=5", "5"),
        ("text=true", "true"),
        ('text="quoted"', '"quoted"'),
        ("text=a=b", "a=b"),
        ("text=", ""),
        ("text:=5", 5),
        ("maybe=5", "5"),
        ("maybe=no", "no"),
        ("whole=5", 5),
        ("whole=five", "five"),
        ("whole=5.5", 5.5),
        ("number=1e3", 1000.0),
        ("number=5", 5),
        ("flag=true", True),
        ("flag=yes", "yes"),
        ("either=5", 5),
        ("either=five", "five"),
        ("either=true", "true"),
        ('list=["a"]', ["a"]),
        ("list=a", "a"),
        ('thing={"a":1}', {"a": 1}),
        ("color=5", "5"),
        ("color=red", "red"),
        ("level=1", 1),
        ("any=5", 5),
        ("any=five", "five"),
        ("any=null", None),
        ("loop=5", "5"),
        ("unknown=5", "5"),
        ("maybe:=null", None),
    ],
)
def test_a_value_is_read_as_the_schema_wants_it(argument: str, value: object) -> None:
    (read,) = parse([argument], SCHEMA).values()
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "arguments", [["hello"], ["=5"], [":=5"], ["text:=hello"], ["text=a", "text=b"], ["text=a", "text:=1"]]
)
def test_what_is_no_argument_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(arguments, SCHEMA)
