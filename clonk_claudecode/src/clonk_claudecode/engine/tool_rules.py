"""The binary's syntax for rules about tools: `Bash(git *)`, `Edit`, `mcp__server__tool`.

The binary takes any text and silently does nothing with what it does not understand (seen with 2.1.330), so that a
rule with a slip in it would protect nothing. Here such a rule is an error.
"""

import re
from typing import Final

MAX_RULES: Final = 200
MAX_RULE_CHARS: Final = 1000
"""A rule is an argument of the process; a system takes about 2 MiB of them."""

_TOOL: Final = re.compile(r"(?P<name>[A-Z][A-Za-z0-9_]*)(?:\((?P<content>.*)\))?", re.DOTALL)
_MCP: Final = re.compile(r"mcp__[A-Za-z0-9_-]+\*?")


def complaint(rule: str) -> str | None:
    """Return what is wrong with a rule; None when nothing is."""
    if len(rule) > MAX_RULE_CHARS:
        return f"is longer than {MAX_RULE_CHARS} characters"
    if not rule.isprintable():
        return "must be one line of printable characters"
    if _MCP.fullmatch(rule):
        return None
    match = _TOOL.fullmatch(rule)
    if match is None:
        return (
            "must be a tool's name as Claude Code writes it (`Bash`, `Edit`), one with a pattern in parentheses "
            "(`Bash(git *)`), or `mcp__server__tool`"
        )
    content = match["content"]
    if content is None:
        return None
    if not content.strip():
        return "has nothing in its parentheses; leave them out to mean every use"
    if not _is_balanced(content):
        return "has parentheses that do not match, which Claude Code cannot read"
    return None


def _is_balanced(content: str) -> bool:
    depth = 0
    for character in content:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0
