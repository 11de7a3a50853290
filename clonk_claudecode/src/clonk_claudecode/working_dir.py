"""Where a session may work: an existing folder below one of the allowed roots, symbolic links resolved."""

from collections.abc import Sequence
from pathlib import Path

from clonk_core.plugin import InvalidParams


def resolve_working_dir(given: str, roots: Sequence[Path]) -> Path:
    """Return the folder that `given` really is.

    Args:
        given: An absolute path.
        roots: Allowed folders, resolved.

    Raises:
        InvalidParams: It is not absolute, does not exist, is no folder, or lies outside of every root. Outside of the
            roots nothing is told of what exists.
    """
    if "\0" in given:
        raise InvalidParams("a path cannot hold a NUL character", path="$.working_dir")
    path = Path(given)
    if not path.is_absolute():
        raise InvalidParams(f"must be an absolute path, not {given!r}", path="$.working_dir")
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, a name that is too long
        raise InvalidParams("cannot be resolved: too long, or a loop of links", path="$.working_dir") from error
    if not any(resolved.is_relative_to(root) for root in roots):
        allowed = ", ".join(str(root) for root in roots)
        raise InvalidParams(
            f"{given!r} is not under an allowed root ({allowed}); `workspaces.roots` sets them", path="$.working_dir"
        )
    if not resolved.is_dir():
        raise InvalidParams(f"{given!r} is no folder; create it first", path="$.working_dir")
    return resolved
