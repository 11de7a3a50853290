"""Commits what a finished chat has changed, where a workspace wants that. `pushes.py` pushes it."""

from pathlib import Path
from typing import Any, Final

from clonk_core.plugin import CallError, Host, NotFound

TURN_ENDED: Final = "claudecode.turn_ended"
"""The event's name; its package need not be there."""

MAX_SUBJECT: Final = 72


class AfterTurns:
    """Hears of turns that have ended, and has their work committed.

    Args:
        host: Calls gitsync's own methods, as anybody would.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    async def turn_ended(self, event: Any) -> None:
        """Commit at once, so that the next prompt finds it done. A push is left to the background."""
        folder = Path(event["working_dir"])
        try:
            workspace = await self._workspace_around(folder)
            if workspace is None or not workspace["auto_commit"]:
                return
            made: Any = await self._host.call(
                "gitsync.commit", path=workspace["path"], message=message_of(event), session=event["session"]
            )
        except CallError as error:
            self._host.log.warning("a chat's work is not committed", folder=str(folder), reason=error.message)
        else:
            if made["made"]:
                self._host.log.info("a chat's work is committed", folder=str(folder), commit=made["commit"])

    async def _workspace_around(self, folder: Path) -> Any:
        """Return the nearest registered folder that a folder is in, or is; None for none."""
        for path in (folder, *folder.parents):
            try:
                return await self._host.call("gitsync.get", path=str(path))
            except NotFound:
                continue
        return None


def message_of(event: Any) -> str:
    """Return a commit's message: the prompt, and trailers that name session and snapshot."""
    prompt = "".join(letter for letter in str(event.get("prompt") or "") if letter == "\n" or letter.isprintable())
    first, _, rest = prompt.strip().partition("\n")
    subject = first.strip() or f"Work of the session {event['session']}"
    body = rest.strip()
    if len(subject) > MAX_SUBJECT:
        subject, body = subject[: MAX_SUBJECT - 1] + "…", f"{first.strip()}\n{rest.rstrip()}".strip()
    # Indented, so that nothing in a prompt is taken for a trailer.
    quoted = "\n".join(f"    {line}".rstrip() for line in body.splitlines())
    trailers = [f"Clonk-Session: {event['session']}"]
    if event.get("snapshot_id"):
        trailers.append(f"Clonk-Snapshot: {event['snapshot_id']}")
    return "\n\n".join(part for part in (subject, quoted, "\n".join(trailers)) if part)
