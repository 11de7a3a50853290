"""What the tests of workspaces share."""

from tests.claudecode.sessions.conftest import hub, open_hub

__all__ = ["hub", "open_hub"]
