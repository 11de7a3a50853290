"""Answers in the form of a JSON Schema."""

from typing import Any

import pytest

from clonk_claudecode.testing.script import Rule, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost

SCHEMA = {
    "type": "object",
    "properties": {"names": {"type": "array", "items": {"$ref": "#/$defs/name"}}},
    "required": ["names"],
    "$defs": {"name": {"type": "string", "pattern": "^[a-z]+$"}},
}


async def _chat(hub: TestHost, prompt: str, **options: Any) -> list[Any]:
    return await hub.client.events("claudecode.chat", name="s", prompt=prompt, **options)


def _giving(prompt: str, output: Any, times: int = 1) -> Rule:
    return Rule(prompt, [ToolUse("StructuredOutput", output)] * times)


async def test_an_answer_in_the_form_asked_for_is_in_done_and_the_next_one_is_in_words_again(
    hub: TestHost, model: ScriptedModel
) -> None:
    model.add(_giving("list", {"names": ["ada", "grace"]}))
    await hub.client.call("claudecode.create", name="s")
    done = (await _chat(hub, "list", output_schema=SCHEMA))[-1]
    assert (done["outcome"], done["output"]) == ("complete", {"names": ["ada", "grace"]})
    done = (await _chat(hub, "in words"))[-1]
    assert (done["outcome"], done["output"]) == ("complete", None)
    ephemeral = (await _chat(hub, "list", output_schema=SCHEMA, ephemeral=True))[-1]
    assert ephemeral["output"] == {"names": ["ada", "grace"]}


async def test_an_answer_that_does_not_fit_is_an_error_and_no_success(hub: TestHost, model: ScriptedModel) -> None:
    model.add(_giving("wrong", {"names": ["Ada"]}, times=8))
    model.add(Rule("words", ["just words"] * 8))
    await hub.client.call("claudecode.create", name="s")
    for prompt in ("wrong", "words"):
        done = (await _chat(hub, prompt, output_schema=SCHEMA))[-1]
        assert (done["outcome"], done["error"]["data"]["kind"]) == ("failed", "claudecode.output_mismatch"), prompt
        assert done["output"] is None


NO_SCHEMAS: list[tuple[Any, str]] = [
    ({"type": "array"}, "$.output_schema.type"),
    ({}, "$.output_schema.type"),
    ({"type": "object", "properties": {"a": {"type": "integr"}}}, "$.output_schema.properties.a.type"),
    ({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/x"}}}, "$.output_schema.properties.a.$ref"),
    ({"type": "object", "properties": {"a": {"$ref": "#/$defs/no"}}}, "$.output_schema.properties.a.$ref"),
    ({"type": "object", "$schema": "https://example.org/mine"}, "$.output_schema.$schema"),
    ({"type": "object", "title": "x" * 70_000}, "$.output_schema"),
    ([1], "$.output_schema"),
]


async def test_a_schema_that_is_none_is_refused_with_its_path(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="s")
    for schema, path in NO_SCHEMAS:
        with pytest.raises(CallError) as caught:
            await _chat(hub, "hello", output_schema=schema)
        assert (caught.value.kind, caught.value.data["path"]) == ("invalid_params", path)
