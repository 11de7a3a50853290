"""The API key with which this program calls, as its environment names it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from clonk_core.errors import ConfigError

VARIABLE: Final = "CLONK_API_KEY"
FILE_VARIABLE: Final = "CLONK_API_KEY_FILE"


def own_key(environ: Mapping[str, str]) -> str | None:
    """Return the key of `CLONK_API_KEY`, else that in the file that `CLONK_API_KEY_FILE` names, else None.

    There is no flag for it: arguments can be read by every user of the machine, and end in the shell's history.

    Raises:
        ConfigError: The file cannot be read, or there is no key in it.
    """
    key = environ.get(VARIABLE, "").strip()
    if key:
        return key
    name = environ.get(FILE_VARIABLE)
    if not name:
        return None
    try:
        key = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{FILE_VARIABLE}: {name} cannot be read: {error}") from error
    if not key:
        raise ConfigError(f"{FILE_VARIABLE}: there is no key in {name}")
    return key


def refusal(message: str, environ: Mapping[str, str]) -> str:
    """Return what to tell when a server did not take the key, or wanted one: what to do about it.

    Args:
        message: What the server said, in its own terms of headers and methods.
        environ: The environment that the key comes from.
    """
    if environ.get(VARIABLE, "").strip():
        return f"{message}; look at {VARIABLE}"
    if environ.get(FILE_VARIABLE):
        return f"{message}; look at {FILE_VARIABLE}"
    return f"the server wants an API key: set {VARIABLE}, or {FILE_VARIABLE}; `clonk keys create` there makes one"
