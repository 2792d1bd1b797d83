"""The memory of conversations: bounded, never mixed up, and the same in all workers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.extproc.bus import DATAGRAM_BYTES, Bus
from aion_extproc.extproc.shared_sessions import KIND, share_sessions
from aion_extproc.routing.sessions import BATCH, KEY_LENGTH, RECENT, Judged, Session, Sessions
from tests.support.sessions import SESSION, turn, updates, watched

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["asked", "answered"]),
        st.sampled_from("abcdef"),
        st.integers(0, 3),  # the turn
        st.sampled_from([0.0, 0.5, 1.0, 40.0]),  # seconds since the one before
    ),
    max_size=60,
)


def play(
    operations: list[tuple[str, str, int, float]], sessions: Sessions, now: float = 0.0
) -> tuple[list[str], float]:
    """The keys in the order in which they were touched last, and the time at the end."""
    order: list[str] = []
    for kind, letter, number, wait in operations:
        now += wait
        key = letter * KEY_LENGTH
        if kind == "asked":
            sessions.decided(turn(str(number), key), None, letter, "m", number, now)
        else:
            sessions.answered(turn(str(number), key).mark, letter, "m", 1, number, 300.0, now)
        order = [*(k for k in order if k != key), key]
    return order, now


@given(OPERATIONS, st.integers(1, 4))
def test_it_holds_the_latest_conversations_and_never_another_one_s(
    operations: list[tuple[str, str, int, float]], capacity: int
) -> None:
    sessions = Sessions(60.0, capacity)
    order, now = play(operations, sessions)
    assert len(sessions) <= capacity
    for key in order:
        found = sessions.look(key, now)
        if found is not None:
            assert key in order[-capacity:]
            assert now - max(register.at for register in found if register) < 60.0
            assert {register.provider for register in found if register} == {key[0]}
    if order:
        assert sessions.look(order[-1], now) is not None


def test_what_is_silent_is_given_back() -> None:
    sessions = Sessions(60.0)
    for i in range(100):
        sessions.decided(turn("a", f"{i:032}"), None, "p", "m", 1, 0.0)
    for i in range(100, 150):
        sessions.decided(turn("a", f"{i:032}"), None, "p", "m", 1, 61.0)
    assert len(sessions) == 50


def content(sessions: Sessions, now: float) -> dict[str, Session | None]:
    return {letter: sessions.look(letter * KEY_LENGTH, now) for letter in "abcdef"}


@given(st.lists(st.tuples(st.integers(0, 2), OPERATIONS), max_size=6), st.randoms(use_true_random=False))
def test_workers_that_hear_from_one_another_in_any_order_agree(
    plays: list[tuple[int, list[tuple[str, str, int, float]]]], random: Any
) -> None:
    workers = [watched(Sessions(1e6)) for _ in range(3)]
    told: list[tuple[int, dict[str, Any]]] = []
    clocks = [0.0] * 3
    for player, operations in plays:
        clocks[player] = play(operations, workers[player], clocks[player])[1]
        told += [(player, update) for update in updates(workers[player])]
    now = max(clocks)
    for index, worker in enumerate(workers):
        heard = [update for sender, update in told if sender != index]
        heard += heard[:3]  # some twice
        random.shuffle(heard)
        for update in heard:
            worker.apply(update, now)
    for one, other in itertools.pairwise(workers):
        assert content(one, now) == content(other, now)
    assert [updates(worker) for worker in workers] == [[], [], []]  # what was heard is not told on


def test_what_is_long_silent_is_not_taken_over() -> None:
    here, there = watched(Sessions(1e6)), Sessions(60.0)
    here.decided(turn("a"), None, "p", "m", 1, 0.0)
    for update in updates(here):
        there.apply(update, 60.0)
    assert len(there) == 0


def test_an_update_fits_into_a_datagram_whatever_the_names() -> None:
    sessions = watched(Sessions(1e6))
    for i in range(BATCH + 1):
        digest, now = "d" * 16, 123456.7890123456 + i
        judged = Judged(3, "", 3, 3, 4)
        sessions.decided(turn(digest, f"{i:032}"), judged, "p" * 64, "m" * 256, 10**9, now)
        sessions.answered(turn(digest, f"{i:032}").mark, "p" * 64, "m" * 256, 3, 10**9, 3600.0, now)
    sizes = [len(orjson.dumps([KIND, update])) for update in updates(sessions)]
    assert len(sizes) == 2
    assert max(sizes) < DATAGRAM_BYTES - 200


def test_one_that_joins_is_told_of_the_latest() -> None:
    here, there = Sessions(1e6), Sessions(1e6)
    for i in range(RECENT + 50):
        here.decided(turn("a", f"{i:032}"), None, "p", "m", 1, float(i))
    for update in here.recent():
        there.apply(update, RECENT + 50.0)
    assert len(there) == RECENT
    assert there.look(f"{49:032}", RECENT) is None
    assert there.look(f"{50:032}", RECENT) is not None


def test_without_other_workers_nothing_is_kept_for_them() -> None:
    sessions = Sessions(1e6)
    sessions.decided(turn("a"), None, "p", "m", 1, 0.0)
    assert sessions.updates() is None


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_over_a_real_bus(tmp_path: Path) -> None:
    async def run() -> None:
        one, two, late = (Sessions(3600.0) for _ in range(3))
        buses = [Bus(tmp_path / f"{name}.bus") for name in ("one", "two", "late")]
        for sessions, bus in zip((one, two, late), buses, strict=True):
            share_sessions(sessions, bus, clock=lambda: 10.0)
        for bus in buses[:2]:
            bus.open()
        one.decided(turn("a"), None, "p", "m", 1, 1.0)
        await until(lambda: two.look(SESSION, 10.0) is not None)
        two.answered(turn("a").mark, "p", "m", 1, 5, 300.0, 2.0)
        await until(lambda: one.look(SESSION, 10.0) == two.look(SESSION, 10.0))
        buses[2].open()
        await until(lambda: late.look(SESSION, 10.0) == one.look(SESSION, 10.0))
        for bus in buses:
            bus.close()

    asyncio.run(run())
