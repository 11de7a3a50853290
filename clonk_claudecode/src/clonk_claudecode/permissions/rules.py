"""Rules about tools as callers give them."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from clonk_claudecode.engine.tool_rules import MAX_RULES, complaint
from clonk_claudecode.settings import ToolRule
from clonk_core.plugin import InvalidParams, MaxLen

ToolRules: TypeAlias = Annotated[tuple[ToolRule, ...], MaxLen(MAX_RULES)]


def check_rules(rules: Sequence[str], path: str) -> None:
    """Refuse rules that Claude Code would not understand.

    Args:
        rules: What was given.
        path: Where, for the error.

    Raises:
        InvalidParams: One of them is wrong.
    """
    for place, rule in enumerate(rules):
        wrong = complaint(rule)
        if wrong is not None:
            raise InvalidParams(f"{rule!r} {wrong}", path=f"{path}[{place}]")
