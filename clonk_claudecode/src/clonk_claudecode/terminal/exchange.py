"""`clonk export` and `clonk import`: a session into a file and back."""

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from clonk_claudecode.terminal.command import ANSWERED_ERROR, DEFAULT_URL, INTERRUPTED, NO_SERVER, OK, USAGE

if TYPE_CHECKING:
    from clonk_claudecode.terminal.link import Client

FORMATS: Final = {"md": "markdown"}


def export_session(
    session: str,
    /,
    *,
    format: Literal["md", "markdown", "json", "jsonl"] = "md",
    subagents: bool = False,
    url: str | None = None,
) -> int:
    """Write a session to standard output.

    For example: clonk export first --format md > first.md

    Exit codes: 0 written, 1 the server said no, 2 wrong usage, 3 no server, 130 Ctrl-C.

    Args:
        session: Name of the session.
        format: `md` for people, `json` for programs, `jsonl` for `clonk import` and for Claude Code.
        subagents: With `jsonl`: write the transcripts of subagents behind the session's own, for `clonk import`.
        url: Where the server is, `http://...` or `ws://...`; else CLONK_URL, else http://127.0.0.1:4445.
    """

    async def work(client: "Client") -> int:
        wanted = FORMATS.get(format, format)
        async with client.stream("claudecode.export", name=session, format=wanted, subagents=subagents) as events:
            async for event in events:
                if event.event["type"] == "export_delta":
                    sys.stdout.buffer.write(event.event["text"].encode())
        sys.stdout.buffer.flush()
        outcome = event.event.get("outcome")
        if outcome != "complete":
            _complain("export", str((event.event.get("error") or {}).get("message") or f"it ended: {outcome}"))
        return OK if outcome == "complete" else ANSWERED_ERROR

    return _run("export", url, work)


def import_session(
    file: Path,
    /,
    *,
    name: str,
    working_dir: str | None = None,
    model: str | None = None,
    permission_mode: str | None = None,
    url: str | None = None,
) -> int:
    """Make a session from a transcript of Claude Code.

    Claude Code keeps them as ~/.claude/projects/FOLDER/ID.jsonl. For example:
    clonk import 0b39a1d2.jsonl --name first --working-dir /srv/app

    Exit codes: 0 done, 1 the server said no, 2 wrong usage, 3 no server, 130 Ctrl-C.

    Args:
        file: The transcript; `/dev/stdin` for what another command prints.
        name: Name of the new session.
        working_dir: Where the session works; a folder on the server's machine.
        model: Its model: sonnet, opus, haiku, or a full name.
        permission_mode: What it may do without asking: default, acceptEdits, plan, dontAsk or bypassPermissions.
        url: Where the server is, `http://...` or `ws://...`; else CLONK_URL, else http://127.0.0.1:4445.
    """
    try:
        transcript = file.read_bytes().decode()
    except OSError as error:
        return _complain("import", f"{str(file)!r} cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return _complain("import", f"{str(file)!r} is no text in UTF-8 (byte {error.start + 1})")
    given = {"working_dir": working_dir, "model": model, "permission_mode": permission_mode}

    async def work(client: "Client") -> int:
        params = {key: value for key, value in given.items() if value is not None}
        made = await client.call("claudecode.import", name=name, transcript=transcript, **params)
        sys.stdout.write(f"{made['name']}: {made['message_count']} messages, {made['entry_count']} entries\n")
        return OK

    return _run("import", url, work)


def _run(command: str, url: str | None, work: Callable[["Client"], Awaitable[int]]) -> int:
    """Do something with a client and return its exit code, or that of the error it ended with."""
    from clonk_claudecode.terminal.interruptible import Interrupts, run_interruptible
    from clonk_claudecode.terminal.link import SCHEMES, new_client, refusal_text
    from clonk_core.client.base import ClientError, RemoteError

    url = url or os.environ.get("CLONK_URL") or DEFAULT_URL
    if not url.startswith(SCHEMES):
        return _complain(command, f"{url!r} is no address; it begins with http://, https://, ws:// or wss://")

    async def connected(_: Interrupts) -> int:
        async with new_client(url) as client:
            return await work(client)

    try:
        return run_interruptible(connected)
    except RemoteError as error:
        _complain(command, refusal_text(error))
        return ANSWERED_ERROR
    except ClientError as error:
        _complain(command, f"{error}; `clonk serve` starts a server, --url names another one")
        return NO_SERVER
    except BrokenPipeError:
        # Whoever read has enough. What is still buffered must not complain once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return INTERRUPTED


def _complain(command: str, text: str) -> int:
    sys.stderr.write(f"clonk {command}: {text}\n")
    return USAGE
