"""Runs `clonk` in processes forked from one that has imported it: in a tenth of a second instead of most of one.

Each run is a process of its own with its own environment, folder, streams and exit code. What it cannot show is how the
interpreter starts and what is imported when; tests of that start `python -m clonk_core`.
"""

import array
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

WHOLE_REQUEST_BYTES = 100_000
PRELOADED = (
    "clonk_core.app",
    "clonk_core.client.http",
    "clonk_core.client.websocket",
    "cyclopts.help",
    "rich.markdown",
)


@attrs.frozen
class Finished:
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output as one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@attrs.frozen
class ForkedClonk:
    """The process that has imported `clonk`; each connection to its socket is one run.

    Attributes:
        address: The socket's file.
    """

    address: Path

    def run(
        self, arguments: Sequence[str], *, folder: Path, environ: Mapping[str, str], stdin: str, limit_s: float
    ) -> Finished:
        """Run `clonk` to its end; killed, and TimeoutError, after `limit_s`."""
        request = json.dumps({"arguments": arguments, "folder": str(folder), "environ": dict(environ)}).encode()
        assert len(request) < WHOLE_REQUEST_BYTES
        with contextlib.ExitStack() as stack:
            given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(stdin.encode())
            given.seek(0)
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            connection.settimeout(limit_s)
            connection.connect(str(self.address))
            descriptors = array.array("i", [file.fileno() for file in (given, out, err)])
            connection.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            pid = int(connection.recv(100))
            try:
                code = int(connection.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
            out.seek(0)
            err.seek(0)
            return Finished(code, out.read().decode(), err.read().decode())


@contextlib.contextmanager
def forked_clonk() -> Iterator[ForkedClonk]:
    """Start the process that the others are forked from."""
    # The path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="clonk-forked-") as folder:
        address = Path(folder) / "socket"
        environ = {"PATH": os.environ["PATH"], "HOME": folder}
        process = subprocess.Popen(
            [sys.executable, __file__, str(address)], env=environ, cwd=folder, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            assert process.stdout.read(1) == b"."
            yield ForkedClonk(address)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


# ── the process itself ───────────────────────────────────────────────────────


def _serve(address: str) -> list[str]:
    """Fork one process for each connection. Returns in each of those that are to become `clonk`, with its arguments."""
    # Ended children are nobody's business here; the process that waits for one changes this back.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(100)
    os.write(1, b".")
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return _run(connection)
        connection.close()


def _run(connection: socket.socket) -> list[str]:
    """Fork what becomes `clonk`, in which this returns, and tell its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, descriptors, _, _ = socket.recv_fds(connection, WHOLE_REQUEST_BYTES, 3)
    request = json.loads(message)
    pid = os.fork()
    if pid:
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    connection.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]  # as `python -m` has it
    return [str(argument) for argument in request["arguments"]]


def _preload() -> None:
    import clonk_core.cli

    for name in PRELOADED:
        importlib.import_module(name)
    for module in pkgutil.iter_modules(clonk_core.cli.__path__, "clonk_core.cli."):
        importlib.import_module(module.name)
    # Otherwise the collection at each child's end would touch, and so copy, all that it shares with this process.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    # Not this folder.
    sys.path[0] = ""
    _preload()
    sys.argv[1:] = _serve(sys.argv[1])
    from clonk_core.cli.main import main

    sys.exit(main())
