"""The binary's own files of a conversation."""

import contextlib
import shutil
from pathlib import Path

from clonk_claudecode.setup import CONFIG_FOLDER


def delete_transcript(data_dir: Path, claude_session_id: str) -> None:
    """Delete what the binary keeps of a conversation below its `projects` folder. Looks into every folder there.

    Args:
        data_dir: The package's own folder.
        claude_session_id: UUID of the conversation.
    """
    projects = data_dir / CONFIG_FOLDER / "projects"
    for path in projects.glob(f"*/{claude_session_id}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # when it was the only conversation in its working directory
