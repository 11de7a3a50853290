"""What the tests of isolation share."""

from tests.claudecode.sessions.conftest import hub, open_hub

__all__ = ["hub", "open_hub"]
