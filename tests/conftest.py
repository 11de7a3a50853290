"""Rules for every test: async tests end within their deadline, some run alone, nothing is skipped unseen in CI."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Generator, Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trio

from tests.alone import room
from tests.forked_clonk import ForkedClonk, forked_clonk

DEFAULT_DEADLINE_S = 60.0

# How fast examples are made depends on what else the machine does.
hypothesis.settings.register_profile(
    "clonk",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
hypothesis.settings.load_profile("clonk")

# A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


MAX_WORKERS = 8
"""A worker and the programs that its tests start take some 500 MiB."""

_locks_folder = pytest.StashKey[str]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: one worker more than processors, as most tests wait for a timer or a program."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(processors + 1, MAX_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the locks are that it shares with the others; see `tests.alone`."""
    config: pytest.Config = node.config
    if _locks_folder not in config.stash:
        config.stash[_locks_folder] = folder = tempfile.mkdtemp(prefix="clonk-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder))
    node.workerinput["locks_folder"] = config.stash[_locks_folder]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test with its fixtures beside those of other workers, or alone if it is marked so."""
    worker: dict[str, str] = getattr(item.config, "workerinput", {})
    with contextlib.ExitStack() as stack:
        if "locks_folder" in worker:
            stack.enter_context(room(Path(worker["locks_folder"]), alone=item.get_closest_marker("alone") is not None))
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that run alone last, and bound every async test by `@pytest.mark.deadline(seconds)`, or 60 s.

    pytest-timeout stops a test by a signal or a thread, which leaves trio's threads and processes behind; a cancelled
    scope lets the test and its fixtures clean up.
    """
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        marker = item.get_closest_marker("deadline")
        seconds = float(marker.args[0] if marker.args else marker.kwargs["seconds"]) if marker else DEFAULT_DEADLINE_S
        handle = getattr(item.obj, "hypothesis", None)
        if handle is not None:
            if iscoroutinefunction(handle.inner_test):
                handle.inner_test = _bounded(handle.inner_test, seconds)
        elif iscoroutinefunction(item.obj):
            # Ahead of the marker that trio_mode appends, so that ours is the runner that pytest-trio takes.
            item.add_marker(pytest.mark.trio(run=functools.partial(_run_bounded, seconds)), append=False)


def _bounded(function: Callable[..., Awaitable[Any]], seconds: float) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def bounded(*args: Any, **kwargs: Any) -> Any:
        with trio.fail_after(seconds):
            return await function(*args, **kwargs)

    return bounded


def _run_bounded(seconds: float, main: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    """Run the test with its async fixtures, all of it within `seconds`."""

    async def bounded_main() -> Any:
        with trio.fail_after(seconds):
            return await main()

    return trio.run(bounded_main, **options)


def _fail_if_unmet_need(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip with a reason "needs ..." into a failure under CI: what is missing there is a broken CI."""
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if reason.startswith("needs "):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI must have what it {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_unmet_need(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_unmet_need(report)
    return report


@pytest.fixture(scope="session")
def forked() -> Iterator[ForkedClonk]:
    """Where processes that only have to be `clonk` come from."""
    with forked_clonk() as running:
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path, None, None]:
    """A file system of 2 MiB, to be filled."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"needs the right to mount a small tmpfs ({made.stderr.strip()})")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.fixture
def fill_the_disk() -> Callable[[Path], None]:
    """Write a file until its disk has no room left."""

    def fill(ballast: Path) -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    return fill
