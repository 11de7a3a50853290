"""Durable runs: numbered, stored, then shown; read by anybody from anywhere, and ended exactly once."""

from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import attrs
import orjson
import pytest
import trio

from clonk_core.errors import (
    CallCancelled,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidParams,
    NotFound,
    Unavailable,
)
from clonk_core.messages import LOCAL_CALLER, Caller, Done, Event, StopReason
from clonk_core.runs.producer import RunControl


async def never(control: RunControl) -> AsyncIterator[object]:
    yield {"type": "started"}
    await trio.sleep_forever()


async def test_events_are_numbered_from_one_and_end_with_one_done(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(1000))
        events = await tools.read(run)
        assert tools.seqs(events) == list(range(1, 1002))
        assert [orjson.loads(event.payload)["number"] for event in events[:-1]] == list(range(1, 1001))
        assert tools.done(events) == {"type": "done", "outcome": "complete"}
        assert (run.state, run.outcome, run.last_seq) == ("done", "complete", 1001)


async def test_what_is_shown_is_stored(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(300))
        async with run.follow() as batches:
            async for batch in batches:
                (stored,) = await tools.database.read(
                    lambda t: t.one("select max(last_seq) from run_events where run_id = ?", (run.id,))
                )
                assert stored >= batch[-1].seq


@pytest.mark.parametrize("kept", [False, True])
async def test_a_reader_cut_and_resumed_at_every_event_loses_nothing_and_sees_nothing_twice(
    tools: Any, kept: bool
) -> None:
    gate = trio.Event()

    async def events(control: RunControl) -> AsyncIterator[object]:
        for number in range(200):
            yield {"type": "text", "number": number}
            if number % 7 == 0:
                await trio.lowlevel.checkpoint()
        await gate.wait()

    async with tools.open(tail_events=16) as book:
        run = await tools.start(book, events)
        if kept:
            gate.set()
            await tools.read(run)
            run = await book.find(LOCAL_CALLER, run.id)
        seen: list[Event] = []
        for after in range(200):
            batch = await tools.read(run, after, until=after + 1)
            assert batch[0].seq == after + 1
            seen.append(batch[0])
        gate.set()
        seen += await tools.read(run, 200)
        assert tools.seqs(seen) == list(range(1, 202))
        tools.done(seen)


async def test_a_hundred_readers_at_their_own_pace_all_see_everything(tools: Any) -> None:
    complete = []

    async def follow(run: Any, pace: int) -> None:
        last = 0
        async with run.follow() as batches:
            async for batch in batches:
                assert [event.seq for event in batch] == list(range(last + 1, batch[-1].seq + 1))
                assert len(batch) <= 512
                last = batch[-1].seq
                for _ in range(pace % 10):
                    await trio.lowlevel.checkpoint()
        complete.append(last)

    async with tools.open(tail_events=64) as book:
        run = await tools.start(book, tools.count_to(5000))
        async with trio.open_nursery() as nursery:
            for pace in range(100):
                nursery.start_soon(follow, run, pace)
    assert complete == [5001] * 100


async def test_a_stalled_reader_holds_up_nobody_and_finds_everything_later(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(5000))
        async with run.follow() as stalled:
            first = await anext(stalled)
            assert len(await tools.read(run)) == 5001
            rest = [event for batch in [batch async for batch in stalled] for event in batch]
        assert tools.seqs([*first, *rest]) == list(range(1, 5002))


async def test_it_goes_on_without_any_reader(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(3000))
        async with run.follow() as batches:
            await anext(batches)
        with trio.CancelScope() as scope:
            async with run.follow() as batches:
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert len(await tools.read(run)) == 3001


async def test_batches_stay_within_their_bounds(tools: Any) -> None:
    sizes = [10, 300_000, 10, 100_000, 100_000, 100_000, 1, 600_000]

    async def events(control: RunControl) -> AsyncIterator[object]:
        for size in sizes:
            yield "x" * size

    async with tools.open() as book:
        run = await tools.start(book, events)
        await tools.read(run)
        for reader in (run, await book.find(LOCAL_CALLER, run.id)):
            async with reader.follow() as batches:
                lengths = [[len(event.payload) for event in batch] async for batch in batches]
            assert [length for batch in lengths for length in batch][:-1] == [size + 2 for size in sizes]
            assert all(len(batch) == 1 or sum(batch) <= 256 * 1024 for batch in lengths)


