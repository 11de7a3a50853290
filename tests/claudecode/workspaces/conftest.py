"""What the tests of workspaces share."""

from tests.claudecode.sessions.conftest import hub, open_hub
from tests.claudecode.sharing.conftest import client_of

__all__ = ["client_of", "hub", "open_hub"]
