"""What a turn's tools leave running: commands in the background, processes that have detached themselves.

A turn that is stopped takes them along, and the binary stays: it ends its commands itself when it is told to, so that
it neither wonders at their end nor asks the model about it; whatever else bears its mark is ended by signal.
"""

from typing import Final

import trio

from clonk_claudecode.engine import process_table
from clonk_claudecode.engine.control import Control
from clonk_claudecode.engine.frames import Frame
from clonk_claudecode.engine.process import end_marked
from clonk_claudecode.errors import ProcessBroken

STOP_TASKS_S: Final = 0.3
"""For the binary to end its commands in the background, which takes milliseconds."""


class Leftovers:
    """Of one process of the binary.

    Args:
        mark: By which its descendants are found.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._commands: set[str] = set()
        self._own: frozenset[process_table.Identity] = frozenset()

    async def know_own(self) -> None:
        """Take what runs now, before the first prompt, for the binary's own: itself, and servers that it started."""
        self._own = await trio.to_thread.run_sync(process_table.identities, self._mark)

    def note(self, frame: Frame) -> None:
        """Take note of commands in the background, from the binary's `system` frames."""
        task_id = str(frame.get("task_id"))
        match frame.get("subtype"):
            case "background_tasks_changed":
                tasks = frame.get("tasks")
                known = tasks if isinstance(tasks, list) else []
                self._commands = {str(task.get("task_id")) for task in known if isinstance(task, dict)}
            case "task_started":
                self._commands.add(task_id)
            case "task_notification":
                self._commands.discard(task_id)

    async def end(self, control: Control) -> None:
        """End all that is not the binary's own. Bounded by a second; a few milliseconds where there is nothing."""
        with trio.move_on_after(STOP_TASKS_S):
            for task_id in tuple(self._commands):
                try:
                    await control.ask(subtype="stop_task", task_id=task_id)
                except ProcessBroken:
                    continue  # it has just ended, or the binary is too old: its processes are ended below
        self._commands.clear()
        await end_marked(self._mark, spare=self._own)
