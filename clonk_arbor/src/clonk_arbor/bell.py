"""Wakes whoever waits for something to happen to a tree."""

import trio


class Bell:
    """Rung by the tree's id when a change of it has been committed."""

    def __init__(self) -> None:
        self._listening: dict[str, trio.Event] = {}
        self._anything = trio.Event()

    def listen(self, tree_id: str) -> trio.Event:
        """Return what is set at the next ring. Listen first and look then, so that nothing is missed."""
        return self._listening.setdefault(tree_id, trio.Event())

    def listen_to_all(self) -> trio.Event:
        """Return what is set at the next ring for any tree."""
        return self._anything

    def ring(self, tree_id: str) -> None:
        """Wake those who listen."""
        self._anything.set()
        self._anything = trio.Event()
        event = self._listening.pop(tree_id, None)
        if event is not None:
            event.set()
