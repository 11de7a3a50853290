"""What the tests of metering share."""

from tests.claudecode.sharing.conftest import client_of, hub, open_hub

__all__ = ["client_of", "hub", "open_hub"]
