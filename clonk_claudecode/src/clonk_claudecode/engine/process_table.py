"""The operating system's processes: start times, marks in their environment, signals. Standard library only.

Claude Code starts its tools in sessions of their own, so its process group does not hold them; and what a tool leaves
in the background is nobody's child. Therefore every process gets a mark in its environment, which its descendants
inherit, and is found by it. Needs Linux's /proc; elsewhere only process groups are known: `can_find_marked` says so.

Imported by the reaper's helper too, which must start fast and stay small: no pathlib, no other imports.
"""

# ruff: noqa: PTH112, PTH123, PTH208

import contextlib
import os
import signal
import sys

MARK_VARIABLE = "CLONK_PROCESS"
"""The variable that marks: `<token of the hub>.<number of the process>.`; a mark is a beginning of it."""

MAX_SWEEPS = 50
"""A process may fork while it is looked for; each round kills what the last one missed."""


Identity = tuple[int, "str | None"]
"""Pid and start time of a process."""


def can_find_marked() -> bool:
    """Whether processes can be found by their mark on this system."""
    return sys.platform == "linux" and os.path.isdir("/proc/self")


def start_time(pid: int) -> str | None:
    """Return when a process was started, in clock ticks since boot; None when there is none, or no /proc.

    Together with the pid it names a process for good: pids come back, pairs do not.
    """
    fields = _stat_fields(pid)
    return fields[19] if fields is not None else None


def is_running(pid: int, started: str) -> bool:
    """Whether the process with this pid and start time exists and is no zombie."""
    fields = _stat_fields(pid)
    return fields is not None and fields[19] == started and fields[0] not in ("Z", "X")


def boot_id() -> str:
    """Name this boot of the machine: start times count from it. Empty where it is not known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def marked(mark: str) -> list[int]:
    """Return the processes whose mark begins with `mark`, without the asking one. Zombies have no mark left."""
    if not can_find_marked():
        return []
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environ = file.read()
        except OSError:
            continue  # it has ended, or is another user's
        if environ.startswith(wanted) or b"\0" + wanted in environ:
            found.append(int(name))
    return found


def group_exists(group: int) -> bool:
    """Whether a process group has a member that can be signalled."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_group(group: int, number: int) -> None:
    """Signal a process group; one that has gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def signal_each(pids: list[int], number: int) -> None:
    """Signal processes; those that have gone are fine."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def identities(mark: str) -> frozenset[Identity]:
    """Return the processes whose mark begins with `mark`, as they are told from later ones with the same pid."""
    return frozenset((pid, start_time(pid)) for pid in marked(mark))


def marked_beside(mark: str, spare: frozenset[Identity]) -> list[int]:
    """Return the processes whose mark begins with `mark`, without some."""
    found = marked(mark)
    return [pid for pid in found if (pid, start_time(pid)) not in spare] if spare else found


def kill_marked(mark: str, spare: frozenset[Identity] = frozenset()) -> int:
    """Kill every process whose mark begins with `mark`, and those it forks meanwhile. Return how many were killed.

    Args:
        mark: The beginning of their marks.
        spare: These live on.
    """
    killed: set[int] = set()
    for _ in range(MAX_SWEEPS):
        found = marked_beside(mark, spare)
        if not found:
            break
        killed.update(found)
        signal_each(found, signal.SIGKILL)
    return len(killed)


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the third (the state) on; the name before may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return None
