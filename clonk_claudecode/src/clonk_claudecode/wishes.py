"""Rules for what a session is asked to be, beyond what the schema says."""

from collections.abc import Mapping
from typing import Final

from clonk_core.plugin import Caller, Forbidden, InvalidParams

MAX_METADATA_NAME: Final = 64


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
