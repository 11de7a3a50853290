"""Which sessions have a process or a turn, and who gets the next of the places for processes."""

from collections import deque

import trio

from clonk_claudecode.engine.live_session import MAX_KEPT_ITEMS, LiveSession
from clonk_claudecode.engine.turn import Turn
from clonk_claudecode.errors import CapacityReached, EngineStopped
from clonk_claudecode.events import TurnItem


class Slot:
    """What the engine knows of one session that has a process, a turn, or something kept.

    Attributes:
        lock: Held while a process is started or replaced.
        live: The process, with its conversation.
        turn: The turn that has the session to itself, from before its process is started.
        is_held: Whether no turn may begin, because what it would go on from is being changed.
        is_starting: Whether it has a place for a process that is not there yet.
        kept: What Claude did between turns; outlives the process.
    """

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.live: LiveSession | None = None
        self.turn: Turn | None = None
        self.is_held = False
        self.is_starting = False
        self.kept: deque[TurnItem] = deque(maxlen=MAX_KEPT_ITEMS)

    @property
    def has_place(self) -> bool:
        """Whether it counts against the number of processes."""
        return self.live is not None or self.is_starting

    @property
    def may_be_parked(self) -> bool:
        """Whether its process has nothing to do for a caller."""
        return self.live is not None and self.live.is_usable and self.turn is None and not self.is_starting

    @property
    def is_empty(self) -> bool:
        """Whether it can be forgotten."""
        return not (self.has_place or self.turn or self.is_held or self.kept or self.lock.locked())


class _Waiter:
    """A prompt that waits for a place."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.has_place = False


class Slots:
    """All slots of an engine, and the places for processes.

    Args:
        places: At most this many processes.
        wait_s: How long a prompt waits for a place.

    Attributes:
        is_stopping: Set when no process may be started any more; call `notify` then.
    """

    def __init__(self, places: int, wait_s: float) -> None:
        self.is_stopping = False
        self._places = places
        self._wait_s = wait_s
        self._slots: dict[str, Slot] = {}
        # By whom they wait for, in the order in which those have their turn.
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._changed = trio.Event()

    def find(self, session_id: str) -> Slot | None:
        """Return a session's slot, if it has one."""
        return self._slots.get(session_id)

    def keys_of(self, session_id: str) -> list[str]:
        """Return the keys of a session's slots: its own, and those of its ephemeral processes."""
        return [key for key in self._slots if key == session_id or key.startswith(f"{session_id}/")]

    def get(self, session_id: str) -> Slot:
        """Return a session's slot, a new one if need be. `tidy` takes it away again."""
        return self._slots.setdefault(session_id, Slot())

    def all(self) -> list[Slot]:
        """Return every slot there is."""
        return list(self._slots.values())

    def tidy(self, session_id: str) -> None:
        """Forget a session that has nothing here any more, and wake who waits for a place."""
        slot = self._slots.get(session_id)
        if slot is not None and slot.is_empty:
            del self._slots[session_id]
        self.notify()

    @property
    def is_full(self) -> bool:
        """Whether every place is taken."""
        return sum(slot.has_place for slot in self._slots.values()) >= self._places

    async def take_place(self, slot: Slot, owner: str) -> bool:
        """Wait for a free place and take it, parking the session that was idle longest. Sets `slot.is_starting`.

        Owners that wait have their turn one after the other, so that many prompts of one do not keep another's waiting.

        Args:
            slot: Who needs it.
            owner: In whose name: a caller.

        Returns:
            Whether it was taken; False when the turn that needs it was stopped meanwhile.

        Raises:
            CapacityReached: None became free in time.
            EngineStopped: No process may be started any more.
        """
        waiter = _Waiter(slot)
        self._waiting.setdefault(owner, deque()).append(waiter)
        try:
            with trio.move_on_after(self._wait_s):
                while not self._hand_out(waiter):
                    if self.is_stopping:
                        raise EngineStopped
                    if slot.turn is not None and slot.turn.stop_reason is not None:
                        return False
                    self.park_one()
                    await self.wait_changed()
                return True
            if waiter.has_place:  # it came at the last moment
                return True
            raise CapacityReached(self._places, self._wait_s)
        except BaseException:
            if waiter.has_place:
                slot.is_starting = False
            raise
        finally:
            queue = self._waiting.get(owner)
            if queue is not None and waiter in queue:
                queue.remove(waiter)
                if not queue:
                    del self._waiting[owner]
            if self._waiting:
                self.notify()

    def _hand_out(self, waiter: _Waiter) -> bool:
        """Give the free places to those whose turn it is; tell whether this one has got one now."""
        while self._waiting and not self.is_full and not self.is_stopping:
            owner = next(iter(self._waiting))
            queue = self._waiting.pop(owner)
            first = queue.popleft()
            first.has_place = first.slot.is_starting = True
            if queue:
                self._waiting[owner] = queue  # behind the others
            if first is not waiter:
                self.notify()
        return waiter.has_place

    def park_one(self) -> bool:
        """Close the process that was idle longest, rather one that does nothing by itself. Tell if there was one."""
        idle = [slot.live for slot in self._slots.values() if slot.may_be_parked and slot.live is not None]
        if idle:
            min(idle, key=lambda live: (live.is_at_work, live.idle_since)).close()
        return bool(idle)

    def notify(self) -> None:
        """Something has changed: wake whoever waits."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        """Wait for `notify`."""
        await self._changed.wait()
