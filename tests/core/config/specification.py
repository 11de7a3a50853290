"""The specification's configurations, as printed."""

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