async def test_line_feeds_in_the_json_of_an_event_do_no_harm(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(
            book,
            tools.count_to(3, text="a\nb"),
            encode=lambda event: (
                orjson.dumps(event, option=orjson.OPT_INDENT_2) if isinstance(event, dict) else b'{"type":\n"done"}'
            ),
        )
        events = await tools.read(run)
        assert len(events) == 4
        kept = await tools.read(await book.find(LOCAL_CALLER, run.id))
        assert kept == events
        assert orjson.loads(events[0].payload) == {"type": "text", "text": "a\nb", "number": 1}


async def test_a_done_of_the_activation_is_the_last_event_and_comes_when_its_generator_has_closed(tools: Any) -> None:
    @attrs.frozen(kw_only=True)
    class Told(Done):
        session: str

    closed = []

    async def events(control: RunControl) -> AsyncIterator[object]:
        try:
            yield Told(outcome="refused", session="s")
            yield {"type": "never"}
        finally:
            await trio.lowlevel.checkpoint()
            closed.append(control.run_id)

    async with tools.open() as book:
        run = await tools.start(book, events)
        async with run.follow() as batches:
            assert tools.done(await anext(batches)) == {"type": "done", "outcome": "refused", "session": "s"}
            assert closed == [run.id]
        assert run.outcome == "refused"


@pytest.mark.parametrize(
    ("error", "outcome", "kind"),
    [
        (Conflict("busy", running="sub_1"), "failed", "conflict"),
        (DeadlineExceeded("late"), "limited", "deadline_exceeded"),
        (CallCancelled("no more"), "cancelled", "cancelled"),
        (Forbidden("no"), "refused", "forbidden"),
        (ValueError("a bug"), "failed", "internal"),
    ],
)
async def test_what_an_activation_raises_is_in_its_done(tools: Any, error: Exception, outcome: str, kind: str) -> None:
    async def events(control: RunControl) -> AsyncIterator[object]:
        yield {"type": "started"}
        raise error

    async with tools.open() as book:
        done = tools.done(await tools.read(await tools.start(book, events)))
        assert (done["outcome"], done["error"]["data"]["kind"]) == (outcome, kind)
    assert tools.incidents == ([error] if kind == "internal" else [])


async def test_an_event_that_cannot_be_encoded_is_an_incident_and_ends_the_run(tools: Any) -> None:
    async def events(control: RunControl) -> AsyncIterator[object]:
        yield {"type": "good"}
        yield object()

    async with tools.open() as book:
        seen = await tools.read(await tools.start(book, events))
        assert len(seen) == 2
        assert tools.done(seen)["error"]["data"]["kind"] == "internal"
        assert len(tools.incidents) == 1


async def test_make_events_that_raises_ends_the_run(tools: Any) -> None:
    def raises(control: RunControl) -> AsyncIterator[object]:
        raise Conflict("busy")

    async with tools.open() as book:
        done = tools.done(await tools.read(await tools.start(book, raises)))
        assert done["error"]["data"]["kind"] == "conflict"


async def test_errors_in_a_nursery_of_the_activation_end_its_run_alone(tools: Any) -> None:
    async def fail() -> None:
        raise ValueError("inside")

    async def events(control: RunControl) -> AsyncIterator[object]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield {"type": "started"}
            await trio.sleep_forever()

    async with tools.open() as book:
        other = await tools.start(book, never)
        done = tools.done(await tools.read(await tools.start(book, events)))
        assert done["error"]["data"]["kind"] == "internal"
        assert other.state == "running"


async def test_stop_without_a_handler_cancels_at_once(tools: Any) -> None:
    async with tools.open() as book:
        run = await tools.start(book, never)
        await tools.read(run, until=1)
        await run.stop("cancelled")
        assert (run.state, run.outcome) == ("done", "cancelled")
        assert tools.done(await tools.read(run))["error"]["data"]["kind"] == "cancelled"
        await run.stop("cancelled")


async def test_a_stop_handler_is_told_why_and_the_activation_says_its_last_words(tools: Any) -> None:
    async def events(control: RunControl) -> AsyncIterator[object]:
        told: list[StopReason] = []
        asked = trio.Event()

        def handler(reason: StopReason) -> None:
            told.append(reason)
            asked.set()

        control.add_stop_handler(handler)
        yield {"type": "started"}
        await asked.wait()
        yield {"type": "last_words", "told": told}

    async with tools.open() as book:
        run = await tools.start(book, events)
        await tools.read(run, until=1)
        await run.stop("cancelled")
        seen = await tools.read(run)
        assert orjson.loads(seen[1].payload) == {"type": "last_words", "told": ["cancelled"]}
        assert tools.done(seen)["outcome"] == "cancelled"


async def test_an_activation_that_does_not_heed_its_stop_handler_is_cancelled_after_the_grace(tools: Any) -> None:
    async def events(control: RunControl) -> AsyncIterator[object]:
        control.add_stop_handler(lambda reason: None)
        yield {"type": "started"}
        await trio.sleep_forever()

    async with tools.open(stop_grace_s=0.05) as book:
        run = await tools.start(book, events)
        await tools.read(run, until=1)
        await run.stop("cancelled")
        assert run.outcome == "cancelled"


async def test_a_stop_handler_that_raises_is_an_incident_and_the_run_is_cancelled(tools: Any) -> None:
    def handler(reason: StopReason) -> None:
        raise ValueError("a bug")

    async def events(control: RunControl) -> AsyncIterator[object]:
        control.add_stop_handler(handler)
        yield {"type": "started"}
        await trio.sleep_forever()

    async with tools.open() as book:
        run = await tools.start(book, events)
        await tools.read(run, until=1)
        await run.stop("cancelled")
        assert len(tools.incidents) == 1


async def test_a_run_out_of_time_is_limited(tools: Any) -> None:
    deadlines = []

    async def events(control: RunControl) -> AsyncIterator[object]:
        deadlines.append(control.deadline)
        async for event in never(control):
            yield event

    async with tools.open() as book:
        run = await tools.start(book, events, deadline_s=0.05)
        done = tools.done(await tools.read(run))
        assert (done["outcome"], done["error"]["data"]["kind"]) == ("limited", "deadline_exceeded")
        assert deadlines[0] is not None


async def test_progress_is_an_event_among_the_others(tools: Any) -> None:
    async def events(control: RunControl) -> AsyncIterator[object]:
        await control.report(1, 2, "half")
        yield {"type": "result"}
        await control.report(2, None, None)

    async with tools.open() as book:
        seen = [orjson.loads(event.payload) for event in await tools.read(await tools.start(book, events))]
        assert seen[0] == {"type": "progress", "done": 1, "total": 2, "message": "half"}
        assert [event["type"] for event in seen] == ["progress", "result", "progress", "done"]


async def test_the_generator_sees_the_context_of_the_task_that_started_it(tools: Any) -> None:
    variable: ContextVar[str] = ContextVar("variable")

    async def events(control: RunControl) -> AsyncIterator[object]:
        yield {"type": "text", "text": variable.get()}

    async with tools.open() as book:
        variable.set("mine")
        seen = await tools.read(await tools.start(book, events))
        assert orjson.loads(seen[0].payload)["text"] == "mine"


@pytest.mark.parametrize("after", [-1, 3, 10**12])
async def test_a_place_the_run_does_not_have_is_refused(tools: Any, after: int) -> None:
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(1))
        await tools.read(run)
        for reader in (run, await book.find(LOCAL_CALLER, run.id)):
            with pytest.raises(InvalidParams):
                async with reader.follow(after):
                    pass
            assert await tools.read(reader, 2) == []


