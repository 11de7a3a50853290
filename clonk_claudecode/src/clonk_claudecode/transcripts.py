"""The binary's own files of a conversation."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from clonk_claudecode.setup import CONFIG_FOLDER


def delete_transcript(data_dir: Path, claude_session_id: str) -> None:
    """Delete what the binary keeps of a conversation: its transcript, and the output of its commands.

    Looks into every folder there.

    Args:
        data_dir: The package's own folder.
        claude_session_id: UUID of the conversation.
    """
    for path in _places(data_dir / CONFIG_FOLDER, claude_session_id):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if path.parent.parent.name == "projects":
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # when it was the only conversation in its working directory


def _places(config_dir: Path, claude_session_id: str) -> Iterator[Path]:
    yield from config_dir.glob(f"projects/*/{claude_session_id}*")
    yield from config_dir.glob(f"*/{claude_session_id}*")
    # Where commands in the background write, in all versions so far.
    yield from Path(tempfile.gettempdir(), f"claude-{os.getuid()}").glob(f"*/{claude_session_id}")
