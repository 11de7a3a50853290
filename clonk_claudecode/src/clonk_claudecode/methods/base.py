"""What every group of methods builds on."""

from clonk_claudecode.sessions import Sessions
from clonk_core.plugin import Activation


class Methods(Activation):
    """A group of methods of `claudecode`.

    Args:
        sessions: What all groups share.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
