"""`clonk chat`: the options and exit codes of the terminal client. What it does is in chat_client.py."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

DEFAULT_URL: Final = "http://127.0.0.1:4445"

OK: Final = 0
ANSWERED_ERROR: Final = 1
USAGE: Final = 2
NO_SERVER: Final = 3
INTERRUPTED: Final = 130


def chat(
    session: str,
    /,
    *,
    url: str | None = None,
    prompt: str | None = None,
    create: bool = False,
    working_dir: Path | None = None,
    model: str | None = None,
    permission_mode: str | None = None,
    max_turns: int | None = None,
    max_budget_usd: float | None = None,
    timeout_s: float | None = None,
    attach: Sequence[Path] = (),
    json_schema: Path | None = None,
    queue: bool = False,
    ephemeral: bool = False,
) -> int:
    """Talk to a Claude Code session in the terminal.

    Text appears as Claude writes it, with the tools it uses. Ctrl-C stops an answer, Ctrl-D leaves; `/help` shows what
    else can be typed. A session that does not exist is created after asking. What Claude needs a permission for, and
    what it asks, is asked here; somebody else may answer first.

    With `--prompt`, or when standard input is no terminal, one prompt is sent and only Claude's own text goes to
    standard output. Exit codes: 0 answered, 1 the server or Claude said no, 2 wrong usage, 3 no server, 130 Ctrl-C.

    Args:
        session: Name of the session.
        url: Where the server is, `http://...` or `ws://...`; else CLONK_URL, else http://127.0.0.1:4445.
        prompt: Send this and leave when it is answered.
        create: Create the session without asking when it does not exist.
        working_dir: Where a new session works; a folder on the server's machine.
        model: Model of a new session: sonnet, opus, haiku, or a full name. A session that is there already answers what
            is asked here with it, and keeps its own.
        permission_mode: What a new session may do without asking: default, acceptEdits, plan, dontAsk or
            bypassPermissions.
        max_turns: Calls of the model's API for one answer at most.
        max_budget_usd: What one answer may cost at most, in dollars.
        timeout_s: Seconds that one answer may take.
        attach: An image or a text file that goes along with the first prompt; may be given several times.
        json_schema: File with a JSON Schema: the answer is one JSON object that fits it.
        queue: Wait while the session answers other prompts.
        ephemeral: Leave no trace in the session.
    """
    from clonk_claudecode.terminal.client import ChatClient, NewSession
    from clonk_claudecode.terminal.link import SCHEMES
    from clonk_claudecode.terminal.turn_options import UnusableFile, turn_params

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character shows a question mark; that is no reason to stop.
            stream.reconfigure(errors="replace")
    interactive = prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    if prompt is None and not interactive:
        if sys.stdin.isatty():
            return _usage("standard output is no terminal: give the prompt with --prompt")
        prompt = sys.stdin.buffer.read().decode("utf-8", "replace")
    if prompt is not None and not prompt.strip():
        return _usage("the prompt is empty")
    url = url or os.environ.get("CLONK_URL") or DEFAULT_URL
    if not url.startswith(SCHEMES):
        return _usage(f"{url!r} is no address; it begins with http://, https://, ws:// or wss://")
    try:
        asked = turn_params(
            attach=attach,
            json_schema=json_schema,
            max_turns=max_turns,
            max_budget_usd=max_budget_usd,
            timeout_s=timeout_s,
            queue=queue,
            ephemeral=ephemeral,
        )
    except UnusableFile as error:
        return _usage(str(error))
    client = ChatClient(
        session,
        url=url,
        asked=asked,
        new=NewSession(
            create=create,
            working_dir=None if working_dir is None else str(working_dir.expanduser().absolute()),
            model=model,
            permission_mode=permission_mode,
        ),
    )
    try:
        return client.talk() if prompt is None else client.say(prompt)
    except KeyboardInterrupt:
        return INTERRUPTED


def _usage(text: str) -> int:
    sys.stderr.write(f"clonk chat: {text}; see `clonk chat --help`\n")
    return USAGE
