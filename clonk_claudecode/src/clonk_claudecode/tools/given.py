"""Which tools a session has: what it was given, by whom, and what of that holds now."""

from collections.abc import Sequence
from typing import Final

import attrs

from clonk_claudecode.engine.tools import SERVER
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.settings import ToolSettings
from clonk_claudecode.tools.patterns import is_allowed, is_matched, matches
from clonk_core.plugin import Caller, Forbidden, Host, InvalidParams, JsonValue

MAX_TOOL_NAME: Final = 128 - len(f"mcp__{SERVER}__")
"""What the model's API takes as a tool's name is 128 characters."""


@attrs.frozen(kw_only=True)
class Tool:
    """A method as a tool.

    Attributes:
        name: Its name without `mcp__clonk__`: `dice_roll`.
        method: `dice.roll`.
        description: For Claude.
        input_schema: JSON Schema of its arguments.
        streaming: Whether it answers with events.
        read_only, destructive, idempotent: Hints.
        scopes: Any of which a caller needs, the usual one first; none for what needs no scope.
    """

    name: str
    method: str
    description: str
    input_schema: JsonValue
    streaming: bool
    read_only: bool
    destructive: bool
    idempotent: bool
    scopes: tuple[str, ...]


def tools_allowed(host: Host, settings: ToolSettings) -> dict[str, Tool]:
    """Return every method that may be given to sessions, by its name."""
    everyone = Caller(id="service:claudecode", kind="service", tenant=host.tenant, scopes=frozenset({"*"}))
    return {
        method.name: Tool(
            name=method.name.replace(".", "_"),
            method=method.name,
            description=method.description,
            input_schema=method.params_schema,
            streaming=method.streaming,
            read_only=method.read_only,
            destructive=method.destructive,
            idempotent=method.idempotent,
            scopes=() if method.public else method.scopes,
        )
        for method in host.hub.methods(everyone)
        if is_allowed(method.name, settings.allowed, by_name_only=method.anonymous)
        and not method.hands_on
        and len(method.name) <= MAX_TOOL_NAME
    }


def tools_of(host: Host, settings: ToolSettings, session: StoredSession) -> dict[str, Tool]:
    """Return what a session was given and the configuration still allows, by the tools' names."""
    return {
        tool.name: tool
        for tool in tools_allowed(host, settings).values()
        if is_matched(session.given_tools, tool.method)
    }


def caller_of(host: Host, session: StoredSession, tools: Sequence[Tool]) -> Caller:
    """Return who calls when a session uses a tool: its owner, with the scopes of these tools and no others."""
    owner = Caller(id=session.owner, kind="session", tenant=host.tenant, scopes=frozenset(session.tools_scopes))
    needed: set[str] = set()
    for tool in tools:
        ways = (owner.limited_to(frozenset({scope})).scopes for scope in tool.scopes)
        needed |= next((scopes for scopes in ways if scopes), frozenset())
    return owner.limited_to(frozenset(needed))


def callable_now(host: Host, session: StoredSession, tools: Sequence[Tool]) -> list[Tool]:
    """Return the tools whose methods the session's owner may call now."""
    try:
        caller = host.acting(caller_of(host, session, tools))
    except Forbidden:
        return []
    names = {method.name for method in host.hub.methods(caller)}
    return [tool for tool in tools if tool.method in names]


def check_patterns(host: Host, settings: ToolSettings, caller: Caller, patterns: Sequence[str]) -> None:
    """See that whoever wants to give these methods to a session may.

    Raises:
        InvalidParams: A pattern stands for no method.
        Forbidden: One stands for a method that the configuration does not allow, or that the caller may not call.
    """
    if not patterns:
        return
    everyone = Caller(id="service:claudecode", kind="service", tenant=host.tenant, scopes=frozenset({"*"}))
    known = [method.name for method in host.hub.methods(everyone)]
    allowed = tools_allowed(host, settings)
    callable_by_giver = {method.name for method in host.hub.methods(caller)}
    for number, pattern in enumerate(patterns):
        path = f"$.tools[{number}]"
        found = [name for name in known if matches(pattern, name)]
        if not found:
            raise InvalidParams(f"there is no method {pattern!r}; `rpc.discover` lists all", path=path)
        for name in found:
            if name not in allowed:
                text = f"{name} may not be given to sessions; the configuration (`claudecode.tools.allowed`) says which"
                raise Forbidden(f"{path}: {text}", path=path, method=name)
            if name not in callable_by_giver:
                scope = allowed[name].scopes[0]
                text = f"{name} needs the scope {scope!r}, which you do not have"
                raise Forbidden(f"{path}: {text}", path=path, method=name, scope=scope)


def giving(caller: Caller, session: StoredSession, patterns: Sequence[str]) -> dict[str, object]:
    """Return what changes of a session when somebody gives it tools, in place of those that it has.

    The tools may do no more than their giver could, and than the session's owner could. A session of an earlier
    version, which nobody owns, is its giver's from then on.
    """
    owner = session.owner or caller.id
    scopes = caller.scopes
    if caller.id != owner:
        known = session.tools_scopes if session.tools_owner == owner else ()
        scopes = caller.limited_to(frozenset(known)).scopes
    return {
        "tools": tuple(dict.fromkeys(patterns)),
        "tools_owner": owner,
        "tools_scopes": tuple(sorted(scopes)),
        "owner": owner,
    }
