"""How long things take to start: the server until it is ready, the command line's help, the import of the plugin API."""

import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.bench.figures import Figure, median, spread
from tests.bench.processes import clonk_server, scrubbed_environment

READY_S: Final = 1.5
IMPORT_MS: Final = 100.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    starts, imports = (1, 1) if quick else (9, 21)
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        folder = Path(name)
        bare, peer, ours, helped = _in_turns(
            folder,
            imports,
            ["pass"],
            ["import attrs, pluggy"],
            ["import clonk_core.plugin"],
            ["-m", "clonk_core", "--help"],
        )
        yield from _server(folder, starts, bare)
    value = median(ours) - median(bare)
    yield Figure(
        name="import clonk_core.plugin",
        value=value * 1e3,
        unit="ms",
        peer="import attrs, pluggy",
        limit=(median(peer) - median(bare)) * 1e3,
        bound=f"under {IMPORT_MS:g} ms",
        ok=value * 1e3 < IMPORT_MS,
        note=f"beyond a bare Python's {median(bare) * 1e3:.0f} ms",
    )
    yield Figure(
        name="clonk --help",
        value=median(helped) * 1e3,
        unit="ms",
        peer="python -c pass",
        limit=median(bare) * 1e3,
        note=f"80 % within {spread(helped, 1e3)} ms",
    )


def _server(folder: Path, count: int, bare: Sequence[float]) -> Iterator[Figure]:
    """Start the server on an empty folder, and again on the same one, until `/ready` says yes."""
    first, again = [], []
    for number in range(count):
        for took in (first, again):
            began = time.perf_counter()
            with clonk_server(folder / f"server-{number}") as server:
                connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
                connection.request("GET", "/ready")
                status = connection.getresponse().status
                took.append(time.perf_counter() - began)
                connection.close()
                if status != 200:
                    raise RuntimeError(f"/ready answers {status}")
    for what, took in (("on an empty folder", first), ("again", again)):
        yield Figure(
            name=f"clonk serve ready {what}",
            value=median(took),
            unit="s",
            peer="python -c pass",
            limit=median(bare),
            bound=f"within {READY_S:g} s",
            ok=median(took) <= READY_S,
            note=f"80 % within {spread(took)} s, /ready answered",
        )


def _in_turns(folder: Path, count: int, *commands: list[str]) -> list[list[float]]:
    """Run each command in turn; return the seconds of each."""
    environment = scrubbed_environment(folder)
    took: list[list[float]] = [[] for _ in commands]
    for number in range(-1, count):  # once before, so that all files are in memory
        for command, seconds in zip(commands, took, strict=True):
            arguments = command if command[0] == "-m" else ["-c", *command]
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments], env=environment, cwd=folder, stdout=subprocess.DEVNULL, check=True
            )
            if number >= 0:
                seconds.append(time.perf_counter() - began)
    return took
