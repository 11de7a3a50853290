"""Settings from the environment and from flags: `CLONK_SERVER__HTTP_PORT=4445`, `--http-port 4445`."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

from clonk_core.config.nodes import Node, Origin, Problem, Scalar, nearest, overlay
from clonk_core.config.types import choices, fields, is_section, keys, split

PREFIX: Final = "CLONK_"

RESERVED: Final = frozenset(
    {"CLONK_CONFIG", "CLONK_TRACE_HOOKS", "CLONK_DEBUG", "CLONK_URL", "CLONK_API_KEY", "CLONK_API_KEY_FILE"}
)
"""Names that mean something else: which file to read, switches of the command line, and what it calls a server with
(`client/key.py`)."""


def variable(path: str) -> str:
    """Return the name of the variable that sets a path: `CLONK_SERVER__HTTP_PORT` for `server.http_port`."""
    return PREFIX + "__".join(part.upper().replace("-", "_") for part in path.split("."))


def declared(top: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the paths of the variables that packages name themselves (`CLAUDE_CODE_OAUTH_TOKEN`)."""
    return {name: path for path, field in _leaves(top) if (name := field.metadata.get("env"))}


def flags(top: Mapping[str, Any]) -> dict[str, str]:
    """Return the flag of each path that has one."""
    return {".".join(path): flag for path, field in _leaves(top) if (flag := field.metadata.get("flag"))}


def overlay_environment(
    tree: Node, top: Mapping[str, Any], environ: Mapping[str, str], unchecked: frozenset[str], problems: list[Problem]
) -> Node:
    """Return `tree` with what the environment sets laid over it; an empty variable counts as not set.

    Args:
        tree: What the file says.
        top: Type of each key of the top level.
        environ: The environment.
        unchecked: Sections whose plugin is not loaded, so that nothing is known about their keys.
        problems: Takes variables that set nothing.
    """
    names = declared(top)
    # A variable of Clonk's own is nearer to the matter than another program's name for it.
    for name in sorted(environ, key=lambda name: (name not in names, name)):
        value = environ[name]
        if not value or name in RESERVED or not (name in names or name.startswith(PREFIX)):
            continue
        origin = Origin(kind="environment", name=name)
        path = names.get(name) or _resolve(name.removeprefix(PREFIX), top)
        if path is None:
            if not any(name.startswith(variable(section) + "__") for section in unchecked):
                problems.append(Problem(origin=origin, path="", message=_no_such_variable(name, top)))
            continue
        tree = overlay(tree, path, Scalar(text=value, tag="raw", origin=origin))
    return tree


def overlay_flags(tree: Node, top: Mapping[str, Any], given: Mapping[str, str]) -> Node:
    """Return `tree` with what the flags set laid over it.

    Args:
        tree: What file and environment say.
        top: Type of each key of the top level.
        given: Value by path, `{"server.http_port": "0"}`.
    """
    names = flags(top)
    for path, value in given.items():
        origin = Origin(kind="flag", name=names.get(path, "--" + path.rsplit(".", 1)[-1].replace("_", "-")))
        tree = overlay(tree, path.split("."), Scalar(text=value, tag="raw", origin=origin))
    return tree


def _resolve(name: str, top: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the path that a variable's name without prefix stands for, None when there is no such setting."""
    first, _, rest = name.partition("__")
    for key, annotation in top.items():
        if key.upper().replace("-", "_") == first:
            below = _below(annotation, rest)
            return None if below is None else (key, *below)
    return None


def _below(annotation: Any, rest: str) -> tuple[str, ...] | None:
    if not rest:
        return ()
    for member in choices(annotation):
        inner, _ = split(member)
        if is_section(inner):
            return _resolve(rest, keys(inner))
        if get_origin(inner) is dict:
            # Keys of a mapping are the user's own and keep their case: CLONK_CLAUDECODE__ENV__HTTPS_PROXY.
            return (rest,) if not is_section(split(get_args(inner)[1])[0]) else None
    return None


def _leaves(top: Mapping[str, Any], path: tuple[str, ...] = ()) -> "Iterator[tuple[tuple[str, ...], Any]]":
    for key, annotation in top.items():
        for member in choices(annotation):
            inner, _ = split(member)
            if is_section(inner):
                for name, field in fields(inner).items():
                    yield (*path, key, name), field
                    yield from _leaves({name: field.type}, (*path, key))


def _no_such_variable(name: str, top: Mapping[str, Any]) -> str:
    known = {variable(".".join(path)) for path, _ in _leaves(top)} | RESERVED
    near = nearest(name, known)
    hint = f"did you mean {near[0]}?" if near else "names are CLONK_SECTION__KEY, such as CLONK_SERVER__HTTP_PORT"
    return f"sets nothing that Clonk knows; {hint}"
