"""Files of a workspace, opened so that its owner cannot lead us elsewhere with them or hold us up."""

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def open_plain(path: Path | str | bytes) -> BinaryIO:
    """Open a file for reading.

    Not through a link: we may read more than the workspace's owner. Without waiting: nobody may write into a pipe.

    Raises:
        OSError: It is not there, or is no file.
    """
    file = open(path, "rb", opener=lambda name, _: os.open(name, READ))  # noqa: SIM115 - closed by the caller
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("it is no file")
    return file
