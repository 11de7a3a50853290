"""Runs the benchmarks and prints each figure beside its limit. `make bench`, or `python tests/bench/run.py --help`."""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Final

# Run as a file: the folder above `tests` is where `tests.bench` is found.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.bench.figures import Figure  # noqa: E402

BENCHMARKS: Final = {
    "arbor": "nodes written one by one and as paths, a long path read, a tree of a million nodes, against raw apsw",
    "calls": "plain calls over HTTP and WebSocket, against an echo on the bare libraries",
    "cancel": "a turn cancelled in the middle, from the request to its last event, with nothing left running",
    "first_text": "time to the first text on a warm session, against the bare binary and a process per prompt",
    "forks": "a fork and its first text, against the cold start of the bare binary",
    "gateway": "what key, scope, limit, validation and audit add to a plain call, against the same call without",
    "memory": "memory of the server for each parked and each live session",
    "gitsync": "status, diff and sync of workspaces, against the same git commands by hand; sync of 50 at once",
    "many": "200 sessions that stream at once, 2 000 that are parked, and a start with them",
    "reading": "the first page of 10 000 sessions, and 1 000 missed events caught up with, against the bytes alone",
    "relay": "a reply of 50 000 deltas, live to 1 and 20 readers and replayed, against the bare binary",
    "start": "start of the server and of the command line, and what importing the plugin API takes",
    "storage": "events written to the run journal, against SQLite with the same statements",
}


def main() -> int:
    """Return 0 when every bound is kept, 1 when one is not."""
    parser = argparse.ArgumentParser(
        description="Measure Clonk against its limits.",
        epilog="\n".join(f"  {name:<12}{what}" for name, what in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all when left out")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="only see whether they work; the figures mean nothing")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    figures: list[Figure] = []
    for name in arguments.names or BENCHMARKS:
        measured = importlib.import_module(f"tests.bench.bench_{name}").measure(quick=arguments.quick)
        for figure in measured:
            figures.append(figure)
            if not arguments.json:
                print(figure.line(), flush=True)
    if arguments.json:
        print(json.dumps([figure.as_json() for figure in figures], indent=2))
    over = [figure.name for figure in figures if figure.ok is False]
    if over:
        print(f"over their bound: {', '.join(over)}", file=sys.stderr)
    return 1 if over and not arguments.quick else 0


if __name__ == "__main__":
    sys.exit(main())
