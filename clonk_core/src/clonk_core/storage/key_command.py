"""The program that prints the key of the stored secrets: run within bounds of time and size."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Final

import trio

from clonk_core.errors import ConfigError

COMMAND_LIMIT_S: Final = 10.0
"""Longest time for it: a key store over the network answers within a second or two."""

MAX_OUTPUT_BYTES: Final = 4096
"""Most that it may print; a key has 44 characters."""

_PLACE: Final = "secrets.key_command"


async def run_key_command(command: Sequence[str], *, limit_s: float = COMMAND_LIMIT_S) -> bytes:
    """Return what the program prints. It gets the server's environment and no input; what it complains is dropped.

    Args:
        command: Program and arguments.
        limit_s: Longest time, in seconds.

    Raises:
        ConfigError: It cannot be started, fails, takes too long or prints too much. What it printed is not told.
    """
    try:
        with trio.CancelScope(shield=True):  # a process started and forgotten would run on
            process: trio.Process = await trio.lowlevel.open_process(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
    except OSError as error:
        raise ConfigError(f"{_PLACE}: {command[0]} cannot be started ({error.strerror})") from error
    try:
        with trio.move_on_after(limit_s):
            return await _output(process)
    finally:
        await _end(process)
    raise ConfigError(f"{_PLACE}: {command[0]} printed no key within {limit_s:g} s")


async def _output(process: trio.Process) -> bytes:
    if process.stdout is None:
        raise AssertionError("it was started with a pipe")
    printed = b""
    while piece := await process.stdout.receive_some(MAX_OUTPUT_BYTES):
        printed += piece
        if len(printed) > MAX_OUTPUT_BYTES:
            raise ConfigError(f"{_PLACE}: printed more than {MAX_OUTPUT_BYTES} bytes, which is no key")
    exit_code = await process.wait()
    if exit_code:
        raise ConfigError(f"{_PLACE}: failed with exit code {exit_code}; run it by hand to see why")
    return printed


async def _end(process: trio.Process) -> None:
    """End the process and what it started, when it is still there."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with trio.CancelScope(shield=True):
        await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()
