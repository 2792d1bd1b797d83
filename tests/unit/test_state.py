"""The shared state, in the file of one machine and in Redis: both against a simple model, and what is theirs alone."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aion_extproc.accounting.holds import (
    MINUTE_US,
    BucketHold,
    BudgetHold,
    Hold,
    Settled,
    Settlement,
    SlotHold,
    Verdict,
    bucket_wait_us,
    need_us,
    remaining,
)
from aion_extproc.stores import state_redis
from aion_extproc.stores.state import DONE_SECONDS, Failure, Seed, State
from aion_extproc.stores.state_local import LocalState
from aion_extproc.stores.state_redis import RedisState
from tests.support.redis import RedisServer, redis_server

ACCOUNTS = ("key:a:20261122", "key:b:20261122", "tenant:t:202611")
SLOTS = ("key:a", "key:b")
IDS = tuple(f"r{n}" for n in range(6))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Clock:
    def __init__(self) -> None:
        self.us = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.us


async def reserve(state: State, hold: Hold) -> Verdict | Failure:
    answer: asyncio.Future[Verdict | Failure] = asyncio.get_running_loop().create_future()
    state.reserve(hold, answer.set_result)
    return await answer


async def granted(state: State, hold: Hold) -> bool:
    verdict = await reserve(state, hold)
    assert isinstance(verdict, Verdict)
    return verdict.granted


async def settle(state: State, *settlements: Settlement) -> Sequence[Settled]:
    answer: asyncio.Future[Sequence[Settled] | Failure] = asyncio.get_running_loop().create_future()
    state.settle(settlements, answer.set_result)
    told = await answer
    assert not isinstance(told, str)
    return told


def seeded(spent: dict[str, int] | None = None, done: Sequence[str] = ()) -> Callable[[], Seed]:
    return lambda: Seed(spent or {}, done)


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("states")
    return (base / str(number) for number in itertools.count())


Play = Callable[[State], Awaitable[None]]


def play_local(directory: Path, play: Play) -> None:
    async def run() -> None:
        state = LocalState(directory, timeout=60)
        await state.seed(seeded())
        await play(state)
        state.close()

    asyncio.run(run())


def play_redis(redis: RedisServer, play: Play, **options: Any) -> None:
    async def run() -> None:
        redis.command("FLUSHALL")
        state = RedisState(redis.url, call_timeout=2, timeout=60, **options)
        state.open()
        assert await state.connected(10)
        await state.seed(seeded())
        await play(state)
        state.close()

    asyncio.run(run())


# One step: reserve (id, amounts, slots) or settle (id, costs).
amounts = st.integers(0, 60)
reservations = st.tuples(
    st.sampled_from(IDS),
    st.dictionaries(st.sampled_from(ACCOUNTS), amounts, max_size=3),
    st.sets(st.sampled_from(SLOTS)),
)
ends = st.tuples(st.sampled_from(IDS), st.dictionaries(st.sampled_from(ACCOUNTS), amounts, max_size=3))
steps = st.lists(st.one_of(reservations, ends), max_size=40)
LIMIT, MOST_OPEN = 100, 2


async def against_the_model(state: State, steps: Sequence[Any]) -> None:
    spent: dict[str, int] = dict.fromkeys(ACCOUNTS, 0)
    held: dict[str, tuple[dict[str, int], set[str]]] = {}
    done: set[str] = set()
    for step in steps:
        if len(step) == 3:
            id, wants, slots = step
            held.pop(id, None)
            used = {a: spent[a] + sum(h.get(a, 0) for h, _ in held.values()) for a in ACCOUNTS}
            opened = {s: sum(s in there for _, there in held.values()) for s in SLOTS}
            fits = all(not amount or used[a] + amount <= LIMIT for a, amount in wants.items())
            fits = fits and all(opened[s] < MOST_OPEN for s in slots)
            verdict = await reserve(
                state,
                Hold(
                    id,
                    tuple(BudgetHold(a, LIMIT, amount) for a, amount in wants.items()),
                    slots=tuple(SlotHold(s, MOST_OPEN) for s in slots),
                ),
            )
            assert verdict == Verdict(fits, tuple(used[a] for a in wants), (), tuple(opened[s] for s in slots))
            if fits and id not in done:  # else it has ended before it was asked for
                held[id] = (wants, slots)
        else:
            id, costs = step
            (settled,) = await settle(state, Settlement(id, tuple(costs.items())))
            held.pop(id, None)
            if id in done:
                assert settled == Settled()
                continue
            done.add(id)
            before = tuple(spent[a] for a in costs)
            for account, cost in costs.items():
                spent[account] += cost
            assert settled == Settled(before, tuple(spent[a] for a in costs))


@given(steps=steps)
@settings(deadline=None)
def test_the_file_does_what_the_model_does(directories: Iterator[Path], steps: Sequence[Any]) -> None:
    play_local(next(directories), lambda state: against_the_model(state, steps))


@given(steps=steps)
@settings(deadline=None, max_examples=60)
def test_redis_does_what_the_model_does(redis: RedisServer, steps: Sequence[Any]) -> None:
    play_redis(redis, lambda state: against_the_model(state, steps))


def tokens(id: str, amount: int, limit: int = 600) -> Hold:
    return Hold(id, buckets=(BucketHold("key:a:t", limit, amount, "tokens"),))


def waits(hold: Hold, verdict: Verdict | Failure) -> float:
    assert isinstance(verdict, Verdict)
    return bucket_wait_us(hold.buckets[0], verdict.backlog_us[0]) / 1e6


async def a_bucket(state: State) -> None:
    """600 a minute: ten come back in a second. With Redis the time runs by itself, so there is some play."""
    assert await granted(state, tokens("1", 500))
    denied = await reserve(state, tokens("2", 200))
    assert waits(tokens("2", 200), denied) == pytest.approx(10, abs=0.5)
    assert await granted(state, tokens("3", 100))
    # The first one used 200 only: what it did not need is there again.
    await settle(state, Settlement("1", tokens=200))
    assert await granted(state, tokens("4", 300))
    assert waits(tokens("5", 1), await reserve(state, tokens("5", 1))) == pytest.approx(0, abs=0.5)
    # The next one used more than it had said, and others wait for that.
    await settle(state, Settlement("4", tokens=600))
    assert waits(tokens("6", 100), await reserve(state, tokens("6", 100))) == pytest.approx(40, abs=0.5)


def test_tokens_come_back_and_are_put_right_in_the_file(directories: Iterator[Path]) -> None:
    play_local(next(directories), a_bucket)


def test_tokens_come_back_and_are_put_right_in_redis(redis: RedisServer) -> None:
    play_redis(redis, a_bucket)


async def a_large_one(state: State) -> None:
    assert await granted(state, tokens("1", 6000))  # ten minutes' worth, and the bucket was full
    assert waits(tokens("2", 1), await reserve(state, tokens("2", 1))) == pytest.approx(540, abs=0.5)


def test_what_is_larger_than_a_minute_waits_for_a_full_bucket(redis: RedisServer, directories: Iterator[Path]) -> None:
    play_local(next(directories), a_large_one)
    play_redis(redis, a_large_one)


@given(
    limit=st.integers(1, 10**9),
    requests=st.lists(st.tuples(st.integers(0, 10**8), st.integers(1, 10**6)), min_size=1, max_size=60),
)
@settings(deadline=None)
def test_a_bucket_never_grants_more_than_its_limit_and_its_wait_is_true(
    directories: Iterator[Path], limit: int, requests: Sequence[tuple[int, int]]
) -> None:
    clock = Clock()
    state = LocalState(next(directories), 60, clock)
    asyncio.run(state.seed(seeded()))
    given: list[tuple[int, int]] = []
    for number, (later, share) in enumerate(requests):
        clock.us += later
        amount = max(1, limit * share // 10**6)
        one = Hold(str(number), buckets=(BucketHold("b", limit, amount, "requests"),))
        verdict = asyncio.run(reserve(state, one))
        assert isinstance(verdict, Verdict)
        wait = bucket_wait_us(one.buckets[0], verdict.backlog_us[0])
        if not verdict.granted:
            assert amount > remaining(limit, verdict.backlog_us[0])
            clock.us += wait - 1
            assert not asyncio.run(granted(state, one))
            clock.us += 1
            assert asyncio.run(granted(state, one))
        given.append((clock.us, amount))
    # In any time the limit's worth of it, and one bucket that was full at its start.
    for first, last in itertools.combinations_with_replacement(range(len(given)), 2):
        between = given[last][0] - given[first][0]
        used = sum(need_us(amount, limit) for _, amount in given[first : last + 1])
        assert used <= between + MINUTE_US
    state.close()


def test_who_is_never_heard_of_again_holds_nothing_for_ever(directories: Iterator[Path]) -> None:
    clock = Clock()
    state = LocalState(next(directories), 60, clock)
    asyncio.run(state.seed(seeded()))
    hold = Hold("1", (BudgetHold(ACCOUNTS[0], 100, 80),), slots=(SlotHold("key:a", 1),))
    other = Hold("2", (BudgetHold(ACCOUNTS[0], 100, 80),), slots=(SlotHold("key:a", 1),))
    assert asyncio.run(granted(state, hold))
    clock.us += 59_999_999
    assert not asyncio.run(granted(state, other))
    clock.us += 1
    assert asyncio.run(granted(state, other))
    # Its end comes after all: what it cost is counted, and nothing is released twice.
    asyncio.run(settle(state, Settlement("1", ((ACCOUNTS[0], 15),))))
    assert asyncio.run(reserve(state, Hold("3", (BudgetHold(ACCOUNTS[0], 100, 6),)))) == Verdict(False, (95,))
    state.close()


def test_an_orphan_in_redis_is_released(redis: RedisServer) -> None:
    async def run() -> None:
        redis.command("FLUSHALL")
        state = RedisState(redis.url, call_timeout=2, timeout=0.05)
        state.open()
        assert await state.connected(10)
        await state.seed(seeded())
        assert await granted(state, Hold("1", (BudgetHold(ACCOUNTS[0], 100, 80),), slots=(SlotHold("key:a", 1),)))
        deadline = asyncio.get_running_loop().time() + 10
        while not await granted(state, Hold("2", (BudgetHold(ACCOUNTS[0], 100, 80),), slots=(SlotHold("key:a", 1),))):
            assert asyncio.get_running_loop().time() < deadline
        state.close()

    asyncio.run(run())


def test_a_settlement_is_remembered_for_its_time_only(directories: Iterator[Path]) -> None:
    clock = Clock()
    state = LocalState(next(directories), 60, clock)
    asyncio.run(state.seed(seeded()))
    one = Settlement("1", ((ACCOUNTS[0], 5),))
    assert asyncio.run(settle(state, one, one)) == [Settled((0,), (5,)), Settled()]
    clock.us += DONE_SECONDS * 1_000_000
    asyncio.run(settle(state, Settlement("2", ((ACCOUNTS[0], 1),))))
    assert asyncio.run(settle(state, one)) == [Settled((6,), (11,))]
    state.close()


def test_nothing_is_granted_before_the_ledger_has_been_read(redis: RedisServer, directories: Iterator[Path]) -> None:
    books = seeded({ACCOUNTS[0]: 90}, ["old"])
    hold = Hold("1", (BudgetHold(ACCOUNTS[0], 100, 20),))

    async def check(state: State) -> None:
        assert await state.epoch() == "unseeded"
        assert await reserve(state, hold) == "unseeded"
        await asyncio.gather(state.seed(books), state.seed(books))
        assert await reserve(state, hold) == Verdict(False, (90,))
        # What the ledger has is not counted again.
        assert await settle(state, Settlement("old", ((ACCOUNTS[0], 7),))) == [Settled()]
        first = await state.epoch()
        await state.seed(seeded())
        assert await state.epoch() == first
        state.close()

    asyncio.run(check(LocalState(next(directories), 60)))
    redis.command("FLUSHALL")

    async def in_redis() -> None:
        state = RedisState(redis.url, 2, 60)
        state.open()
        assert await state.connected(10)
        await check(state)

    asyncio.run(in_redis())


def test_a_ledger_may_take_longer_than_a_claim_lasts(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_redis, "_SEEDING_MS", 150)
    redis.command("FLUSHALL")
    others: list[str] = []

    async def run() -> None:
        state, other = RedisState(redis.url, 2, 60), RedisState(redis.url, 2, 60)
        for one in (state, other):
            one.open()
            assert await one.connected(10)
        begun, enough = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def slow() -> Seed:
            loop.call_soon_threadsafe(begun.set)
            assert enough.wait(10)
            return Seed({}, ())

        def too_much() -> Seed:
            others.append("asked")
            return Seed({}, ())

        seeding = asyncio.create_task(state.seed(slow))
        await begun.wait()
        until = loop.time() + 0.6
        while loop.time() < until:
            await other.seed(too_much)
        enough.set()
        await seeding
        assert await state.epoch() not in ("unseeded", "unreachable", "timeout")
        state.close()
        other.close()

    asyncio.run(run())
    assert not others


def test_large_amounts_stay_exact(redis: RedisServer) -> None:
    async def check(state: State) -> None:
        cost = 3_123_456_789_012_345_679  # three billion dollars
        for number in range(2):
            (settled,) = await settle(state, Settlement(str(number), ((ACCOUNTS[0], cost),)))
            assert settled.after == ((number + 1) * cost,)

    play_redis(redis, check)


def test_two_processes_see_each_other(directories: Iterator[Path]) -> None:
    """One budget, 8 processes, 400 requests at once: as many are granted as fit."""
    import multiprocessing

    directory = next(directories)
    state = LocalState(directory, 60)
    asyncio.run(state.seed(seeded()))
    state.close()
    context = multiprocessing.get_context("spawn")
    with context.Pool(8) as pool:
        grants = pool.starmap(_reserve_some, [(directory, worker) for worker in range(8)])
    assert sum(grants) == 137


def _reserve_some(directory: Path, worker: int) -> int:
    state = LocalState(directory, 60)
    holds = [Hold(f"{worker}-{number}", (BudgetHold(ACCOUNTS[0], 1370, 10),)) for number in range(50)]

    async def all_of_them() -> int:
        return sum([await granted(state, hold) for hold in holds])

    count = asyncio.run(all_of_them())
    state.close()
    return count
