"""A turn that is cancelled: from `rpc.cancel` sent to its `done` received, and nothing of it left running.

Once while Claude writes, and once while a tool works that has left a command in the background and detached processes.
The cancel comes over a connection of its own, as from somebody who watches.
"""

import shlex
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import psutil

from tests.bench import lean
from tests.bench.figures import Figure, median, percentile, spread
from tests.bench.processes import Server, claudecode_section, clonk_server, scripted_model
from tests.bench.sessions import begin_chat

BOUND_S: Final = 1.0
WAIT_S: Final = 60.0
SLEEP: Final = "sleep 7654"
"""What the tools run; nothing else on a machine sleeps so long."""


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    rounds = 2 if quick else 40
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        folder = Path(name)
        begun = folder / "begun"
        with (
            scripted_model(folder, _script(begun)) as model,
            clonk_server(folder, {"claudecode": claudecode_section(model)}) as server,
            closing(lean.connect(server.http_port)) as watcher,
        ):
            for session in ("write", "work"):
                lean.http_call(watcher, "claudecode.create", name=session, permission_mode="bypassPermissions")
            writing = [_cancelled(server, watcher, "write", None) for _ in range(rounds)]
            yield _figure("cancel while Claude writes", writing)
            working = [_cancelled(server, watcher, "work", begun) for _ in range(rounds)]
            yield _figure("cancel with tools in the background", working)


def _script(begun: Path) -> dict[str, object]:
    detached = f"(setsid {SLEEP} >/dev/null 2>&1 &); (nohup {SLEEP} >/dev/null 2>&1 &)"
    work = [
        {"tool_use": "Bash", "input": {"command": SLEEP, "run_in_background": True}},
        {"tool_use": "Bash", "input": {"command": f"{detached}; touch {shlex.quote(str(begun))}; {SLEEP}"}},
    ]
    return {
        "rules": [
            {"when": "^write", "turns": [{"reply": ["It begins ", {"wait": "never"}]}]},
            {"when": "^work", "turns": work},
        ]
    }


def _cancelled(server: Server, watcher: socket.socket, session: str, begun: Path | None) -> float:
    """Begin a turn, cancel it in the middle, and return the seconds that took.

    Args:
        server: Where.
        watcher: The connection that cancels.
        session: Whose turn; also the prompt.
        begun: What its tool makes when it works; None for a turn that only writes.
    """
    with closing(lean.connect(server.http_port)) as http:
        run, reading = begin_chat(http, session, session)
        if begun is None:
            while not reading.first_text_s:
                reading.take(lean.receive(http))
        else:
            _wait_for(begun)
        cancel = lean.http_post(lean.request_json("rpc.cancel", {"subscription": run}))
        began = time.perf_counter()
        watcher.sendall(cancel)
        lean.receive_until(http, b'"type":"done"')
        took = time.perf_counter() - began
        lean.http_answer(watcher)
    if begun is not None:
        begun.unlink()
        left = sum(_is_left(process) for process in psutil.process_iter())
        if left:
            raise RuntimeError(f"{left} processes are left of a cancelled turn")
    return took


def _wait_for(path: Path) -> None:
    give_up = time.perf_counter() + WAIT_S
    while not path.exists():
        if time.perf_counter() > give_up:
            raise RuntimeError("the tool did not begin")
        time.sleep(0.01)


def _is_left(process: psutil.Process) -> bool:
    try:
        return SLEEP in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _figure(name: str, seconds: Sequence[float]) -> Figure:
    value = percentile(seconds, 95)
    return Figure(
        name=name,
        value=value * 1000,
        unit="ms",
        bound="within 1 s at the 95th percentile",
        ok=value <= BOUND_S,
        note=f"median {median(seconds) * 1000:.0f} ms, {spread(seconds, 1000)} ms; {len(seconds)} turns",
    )
