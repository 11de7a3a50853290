"""Stopping a turn that the binary is done with."""

from clonk_claudecode.engine.outcome import TurnResult
from clonk_claudecode.engine.turn import Turn


async def test_a_late_stop_cuts_short_what_the_reader_still_does_and_changes_no_outcome() -> None:
    told: list[str] = []
    turn = Turn("sub_1", "uuid")
    turn.on_late_stop = lambda: told.append("late")
    turn.finish(TurnResult(outcome="complete"))
    turn.request_stop("cancelled")
    assert told == ["late"]
    assert turn.stop_reason is None
    assert turn.result.outcome == "complete"


async def test_a_stop_in_time_is_none() -> None:
    told: list[str] = []
    turn = Turn("sub_1", "uuid")
    turn.on_late_stop = lambda: told.append("late")
    turn.request_stop("cancelled")
    assert told == []
    assert turn.stop_reason == "cancelled"