async def test_an_activation_runs_ahead_of_the_disk_only_so_far(tools: Any) -> None:
    made = []

    async def events(control: RunControl) -> AsyncIterator[object]:
        for number in range(2000):
            made.append(number)
            yield {"type": "text", "number": number}

    async with tools.open(ahead_events=10) as book:
        run = await tools.start(book, events)
        async with run.follow() as batches:
            async for batch in batches:
                assert len(made) <= run.last_seq + 11
                assert len(batch) <= 1000
        assert len(made) == 2000


async def test_cancelled_at_any_point_a_reader_leaves_the_run_whole(tools: Any) -> None:
    async with tools.open(tail_events=8) as book:
        run = await tools.start(book, tools.count_to(2000))
        for checkpoints in range(60):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tools.read, run)
                    for _ in range(checkpoints):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        assert tools.seqs(await tools.read(run)) == list(range(1, 2002))


async def test_stopped_at_any_point_a_run_has_one_done_and_no_hole(tools: Any) -> None:
    async with tools.open() as book:
        for checkpoints in range(40):
            run = await tools.start(book, tools.count_to(3000))
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            await run.stop("cancelled")
            events = await tools.read(run)
            assert tools.seqs(events) == list(range(1, len(events) + 1))
            assert tools.done(events)["outcome"] in ("cancelled", "complete")


