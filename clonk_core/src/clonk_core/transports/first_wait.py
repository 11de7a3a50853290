"""Runs a coroutine in the current task and tells when it waits for the first time, if it does."""

import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def telling_first_wait(work: Coroutine[Any, Any, T], on_wait: Callable[[], None]) -> Generator[Any, Any, T]:
    """Run `work` as `await work` would, and call `on_wait` when it gives the turn to other tasks for the first time.

    What trio and the coroutine say to each other is passed through (PEP 380's `yield from`, whose first step is taken
    here by hand).

    Args:
        work: What to await; it has not begun.
        on_wait: Called at most once, in the same task, before the first wait; must not raise.
    """
    try:
        trap = work.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    on_wait()
    while True:
        try:
            answer = yield trap
        except BaseException as error:  # noqa: BLE001  (`Cancelled` and whatever else belongs to `work`)
            step = partial(work.throw, error)
        else:
            step = partial(work.send, answer)
        try:
            trap = step()
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
