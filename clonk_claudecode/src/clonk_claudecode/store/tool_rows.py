"""Uses of tools."""

import json
from datetime import datetime
from typing import Final

from clonk_claudecode.clock import clock_text
from clonk_core.plugin import JsonValue, Transaction

START_TOOL: Final = """
    insert into tool_calls (session_id, tool_use_id, turn_id, tool, input, started_at)
    values (:session_id, :tool_use_id, :turn_id, :tool, :input, :now) on conflict do nothing"""
OPEN_TOOLS: Final = """
    select tool_use_id, tool, input from tool_calls
    where session_id = :session_id and turn_id = :turn_id and ended_at is null order by started_at"""
END_TOOL: Final = """
    update tool_calls set result = :result, is_error = :is_error, ended_at = :now
    where session_id = :session_id and tool_use_id = :tool_use_id"""


def start_tool(
    transaction: Transaction,
    *,
    session_id: str,
    turn_id: str,
    tool_use_id: str,
    tool: str,
    tool_input: JsonValue,
    now: datetime,
) -> None:
    """Note that a tool is used."""
    transaction.execute(
        START_TOOL,
        {
            "session_id": session_id,
            "turn_id": turn_id,
            "tool_use_id": tool_use_id,
            "tool": tool,
            "input": json.dumps(tool_input),
            "now": clock_text(now),
        },
    )


def open_tools(transaction: Transaction, session_id: str, turn_id: str) -> list[tuple[str, str, str]]:
    """Return the tool uses of a turn that have no result: id, tool and the JSON text of its arguments."""
    return [
        (row[0], row[1], row[2])
        for row in transaction.execute(OPEN_TOOLS, {"session_id": session_id, "turn_id": turn_id})
    ]


def end_tool(
    transaction: Transaction, *, session_id: str, tool_use_id: str, result: JsonValue, is_error: bool, now: datetime
) -> None:
    """Note what a tool gave."""
    transaction.execute(
        END_TOOL,
        {
            "session_id": session_id,
            "tool_use_id": tool_use_id,
            "result": json.dumps(result),
            "is_error": int(is_error),
            "now": clock_text(now),
        },
    )
