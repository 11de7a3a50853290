"""Structured answers are checked against their schema, in a process of its own."""

from typing import Any

import pytest
import trio

from clonk_claudecode.engine.outcome import TurnResult
from clonk_claudecode.output.structured import AT_ONCE, SchemaChecks
from clonk_core.plugin import InvalidParams


def _schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


async def test_the_place_of_what_does_not_fit_is_told() -> None:
    schema = _schema(items={"type": "array", "items": _schema(name={"type": "string"})})
    result = TurnResult(outcome="complete", output={"items": [{"name": "a"}, {"name": 5}]})
    found = await SchemaChecks().checked(result, schema)
    assert (found.outcome, found.output) == ("failed", None)
    assert found.error is not None
    assert (found.error.kind, found.error.data["path"]) == ("claudecode.output_mismatch", "$.items[1].name")
    assert found.error.data["text"] == '{"items":[{"name":"a"},{"name":5}]}'


async def test_where_the_binary_gives_no_structured_answer_its_text_is_taken_for_one() -> None:
    schema = _schema(a={"type": "integer"})
    assert (await SchemaChecks().checked(TurnResult(outcome="complete", text='{"a": 1}'), schema)).output == {"a": 1}
    for text in ("a: 1", '{"a": NaN}', '{"a": "1"}', ""):
        assert (await SchemaChecks().checked(TurnResult(outcome="complete", text=text), schema)).outcome == "failed", (
            text
        )


async def test_a_turn_that_did_not_end_well_is_left_as_it_is() -> None:
    result = TurnResult(outcome="cancelled", output={"half": True})
    assert (await SchemaChecks().checked(result, _schema())).outcome == "cancelled"
    assert (await SchemaChecks().checked(result, _schema())).output is None


async def test_a_pattern_that_would_never_end_is_given_up() -> None:
    schema = _schema(a={"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"})
    await SchemaChecks().check_schema(schema)
    found = await SchemaChecks().checked(TurnResult(outcome="complete", output={"a": "a" * 80}), schema)
    assert found.outcome == "failed"
    assert "too much time" in str(found.error)


async def test_a_schema_that_cannot_be_sent_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"properties": {"a": deep}}
    for schema in ({"type": "object", **deep}, _schema(a={"const": 2**70})):
        with pytest.raises(InvalidParams) as caught:
            await SchemaChecks().check_schema(schema)
        assert caught.value.data["path"] == "$.output_schema"


async def test_many_checks_take_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    checks, running, most = SchemaChecks(), 0, 0
    run_process = trio.run_process

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await run_process(*arguments, **options)
        finally:
            running -= 1

    monkeypatch.setattr(trio, "run_process", counted)
    async with trio.open_nursery() as nursery:
        for _ in range(3 * AT_ONCE):
            nursery.start_soon(checks.check_schema, _schema(a={"type": "string"}))
    assert most == AT_ONCE
