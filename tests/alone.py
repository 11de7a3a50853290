"""One test alone among the workers of pytest-xdist, while the others are let run side by side."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def room(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold a lock that all workers may share, or that one has `alone`.

    Who waits to be alone stands in the door meanwhile: nobody else comes in, so the room gets empty.

    Args:
        folder: Where the locks are; the same for all workers of a run.
        alone: Whether nobody else may be inside.
    """
    with (folder / "door").open("w") as door, (folder / "room").open("w") as inside:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
