"""An answer in the form of a JSON Schema: the schema is checked before the turn, the answer after it.

Both are checked in a process of its own, for a moment: a schema comes from a caller, and its patterns and references
can keep an interpreter busy for ever, which would be the whole server.
"""

import json
import os
import sys
from collections.abc import Mapping
from subprocess import DEVNULL
from typing import Any, Final

import attrs
import orjson
import trio

from clonk_claudecode.engine.outcome import TurnResult
from clonk_claudecode.errors import OutputMismatch
from clonk_core.plugin import InvalidParams, JsonValue

MAX_SCHEMA_BYTES: Final = 64 * 1024
"""It goes to the model with every call of the turn."""

CHECK_S: Final = 20.0
"""For a check, which takes a third of a second, and at most two of the processor's; a busy machine takes longer."""

AT_ONCE: Final = 2
"""Whoever asks for many holds up those that ask for it alone, and not the machine."""

_PROGRAM: Final = "from clonk_claudecode.output.check_program import main; main()"


class SchemaChecks:
    """Checks schemas and answers, a few at a time: each may take a processor and a gigabyte for a moment."""

    def __init__(self) -> None:
        self._places = trio.CapacityLimiter(AT_ONCE)

    async def check_schema(self, schema: Mapping[str, Any]) -> None:
        """See that a schema is one, and one that the model's API takes.

        Raises:
            InvalidParams: It is not; the path says where.
        """
        try:
            size = len(orjson.dumps(schema))
        except TypeError as error:
            text = "is nested too deeply, or has a number of more than 64 bits"
            raise InvalidParams(text, path="$.output_schema") from error
        if size > MAX_SCHEMA_BYTES:
            raise InvalidParams(f"at most {MAX_SCHEMA_BYTES // 1024} KiB", path="$.output_schema")
        if schema.get("type") != "object":
            raise InvalidParams("must describe an object: `type` must be `object`", path="$.output_schema.type")
        problem = await self._check({"schema": schema})
        if problem is not None:
            raise InvalidParams(problem["message"][:500], path=f"$.output_schema{problem['path'][1:]}")

    async def checked(self, result: TurnResult, schema: Mapping[str, Any] | None) -> TurnResult:
        """Return how a turn has ended when its answer is looked at: one that does not fit the schema has failed.

        Args:
            result: As the binary gave it. Where that knows no structured answers, the text is taken for one.
            schema: What was asked for; None for nothing.
        """
        if schema is None or result.outcome != "complete":
            return attrs.evolve(result, output=None)
        output = result.output
        if output is None:
            try:
                output = orjson.loads(result.text)
            except ValueError:
                return _missed(result, OutputMismatch("it is no JSON", text=result.text))
        problem = await self._check({"schema": schema, "value": output})
        if problem is None:
            return attrs.evolve(result, output=output)
        text = orjson.dumps(output).decode()
        return _missed(result, OutputMismatch(problem["message"], problem["path"], text))

    async def _check(self, asked: JsonValue) -> dict[str, str] | None:
        """Return the first problem, None when there is none."""
        async with self._places:
            return await _run(asked)


def _missed(result: TurnResult, error: OutputMismatch) -> TurnResult:
    return attrs.evolve(result, outcome="failed", error=error, output=None)


async def _run(asked: JsonValue) -> dict[str, str] | None:
    with trio.move_on_after(CHECK_S):
        done = await trio.run_process(
            [sys.executable, "-I", "-c", _PROGRAM],
            stdin=orjson.dumps(asked),
            capture_stdout=True,
            stderr=DEVNULL,
            check=False,
            env={"PATH": os.defpath},
        )
        if done.returncode == 0:
            problem: dict[str, str] | None = json.loads(done.stdout)
            return problem
    return {"path": "$", "message": "it cannot be checked: the schema takes too much time or memory"}
