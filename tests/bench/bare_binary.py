"""The real Claude Code binary on a bare pipe: started by hand, spoken to by hand, its lines read and not even parsed.

What Clonk is held against. It gets the arguments and the environment that Clonk gives it.
"""

import fcntl
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_claudecode.engine.binary import BinaryFinder
from clonk_claudecode.engine.environment import build_environment, credential_pipe, prepare_config_dir
from clonk_claudecode.engine.launch import build_arguments
from clonk_claudecode.engine.spec import Credential, EngineSettings, SessionSpec
from tests.bench.processes import TOKEN, scrubbed_environment

PIPE_BYTES: Final = 256 * 1024

_STREAM: Final = b'{"type":"stream_event"'
_TEXT: Final = b'"text_delta"'
_END: Final = b'"type":"result"'


@attrs.frozen(kw_only=True)
class Answer:
    """When an answer came.

    Attributes:
        first_text_s: Seconds from the prompt to the first piece of text.
        last_text_s: Seconds from the prompt to the last piece of text.
        deltas: Number of pieces.
    """

    first_text_s: float
    last_text_s: float
    deltas: int


class BareBinary:
    """A running binary. Made by `bare_binary`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin.fileno()
        self._stdout = process.stdout.fileno()
        self._rest = b""

    def initialize(self) -> None:
        """Wait until it is ready."""
        request = {
            "type": "control_request",
            "request_id": "bench",
            "request": {"subtype": "initialize", "hooks": None},
        }
        self._write(request)
        while not any(b'"control_response"' in line for line in self._read_lines()):
            pass

    def ask(self, prompt: str) -> Answer:
        """Say something and read until the end of the turn."""
        frame = {
            "type": "user",
            "uuid": str(uuid.uuid4()),
            "message": {"role": "user", "content": prompt},
            "parent_tool_use_id": None,
            "client_composed": True,
        }
        began = time.perf_counter()
        self._write(frame)
        return self._read_answer(began)

    def _read_answer(self, began: float) -> Answer:
        first = last = 0.0
        deltas = 0
        while True:
            lines = self._read_lines()
            now = time.perf_counter()
            seen = sum(_TEXT in line for line in lines if line.startswith(_STREAM))
            if seen:
                first = first or now
                last = now
                deltas += seen
            if any(_END in line and not line.startswith(_STREAM) for line in lines):
                return Answer(first_text_s=first - began, last_text_s=last - began, deltas=deltas)

    def _write(self, frame: Mapping[str, Any]) -> None:
        data = json.dumps(frame).encode() + b"\n"
        while data:
            data = data[os.write(self._stdin, data) :]

    def _read_lines(self) -> list[bytes]:
        data = os.read(self._stdout, PIPE_BYTES)
        if not data:
            raise RuntimeError("the binary has ended")
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


def find_binary() -> Path:
    """Return the binary that Clonk would take."""
    return trio.run(BinaryFinder().find).path


@contextmanager
def bare_binary(
    folder: Path, model_url: str, binary: Path, *, session: str = "", resume: bool = False
) -> Iterator[BareBinary]:
    """Start the binary as Clonk does, and end it afterwards.

    Args:
        folder: Its configuration and its working directory go below.
        model_url: Where the scripted model is.
        binary: The binary.
        session: UUID of the conversation; a new one when empty.
        resume: Whether the conversation goes on that an earlier process has had.
    """
    workspace = folder / "bare"
    workspace.mkdir(parents=True, exist_ok=True)
    settings = EngineSettings(
        config_dir=folder / "bare-claude",
        run_dir=folder / "bare-run",
        env={"ANTHROPIC_BASE_URL": model_url, "IS_SANDBOX": "1"},
        max_retries=1,
    )
    spec = SessionSpec(session_id="sess_bare", claude_session_id=session or str(uuid.uuid4()), working_dir=workspace)
    prepare_config_dir(settings.config_dir)
    with credential_pipe(Credential(kind="api_key", secret=TOKEN)) as (descriptors, variables):
        environment = build_environment(settings, mark="bench", environ=scrubbed_environment(folder))
        process = subprocess.Popen(
            [str(binary), *build_arguments(spec, resume=resume)],
            env={**environment, **variables},
            cwd=workspace,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=descriptors,
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    try:
        yield BareBinary(process)
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
