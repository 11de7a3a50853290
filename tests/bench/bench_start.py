"""How long starting takes: the server until it is ready, the command line's help, the import of the plugin API."""

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from tests.bench.figures import Figure, median, spread
from tests.bench.lean import cpu_s
from tests.bench.processes import clonk_server, scrubbed_environment

READY_S: Final = 1.5
IMPORT_MS: Final = 100.0


@attrs.define
class Times:
    """What a command has taken, run by run: seconds on the clock, and seconds of CPU time."""

    clock_s: list[float] = attrs.field(factory=list)
    cpu_s: list[float] = attrs.field(factory=list)


COMMANDS: Final = {
    "bare": ["-c", "pass"],
    "peer": ["-c", "import attrs, pluggy"],
    "plugin": ["-c", "import clonk_core.plugin"],
    "help": ["-m", "clonk_core", "--help"],
}


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    starts, runs = (1, 1) if quick else (9, 21)
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        took = _in_turns(Path(name), runs)
        yield from _server(Path(name), starts, took["bare"])
    bare, peer, plugin = took["bare"], took["peer"], took["plugin"]
    value = median(plugin.clock_s) - median(bare.clock_s)
    cpu = median(plugin.cpu_s) - median(bare.cpu_s)
    yield Figure(
        name="import clonk_core.plugin",
        value=value * 1e3,
        unit="ms",
        peer="import attrs, pluggy",
        limit=(median(peer.clock_s) - median(bare.clock_s)) * 1e3,
        bound=f"under {IMPORT_MS:g} ms",
        ok=value * 1e3 < IMPORT_MS,
        note=f"CPU {cpu * 1e3:.0f} ms; both beyond a bare Python's {median(bare.clock_s) * 1e3:.0f} ms",
    )
    helped = took["help"]
    yield Figure(
        name="clonk --help",
        value=median(helped.clock_s) * 1e3,
        unit="ms",
        peer="python -c pass",
        limit=median(bare.clock_s) * 1e3,
        note=f"CPU {median(helped.cpu_s) * 1e3:.0f} ms; 80 % within {spread(helped.clock_s, 1e3)} ms",
    )


def _server(folder: Path, count: int, bare: Times) -> Iterator[Figure]:
    """Start the server on an empty folder, and again on the same one, until `/ready` says yes."""
    first, again = Times(), Times()
    for number in range(count):
        for times in (first, again):
            began = time.perf_counter()
            with clonk_server(folder / f"server-{number}") as server:
                connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
                connection.request("GET", "/ready")
                answer = connection.getresponse()
                times.clock_s.append(time.perf_counter() - began)
                times.cpu_s.append(cpu_s(server.pid))
                if answer.status != 200:
                    raise RuntimeError(f"/ready answers {answer.status}: {answer.read()!r}")
                connection.close()
    for what, times in (("on an empty folder", first), ("again", again)):
        value = median(times.clock_s)
        yield Figure(
            name=f"clonk serve ready {what}",
            value=value,
            unit="s",
            peer="python -c pass",
            limit=median(bare.clock_s),
            bound=f"within {READY_S:g} s",
            ok=value <= READY_S,
            note=f"CPU {median(times.cpu_s):.2f} s; 80 % within {spread(times.clock_s)} s; /ready answered",
        )


def _in_turns(folder: Path, count: int) -> dict[str, Times]:
    """Run each command in turn, once more than is counted, so that all files are in memory."""
    environment = scrubbed_environment(folder)
    took = {name: Times() for name in COMMANDS}
    for number in range(-1, count):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *arguments], env=environment, cwd=folder, stdout=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                raise RuntimeError(f"{arguments} ended with exit code {process.returncode}")
            if number >= 0:
                took[name].clock_s.append(seconds)
                took[name].cpu_s.append(usage.ru_utime + usage.ru_stime)
    return took
