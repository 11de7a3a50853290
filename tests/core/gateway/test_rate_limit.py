"""Token buckets: what they let through, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonk_core.gateway import rate_limit
from clonk_core.gateway.rate_limit import MemoryLimiter, Rate, parse_rate


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("text", "amount", "span_s"),
    [("100/min", 100, 60), ("10/s", 10, 1), ("1000/h", 1000, 3600), ("5/day", 5, 86400), ("2MiB/s", 2 * 2**20, 1)],
)
def test_rates_are_read_as_they_are_written(text: str, amount: int, span_s: float) -> None:
    assert parse_rate(text) == Rate(amount, span_s, amount)
    assert parse_rate(text, burst=7).burst == 7


@pytest.mark.parametrize("text", ["", "100", "100/year", "0/s", "-1/s", "1.5/s", "1e9/s", "100 /min", "9999999999/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no rate"):
        parse_rate(text)


async def test_a_burst_goes_through_at_once_and_then_the_pace_is_kept() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    rate = parse_rate("60/min", burst=3)
    assert [(await limiter.take("a", rate)).ok for _ in range(4)] == [True, True, True, False]
    refused = await limiter.take("a", rate)
    assert refused.retry_after_s == pytest.approx(1.0)
    clock.now_s += refused.retry_after_s
    assert (await limiter.take("a", rate)).ok
    assert not (await limiter.take("a", rate)).ok


async def test_what_is_left_is_told() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    rate = parse_rate("10/s")
    quotas = [(await limiter.take("a", rate)).quota for _ in range(3)]
    assert [quota.remaining for quota in quotas] == [9, 8, 7]
    assert quotas[-1].limit == 10
    assert quotas[-1].reset_s == pytest.approx(0.3)


async def test_buckets_do_not_touch_each_other() -> None:
    limiter = MemoryLimiter(Clock())
    rate = parse_rate("1/h")
    assert (await limiter.take("a", rate)).ok
    assert (await limiter.take("b", rate)).ok
    assert not (await limiter.take("a", rate)).ok


async def test_bytes_that_have_come_may_be_owed() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    rate = parse_rate("1KiB/s")
    assert (await limiter.take("a", rate, 10 * 1024, may_owe=True)).ok
    refused = await limiter.take("a", rate, 1, may_owe=True)
    assert not refused.ok
    assert refused.retry_after_s == pytest.approx(9.0, abs=0.01)
    clock.now_s += 9.01
    assert (await limiter.take("a", rate, 1, may_owe=True)).ok


async def test_a_clock_that_goes_back_gives_nothing_for_free() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    rate = parse_rate("1/s")
    assert (await limiter.take("a", rate)).ok
    clock.now_s -= 500
    assert not (await limiter.take("a", rate)).ok
    # And takes nothing away: from there the pace is kept.
    clock.now_s += 1
    assert (await limiter.take("a", rate)).ok
    assert not (await limiter.take("a", rate)).ok


async def test_the_number_of_buckets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 10)
    limiter = MemoryLimiter(Clock())
    for number in range(50):
        await limiter.take(str(number), parse_rate("1/h"))
    assert len(limiter._buckets) == 10
    assert not (await limiter.take("49", parse_rate("1/h"))).ok


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 3)), max_size=60))
async def test_never_more_than_the_burst_and_the_pace_goes_through(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    rate = Rate(2, 1.0, 5)
    began, taken = clock.now_s, 0
    for wait_s, amount in steps:
        clock.now_s += wait_s
        if (await limiter.take("a", rate, amount)).ok:
            taken += amount
        assert taken <= 5 + 2 * (clock.now_s - began) + 1e-6
