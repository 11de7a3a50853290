"""`clonk demo`: its options and exit codes. What it shows is in demo_steps.py, what it stands on in demo_stage.py."""

import sys
from typing import Final

OK: Final = 0
FAILED: Final = 1


async def demo(*, live: bool = False, keep: bool = False) -> int:
    """Show Clonk at work, with a real Claude Code binary and without an account.

    Claude answers, uses a tool in a git repository, streams over SSE and WebSocket, and survives a cut connection.
    Starts a server of its own on free ports, with a folder of its own, and ends it afterwards. A scripted model on this
    machine says what Claude says; everything else is real. Each step prints the command that does the same by hand,
    and is checked; the exit code is 0 only when all of it was true.

    Args:
        live: Talk to the real model with CLAUDE_CODE_OAUTH_TOKEN or ANTHROPIC_API_KEY from the environment.
        keep: Keep the folder with the configuration, the databases, the log and the repository.
    """
    from clonk_claudecode.demo.show import DemoFailed, Show
    from clonk_claudecode.demo.stage import open_stage
    from clonk_claudecode.demo.steps import play

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    show = Show()
    try:
        async with open_stage(show, live=live, keep=keep) as stage:
            await play(stage, show)
    except DemoFailed as error:
        show.failure(error)
        return FAILED
    show.success()
    return OK