async def test_a_start_that_is_cancelled_leaves_a_whole_run_or_none(tools: Any) -> None:
    async with tools.open() as book:
        for checkpoints in range(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tools.start, book, tools.count_to(3))
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        for summary in await book.list(LOCAL_CALLER):
            await tools.read(await book.find(LOCAL_CALLER, summary.subscription))
        assert {summary.state for summary in await book.list(LOCAL_CALLER)} <= {"done"}


async def test_only_its_caller_finds_a_run_or_one_who_may_call_its_method(tools: Any) -> None:
    other, elsewhere = Caller(id="other"), Caller(id="local", tenant="elsewhere")
    async with tools.open() as book:
        run = await tools.start(book, tools.count_to(1))
        for _ in ("running", "kept"):
            assert (await book.find(LOCAL_CALLER, run.id)).id == run.id
            assert (await book.find(other, run.id, allows=lambda method, _target: method == "test.stream")).id == run.id
            for caller, allowed in ((other, False), (elsewhere, True)):
                with pytest.raises(NotFound):
                    await book.find(caller, run.id, allows=lambda method, allowed=allowed: allowed)
            await tools.read(run)
        with pytest.raises(NotFound):
            await book.find(LOCAL_CALLER, "sub_nothing")


async def test_runs_are_listed_newest_first_in_pages(tools: Any) -> None:
    async with tools.open() as book:
        started = []
        for number in range(7):
            run = await tools.start(book, tools.count_to(2) if number < 4 else never, durable=number != 6)
            if number < 4:
                await tools.read(run)
            started.append(run.id)
        page = await book.list(LOCAL_CALLER, limit=5)
        rest = await book.list(LOCAL_CALLER, limit=5, before=page[-1].subscription)
        assert [summary.subscription for summary in [*page, *rest]] == started[::-1]
        assert [summary.state for summary in [*page, *rest]] == ["running"] * 3 + ["done"] * 4
        assert [summary.durable for summary in page] == [False, True, True, True, True]
        assert (rest[-1].last_seq, rest[-1].outcome, rest[-1].method) == (3, "complete", "test.stream")
        assert rest[-1].ended_at is not None
        assert await book.list(Caller(id="other")) == []


async def test_stop_all_ends_every_run_within_its_bound_and_starts_no_more(tools: Any) -> None:
    async def deaf(control: RunControl) -> AsyncIterator[object]:
        control.add_stop_handler(lambda reason: None)
        async for event in never(control):
            yield event

    async with tools.open() as book:
        runs = [await tools.start(book, make) for make in (never, deaf, never)]
        with trio.fail_after(5):
            await book.stop_all("shutdown", within_s=0.1)
        for run in runs:
            done = tools.done(await tools.read(run))
            assert (done["outcome"], done["error"]["data"]["kind"]) == ("failed", "server_restarted")
        with pytest.raises(Unavailable):
            await tools.start(book, never)
        assert book.running == ()


async def test_two_books_in_one_process_do_not_notice_each_other(tools: Any) -> None:
    (tools.data_dir / "other").mkdir()
    async with tools.open() as book, tools.open(data_dir=tools.data_dir / "other") as other:
        run = await tools.start(book, never)
        with pytest.raises(NotFound):
            await other.find(LOCAL_CALLER, run.id)
        assert other.running == ()
        await other.stop_all(within_s=1)
        assert run.state == "running"


async def test_an_error_inside_the_book_comes_out_as_it_is_and_its_runs_are_ended(tools: Any) -> None:
    with pytest.raises(KeyError):
        async with tools.open() as book:
            run = await tools.start(book, never)
            raise KeyError("mine")
    assert run.outcome == "failed"


async def test_cancelled_around_the_book_its_runs_end_in_order(tools: Any) -> None:
    with trio.CancelScope() as scope:
        async with tools.open() as book:
            run = await tools.start(book, never)
            await tools.read(run, until=1)
            scope.cancel()
            await trio.sleep_forever()
    assert run.outcome == "failed"
    async with tools.open() as book:
        done = tools.done(await tools.read(await book.find(LOCAL_CALLER, run.id)))
        assert done["error"]["data"]["kind"] == "server_restarted"
