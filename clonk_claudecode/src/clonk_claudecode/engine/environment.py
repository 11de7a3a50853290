"""The child's environment, built from nothing, and the pipe that carries its credential."""

import os
import pwd
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clonk_claudecode.engine.process_table import MARK_VARIABLE
from clonk_claudecode.engine.spec import Credential, EngineSettings

DESCRIPTOR_VARIABLES: Final[Mapping[str, str]] = {
    "oauth_token": "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
    "api_key": "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
}
"""Where the binary reads the number of a file descriptor that holds the secret."""

ALWAYS: Final[Mapping[str, str]] = {
    "DISABLE_TELEMETRY": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
}
"""The hub's operator decides what goes out and which version runs."""

MAX_SECRET_BYTES: Final = 16_384
"""Fits into any pipe without a reader; tokens have a few hundred bytes."""

_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


def build_environment(
    settings: EngineSettings, *, mark: str, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of a child: PATH, HOME and LANG of the hub, what is always set, what is configured.

    Nothing else of the hub's environment passes: it holds the hub's own secrets, and tools print it.

    Args:
        settings: Where the binary's folder is and what is configured; `settings.env` wins over everything but the mark.
        mark: By which the process and its descendants are found again.
        environ: The hub's environment; the process's own when None.
    """
    hub = os.environ if environ is None else environ
    own_home = str(settings.config_dir)
    return {
        "PATH": hub.get("PATH", _DEFAULT_PATH),
        # Another user has no business in the home of ours.
        "HOME": hub.get("HOME", own_home) if settings.isolation.user is None else own_home,
        "LANG": hub.get("LANG", "C.UTF-8"),
        "CLAUDE_CONFIG_DIR": str(settings.config_dir),
        "CLAUDE_CODE_MAX_RETRIES": str(settings.max_retries),
        "API_TIMEOUT_MS": str(round(settings.api_timeout_s * 1000)),
        **ALWAYS,
        **settings.env,
        MARK_VARIABLE: mark,
    }


def prepare_config_dir(path: Path) -> None:
    """Make the binary's folder, for this user alone: it holds every transcript."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)


@contextmanager
def credential_pipe(credential: Credential | None) -> Iterator[tuple[tuple[int, ...], dict[str, str]]]:
    """Lend file descriptors and variables that hand the credential to a child started meanwhile.

    The secret is in the pipe, the variable holds only a number. The child reads it once, so tools find an empty pipe.

    Raises:
        ValueError: The secret is longer than `MAX_SECRET_BYTES`.
    """
    if credential is None:
        yield (), {}
        return
    secret = credential.secret.encode()
    if len(secret) > MAX_SECRET_BYTES:
        raise ValueError(f"a credential has at most {MAX_SECRET_BYTES} bytes")
    reading, writing = os.pipe()
    try:
        try:
            os.write(writing, secret)
        finally:
            os.close(writing)
        yield (reading,), {DESCRIPTOR_VARIABLES[credential.kind]: str(reading)}
    finally:
        os.close(reading)


@contextmanager
def system_prompt_file(text: str | None, user: str | None = None) -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Lend a file descriptor and the arguments that hand a system prompt to a child started meanwhile.

    The file has no name, so that nobody else can open it and nothing is left behind.

    Args:
        text: The prompt.
        user: Name of the user that the child runs as; None for our own.
    """
    if not text:
        yield (), ()
        return
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        if user is not None:  # it is opened anew, by that user
            os.fchown(file.fileno(), pwd.getpwnam(user).pw_uid, -1)
        yield (file.fileno(),), ("--append-system-prompt-file", f"/dev/fd/{file.fileno()}")
