"""A section as a package declares it, and a way to load text as a configuration file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import pytest

from clonk_core.config.load import Loaded, load
from clonk_core.plugin import Ge, Gt, Pattern
from tests.core.config.specification import SPECIFICATION_AUTH_EXAMPLE, SPECIFICATION_EXAMPLE


@attrs.frozen(kw_only=True)
class SessionSection:
    """How sessions behave.

    Attributes:
        timeout: Idle time before parking, in seconds.
        max_concurrent: Most live sessions.
        working_dir: Where sessions work.
        mode: How tools are allowed.
    """

    timeout: Annotated[float, Gt(0)] = 3600.0
    max_concurrent: Annotated[int, Ge(1)] = 10
    working_dir: Path | None = None
    mode: Literal["default", "plan"] = "default"


@attrs.frozen(kw_only=True)
class AgentSection:
    """Settings of a package that runs a program.

    Attributes:
        binary_path: The program.
        default_model: Model of new sessions.
        oauth_token: Credential.
        session: How sessions behave.
        env: Variables for the program.
        size: A number or one of two words.
    """

    binary_path: Path | None = None
    default_model: Annotated[str, Pattern("[a-z0-9.-]+", "a model's name")] = "sonnet"
    oauth_token: str | None = attrs.field(
        default=None, repr=False, metadata={"secret": True, "env": "CLAUDE_CODE_OAUTH_TOKEN"}
    )
    session: SessionSection = SessionSection()
    env: dict[str, str] = attrs.field(factory=dict)
    size: int | Literal["small", "large"] = "small"


LoadText = Callable[..., Loaded]


@pytest.fixture
def load_text(tmp_path: Path) -> LoadText:
    """Load text as `clonk.yaml` of an empty folder, with nothing of the real environment."""

    def load_it(
        text: str | bytes | None = None,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, str] | None = None,
        sections: Mapping[str, type[Any]] | None = None,
        unchecked: tuple[str, ...] = (),
    ) -> Loaded:
        path = None
        if text is not None:
            path = tmp_path / "clonk.yaml"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(
            path,
            {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "xdg"), **(environ or {})},
            flags or {},
            {"claudecode": AgentSection} if sections is None else sections,
            unchecked,
            cwd=tmp_path,
        )

    return load_it


@pytest.fixture
def specification_example() -> str:
    """The specification's complete `clonk.yaml`."""
    return SPECIFICATION_EXAMPLE


@pytest.fixture
def specification_auth_example() -> str:
    """The specification's example of keys and tokens."""
    return SPECIFICATION_AUTH_EXAMPLE


@pytest.fixture
def agent_section() -> type[AgentSection]:
    """The section's class."""
    return AgentSection
