"""A host with claudecode and arbor, the real binary, and a scripted model."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.host import TestHost, open_host

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]


def claudecode_settings(model: ScriptedModel, **changes: Any) -> dict[str, Any]:
    """What `clonk.yaml` says for sessions that talk to the scripted model."""
    return {
        "api_key": "sk-ant-api03-scripted-and-worthless",
        "env": {"ANTHROPIC_BASE_URL": model.base_url, "IS_SANDBOX": "1"},
        "session": {"working_dir": "/nonexistent/clonk", **changes.pop("session", {})},
        "turn": {"max_retries": 1, **changes.pop("turn", {})},
        **changes,
    }


@pytest.fixture
def open_hub(tmp_path: Path, model: ScriptedModel, claude: object) -> OpenHub:
    """Open a hub on the test's data directory; again after it was closed, to restart it."""

    def opened(
        *,
        packages: Sequence[str] = ("arbor", "claudecode"),
        plugins: Mapping[str, object] | None = None,
        arbor: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> AbstractAsyncContextManager[TestHost]:
        settings = {
            **({"arbor": arbor} if arbor else {}),
            "claudecode": claudecode_settings(model, **changes),
            "workspaces": {"roots": [str(tmp_path / "workspace")]},
        }
        return open_host(tmp_path / "data", packages=packages, plugins=plugins, settings=settings)

    return opened


@pytest.fixture
async def hub(open_hub: OpenHub, workspace: Path) -> AsyncIterator[TestHost]:
    async with open_hub() as opened:
        yield opened
