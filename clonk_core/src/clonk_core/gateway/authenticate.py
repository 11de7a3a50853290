"""Who calls. In this version the server listens on the loopback only, and everyone there is the local caller."""

from clonk_core.interfaces import Connection
from clonk_core.messages import LOCAL_CALLER, Caller


def authenticate(connection: Connection) -> Caller:
    """Return the connection's caller, found once and kept for the connection's life."""
    if connection.caller is None:
        connection.caller = LOCAL_CALLER
    return connection.caller
