"""A section as a package declares it, and a way to load text as a configuration file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import pytest

from clonk_core.config.load import Loaded, load
from clonk_core.plugin import Ge, Gt, Pattern

SPECIFICATION_EXAMPLE = """\
# Clonk configuration
version: "1"

# Server settings
server:
  host: "0.0.0.0"
  websocket_port: 4444
  http_port: 4445

  # TLS (optional, usually handled by reverse proxy)
  tls:
    enabled: false
    cert_path: /etc/clonk/tls/cert.pem
    key_path: /etc/clonk/tls/key.pem

# Authentication
auth:
  # Disable for embedded/single-user mode
  enabled: true

  api_keys:
    - id: "default"
      secret_hash: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
      scopes: ["*"]

# Claude Code settings
claudecode:
  # Path to claude binary (auto-detected if not specified)
  binary_path: null

  # Default model for new sessions
  default_model: "sonnet"

  # OAuth token (can also use CLAUDE_CODE_OAUTH_TOKEN env var)
  oauth_token: null

  # Session defaults
  session:
    timeout: 3600          # Session timeout in seconds
    max_concurrent: 10     # Max concurrent sessions
    working_dir: "/workspace"

# Storage
storage:
  data_dir: "/var/clonk"

  # Database connection (for multi-tenant)
  # database_url: "postgres://user:pass@host/clonk"

# Workspaces (for gitsync)
workspaces:
  # Predefined workspace mappings
  mappings:
    - path: "/workspace"
      remote: "git@github.com:org/repo.git"
      branch: "main"

  # Auto-discover by scanning for .git directories
  auto_discover: true

  # Organizations to match (for auto-discovery)
  allowed_orgs:
    - "hypermemetic"
    - "juggernautlabs"

# Logging
logging:
  level: "info"
  format: "json"  # or "pretty"

# Metrics (optional)
metrics:
  enabled: true
  port: 9090
"""

SPECIFICATION_AUTH_EXAMPLE = """\
# clonk.yaml
auth:
  # API key authentication
  api_keys:
    - id: "key_prod_abc123"
      secret_hash: "sha256:..."
      scopes: ["claudecode:*", "arbor:read"]
      rate_limit: 100/min

    - id: "key_ci_xyz789"
      secret_hash: "sha256:..."
      scopes: ["claudecode:chat", "gitsync:*"]
      rate_limit: 1000/min

  # Optional: JWT for user sessions
  jwt:
    issuer: "https://auth.example.com"
    audience: "clonk"
    jwks_uri: "https://auth.example.com/.well-known/jwks.json"
"""


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
