"""The scripted model as a program of its own, for tests that kill the process they stand in."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from pathlib import Path
from typing import TextIO

import trio

from clonk_claudecode.testing.demo_script import builtin_demo_script
from clonk_claudecode.testing.script import Script
from clonk_claudecode.testing.script_file import ScriptError, parse_script
from clonk_claudecode.testing.scripted_model import scripted_model

BUILTIN = "builtin-demo"


def main() -> None:
    """Serve until SIGTERM or Ctrl-C. The first line on stdout is the base URL.

    Exit codes: 0 after a signal, 1 when the port is taken, 2 for a script that cannot be read.
    """
    parser = argparse.ArgumentParser(description="Serve a scripted model on the loopback; prints its URL.")
    parser.add_argument("--script", default=BUILTIN, help=f"a JSON file, or {BUILTIN} (the default)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--required-token", help="answer 401 to every other credential")
    parser.add_argument("--log", type=Path, help="write every request into this file, one JSON object a line")
    arguments = parser.parse_args()
    try:
        script = _load(arguments.script)
    except (OSError, UnicodeDecodeError, ScriptError) as error:
        parser.error(f"{arguments.script}: {error}")
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(arguments.log.open("a", encoding="utf-8")) if arguments.log else None
        try:
            trio.run(_serve, script, arguments.port, arguments.required_token, log)
        except OSError as error:
            sys.exit(f"cannot listen on port {arguments.port}: {error}")


async def _serve(script: Script, port: int, required_token: str | None, log: TextIO | None) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with scripted_model(script, port=port, required_token=required_token, log=log) as model:
            print(model.base_url, flush=True)  # noqa: T201 - the program's output
            async for _ in signals:
                return


def _load(name: str) -> Script:
    if name == BUILTIN:
        return builtin_demo_script()
    return parse_script(Path(name).read_text(encoding="utf-8"))
