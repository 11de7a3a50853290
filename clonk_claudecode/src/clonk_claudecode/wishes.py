"""Rules for what a session is asked to be, beyond what the schema says."""

from collections.abc import Mapping
from typing import Final

from clonk_core.plugin import Caller, Forbidden, InvalidParams

MAX_METADATA_NAME: Final = 64

READING: Final = ("read", "chat")
"""Either shows a conversation."""

ON_ONE: Final = ("archive", "chat", "delete", "fork", "read", "rewind", "share", "update")
"""What can be done with one session, as its verbs of scopes."""


def check_metadata(metadata: Mapping[str, str] | None) -> None:
    """See that names of metadata are short and not empty.

    Raises:
        InvalidParams: One is not.
    """
    for name in metadata or {}:
        if not 1 <= len(name) <= MAX_METADATA_NAME:
            raise InvalidParams(
                f"a name has 1 to {MAX_METADATA_NAME} characters", path=f"$.metadata.{name[:MAX_METADATA_NAME]}"
            )


def check_permission_mode(caller: Caller, permission_mode: str | None) -> None:
    """See that a caller may ask for a permission mode.

    Raises:
        Forbidden: It needs the scope `claudecode:bypass`.
    """
    if permission_mode == "bypassPermissions" and not caller.may("claudecode:bypass"):
        raise Forbidden("bypassPermissions needs the scope 'claudecode:bypass'", scope="claudecode:bypass")


def check_inherited_mode(caller: Caller, permission_mode: str, configured: str) -> None:
    """See that a caller may make a session that goes on in another one's permission mode.

    Args:
        caller: Who makes it.
        permission_mode: The other one's.
        configured: What anybody gets who asks for none.

    Raises:
        Forbidden: It needs the scope `claudecode:bypass`.
    """
    if permission_mode != configured:
        check_permission_mode(caller, permission_mode)


def may_read(caller: Caller, name: str) -> bool:
    """Tell whether a caller may see the conversation of a session."""
    return any(caller.may(f"claudecode:{verb}", name) for verb in READING)


def check_fork_shows_nothing(caller: Caller, name: str, new_name: str) -> None:
    """See that nobody comes to read a conversation by forking it to a name that they may read.

    Raises:
        Forbidden: It would be so.
    """
    if not may_read(caller, name) and may_read(caller, new_name):
        raise Forbidden(f"you may not read the session {name!r}, so you may not read a fork of it", name=new_name)


def check_rename_gains_nothing(caller: Caller, name: str, new_name: str) -> None:
    """See that nobody may do more with a session for the name that they give it.

    Raises:
        Forbidden: It would be so.
    """
    for verb in ON_ONE:
        if caller.may(f"claudecode:{verb}", new_name) and not caller.may(f"claudecode:{verb}", name):
            raise Forbidden(
                f"under the name {new_name!r} you could do with it what you may not do now: 'claudecode:{verb}'",
                name=new_name,
                scope=f"claudecode:{verb}",
            )
