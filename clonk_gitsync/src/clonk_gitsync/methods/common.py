"""What several groups of methods share."""

import re
from typing import Annotated, Final

from clonk_core.plugin import Call, MaxLen
from clonk_gitsync import errors
from clonk_gitsync.git.process import OnLine

ON_DISK: Final = (errors.NotRegistered, errors.NotARepository, errors.GitUnusable)
COMMITTING: Final = (
    *ON_DISK,
    errors.WorkspaceBusy,
    errors.BranchDiverged,
    errors.BranchProtected,
    errors.SigningFailed,
)
WITH_REMOTE: Final = (errors.RemoteNotAllowed, errors.RemoteFailed, errors.BranchProtected)
LONG_S: Final = 900.0

_PROGRESS: Final = re.compile(r"(?:remote: )?(?P<what>[A-Z][a-z ]+): +\d+% \((?P<done>\d+)/(?P<total>\d+)\)")

Name = Annotated[str, MaxLen(500)]


def progress(call: Call) -> OnLine:
    """Return what tells git's own lines of progress on."""

    async def tell(line: str) -> None:
        found = _PROGRESS.match(line)
        if found is not None:
            await call.progress(int(found["done"]), int(found["total"]), found["what"])

    return tell
