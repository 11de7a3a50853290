"""How much memory is left for processes: the machine's, or less where a control group has a limit of its own."""

import re
from pathlib import Path
from typing import Final

MEMINFO: Final = Path("/proc/meminfo")
CGROUP: Final = Path("/sys/fs/cgroup")
"""Of the second version. In a container it is the container's own."""


def free_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Return the bytes that can be taken before something has to go; None where the system does not tell.

    Caches of files count as free, since the kernel gives them up. Reads two small files, without waiting for a disk.
    """
    known = [left for left in (_of_machine(meminfo), _of_group(cgroup)) if left is not None]
    return min(known) if known else None


def _of_machine(meminfo: Path) -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(meminfo), re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def _of_group(cgroup: Path) -> int | None:
    limit, used = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    if not (limit.isdecimal() and used.isdecimal()):  # there is no limit (`max`), or no such group
        return None
    cached = re.search(r"^inactive_file (\d+)$", _read(cgroup / "memory.stat"), re.MULTILINE)
    return max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
