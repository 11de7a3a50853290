"""Time to the first text of a fork: what forking adds to the binary's own cold start.

A conversation of 30 turns is forked in its middle and the fork is asked something, as often as the same binary is
started anew on a bare pipe to go on with a conversation of the same length; in turns.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import lean
from tests.bench.bare_binary import find_binary
from tests.bench.bench_first_text import SCRIPT, ProcessPerPrompt
from tests.bench.figures import Figure, median, spread
from tests.bench.processes import claudecode_section, clonk_server, scripted_model
from tests.bench.sessions import ask_http, create_session

MORE_MS: Final = 150.0
TURNS: Final = 30


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    rounds, turns = (1, 2) if quick else (20, TURNS)
    binary = find_binary()
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        folder = Path(name)
        with (
            scripted_model(folder, SCRIPT) as model,
            clonk_server(folder, {"claudecode": claudecode_section(model)}) as server,
        ):
            http = lean.connect(server.http_port)
            create_session(http, "trunk")
            for number in range(turns):
                ask_http(http, "trunk", f"question {number}")
            history = lean.http_call(http, "claudecode.history", name="trunk", limit=1000)
            snapshot_id = history[turns - 1]["snapshot_id"]
            cold = ProcessPerPrompt(folder, model, binary)
            for number in range(turns // 2):
                cold(f"question {number}")
            forks: list[float] = []
            wholes: list[float] = []
            colds: list[float] = []
            for number in range(rounds):
                colds.append(cold(f"question {number}"))
                # The server has closed one that was quiet for so long.
                http.close()
                http = lean.connect(server.http_port)
                began = time.perf_counter()
                lean.http_call(http, "claudecode.fork", name="trunk", snapshot_id=snapshot_id, new_name="fork")
                forks.append(time.perf_counter() - began)
                wholes.append(forks[-1] + ask_http(http, "fork", "another question")[0])
                lean.http_call(http, "claudecode.delete", name="fork")
    more_ms = (median(wholes) - median(colds)) * 1e3
    yield Figure(name="Fork alone", value=median(forks) * 1e3, unit="ms", note=f"80 % within {spread(forks, 1e3)} ms")
    yield Figure(
        name="Fork and its first text",
        value=median(wholes) * 1e3,
        unit="ms",
        peer="the binary's own cold start",
        limit=median(colds) * 1e3,
        bound=f"at most {MORE_MS:g} ms more",
        ok=more_ms <= MORE_MS,
        note=f"{more_ms:+.1f} ms; 80 % within {spread(wholes, 1e3)} ms, cold {spread(colds, 1e3)} ms",
    )
