"""What `clonk doctor` looks at for Claude Code."""

import os
from collections.abc import Callable, Sequence
from typing import Final

import trio

from clonk_claudecode.credentials import Credentials, ReadSecret
from clonk_claudecode.engine.binary import BinaryFinder
from clonk_claudecode.settings import ClaudeCodeSettings
from clonk_core.plugin import CallError, Check, CheckResult, SettingOrigin

CREDENTIAL_VARIABLES: Final = frozenset(
    {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_FOUNDRY",
        "CLAUDE_CODE_USE_VERTEX",
    }
)
"""By which the binary finds a credential of its own. With none of all it says that it is not logged in, also where
`ANTHROPIC_BASE_URL` leads to a gateway that wants none."""


def checks(
    settings: ClaudeCodeSettings, *, secret: ReadSecret, origin: Callable[[str], SettingOrigin]
) -> Sequence[Check]:
    """Return the checks of this package.

    Args:
        settings: The section `claudecode`.
        secret: Reads a stored secret.
        origin: Tells where a setting came from.
    """
    credentials = Credentials(settings, secret=secret, origin=origin)

    async def binary() -> CheckResult:
        try:
            found = await BinaryFinder(settings.binary_path).find()
        except CallError as error:
            return CheckResult(state="failed", message=error.message)
        return CheckResult(state="ok", message=f"{found.path}, version {found.version_text}")

    async def token() -> CheckResult:
        try:
            known = await credentials.find()
            await credentials.resolved_env()
        except CallError as error:
            return CheckResult(state="failed", message=error.message)
        if known is not None:
            kind = {"oauth_token": "OAuth token", "api_key": "API key"}[known.credential.kind]
            return CheckResult(state="ok", message=f"{kind} from {known.place}")
        named = CREDENTIAL_VARIABLES & settings.env.keys()
        if named:
            return CheckResult(state="ok", message=f"{', '.join(sorted(named))} in claudecode.env")
        return CheckResult(
            state="warning",
            message="no OAuth token and no API key",
            fix="`clonk secrets set claude_oauth_token` keeps a token (`claude setup-token` makes one), "
            "`clonk secrets set anthropic_api_key` a key",
        )

    async def working_dir() -> CheckResult:
        folder = trio.Path(settings.session.working_dir)
        if not await folder.is_dir():
            return CheckResult(state="ok", message=f"{folder} does not exist; sessions get folders of their own")
        if not os.access(folder, os.W_OK):
            return CheckResult(state="warning", message=f"{folder} is not writable", fix="change its owner or mode")
        return CheckResult(state="ok", message=f"{folder}")

    return [
        Check(name="claude binary", function=binary),
        Check(name="credential", function=token),
        Check(name="working directory", function=working_dir),
    ]
