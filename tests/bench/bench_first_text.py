"""Time to the first text: what a warm session adds to the binary's own time, and what a process per prompt would take.

Four ways to ask the same scripted model the same things, in turns: Clonk over SSE, Clonk over WebSocket, the same
binary kept warm on a bare pipe, and the same binary started anew for each prompt, going on with its conversation. Each
has a conversation of its own, so their histories grow alike.
"""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.bench import lean
from tests.bench.bare_binary import bare_binary, find_binary
from tests.bench.figures import Figure, median, spread
from tests.bench.processes import claudecode_section, clonk_server, scripted_model
from tests.bench.sessions import ask_http, ask_websocket, create_session

MORE_MS: Final = 10.0
SOONER: Final = 10.0

SCRIPT: Final = {"default": "A short answer in a handful of words."}


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    rounds = 1 if quick else 40
    binary = find_binary()
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as name:
        folder = Path(name)
        with (
            scripted_model(folder, SCRIPT) as model,
            clonk_server(folder, {"claudecode": claudecode_section(model)}) as server,
            bare_binary(folder, model, binary) as bare,
        ):
            bare.initialize()
            http = lean.connect(server.http_port)
            websocket = lean.connect_websocket(server.websocket_port)
            for session in ("sse", "ws"):
                create_session(http, session)
            yield from _figures(
                _take_turns(
                    {
                        "bare": lambda prompt: bare.ask(prompt).first_text_s,
                        "sse": lambda prompt: ask_http(http, "sse", prompt)[0],
                        "ws": lambda prompt: ask_websocket(websocket, "ws", prompt)[0],
                        "cold": ProcessPerPrompt(folder, model, binary),
                    },
                    rounds,
                )
            )


def _take_turns(ways: dict[str, Callable[[str], float]], rounds: int) -> dict[str, list[float]]:
    """Ask each way in turn; return the seconds of each. Two rounds before start processes and warm up."""
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(-2, rounds):
        # Each way comes first as often as the others.
        start = number % len(ways)
        for way in [*ways][start:] + [*ways][:start]:
            seconds = ways[way](f"question {number}")
            if number >= 0:
                took[way].append(seconds)
    return took


class ProcessPerPrompt:
    """One conversation with a process for each of its prompts."""

    def __init__(self, folder: Path, model: str, binary: Path) -> None:
        self._folder = folder
        self._model = model
        self._binary = binary
        self._session = str(uuid.uuid4())
        self._resume = False

    def __call__(self, prompt: str) -> float:
        """Start the binary, ask at once, end it; return the seconds from the start to the first text."""
        began = time.perf_counter()
        with bare_binary(self._folder, self._model, self._binary, session=self._session, resume=self._resume) as bare:
            started = time.perf_counter()
            self._resume = True
            return started - began + bare.ask(prompt).first_text_s


def _figures(took: dict[str, list[float]]) -> Iterator[Figure]:
    limit, cold = median(took["bare"]), median(took["cold"])
    for way, name in (("sse", "SSE"), ("ws", "WebSocket")):
        value = median(took[way])
        more_ms = (value - limit) * 1e3
        yield Figure(
            name=f"First text over {name}",
            value=value * 1e3,
            unit="ms",
            peer="bare pipe",
            limit=limit * 1e3,
            bound=f"at most {MORE_MS:g} ms more",
            ok=more_ms <= MORE_MS,
            note=f"{more_ms:+.1f} ms; 80 % within {spread(took[way], 1e3)} ms, bare {spread(took['bare'], 1e3)} ms",
        )
    for way, name in (("sse", "SSE"), ("ws", "WebSocket")):
        value = median(took[way])
        yield Figure(
            name=f"First text over {name}",
            value=value * 1e3,
            unit="ms",
            peer="a process per prompt",
            limit=cold * 1e3,
            bound=f"{SOONER:g} times sooner",
            ok=cold >= SOONER * value,
            note=f"{cold / value:.1f} times sooner; the bare pipe {cold / limit:.1f} times",
        )
