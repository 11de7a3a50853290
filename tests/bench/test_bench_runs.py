"""The benchmarks still run. What they measure here means nothing, and no test asks for a speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CLONK_", "ANTHROPIC_"))}
    return subprocess.run(
        [sys.executable, RUN, *arguments], env=environment, capture_output=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("arbor", 7),
        ("calls", 4),
        ("gateway", 3),
        ("gitsync", 5),
        ("many", 9),
        ("reading", 4),
        ("start", 4),
        ("storage", 3),
    ],
)
def test_a_quick_run_gives_every_figure_beside_its_limit(name: str, count: int) -> None:
    done = run("--quick", "--json", name)
    assert done.returncode == 0, done.stderr.decode()
    figures = json.loads(done.stdout)
    assert len(figures) == count
    assert all(figure["value"] > 0 and figure["limit"] > 0 and figure["ratio"] > 0 for figure in figures)


def test_a_benchmark_that_is_not_there_is_refused() -> None:
    done = run("nonsense")
    assert done.returncode == 2
    assert b"first_text" in done.stderr
