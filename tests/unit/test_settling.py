"""What the shared state is told of ended requests, and told again when it has lost its data."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from aion_extproc.accounting.allowances import account, moment
from aion_extproc.accounting.holds import BudgetHold, Hold, Settled, Settlement, Verdict
from aion_extproc.accounting.metrics import Metrics
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.extproc.settling import Settler
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.state import Failure, Seed
from aion_extproc.stores.state_redis import RedisState
from tests.support.redis import RedisServer, redis_server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def row(id: str, cost: int) -> LedgerRow:
    return LedgerRow(id, int(time.time() * 1000), "served", 200, key_name="dev", cost_nano=cost)


async def connected(redis: RedisServer) -> RedisState:
    state = RedisState(redis.url, 2, 60)
    state.open()
    assert await state.connected(10)
    return state


async def until(look: object, seconds: float = 10) -> None:
    assert callable(look)
    async with asyncio.timeout(seconds):
        while not look():  # noqa: ASYNC110  # another process answers
            await asyncio.sleep(0.005)


def test_a_store_that_lost_its_data_gets_all_of_it_back_once(redis: RedisServer, tmp_path: Path) -> None:
    """The ledger has one of three rows; of the others only the settler knows."""
    redis.command("FLUSHALL")
    name = "{aion}:a:" + account("key", "dev", moment(time.time()).day)
    ledger = Ledger(tmp_path / "aion.db")
    metrics = Metrics((), (), CollectorRegistry())

    def spent() -> int:
        return int(redis.command("HGET", name, "s").strip() or 0)

    async def play() -> None:
        state = await connected(redis)
        settler = Settler(state, ledger, metrics)
        await settler.look()
        for number, cost in enumerate((100, 20, 3)):
            settler.ended(row(str(number), cost))
        await until(lambda: spent() == 123)
        ledger.add([row("1", 20), row("other", 4000)])
        redis.command("FLUSHALL")
        settler.ended(row("3", 50_000))  # it has nowhere to go for a moment
        await settler.look()
        await until(lambda: spent() == 54_123)
        await settler.drain(10)
        assert spent() == 54_123
        state.close()

    asyncio.run(play())
    ledger.close()


def test_who_cannot_read_the_ledger_seeds_nothing(redis: RedisServer, tmp_path: Path) -> None:
    redis.command("FLUSHALL")
    ledger = Ledger("postgresql://nobody:secret-4711@127.0.0.1:1/none", wait=False)

    async def play() -> None:
        state = await connected(redis)
        settler = Settler(state, ledger, Metrics((), (), CollectorRegistry()))
        await settler.look()
        assert await state.epoch() == "unseeded"
        # Nobody else has to wait for the one that failed: its claim is given back.
        other = Settler(state, Ledger(tmp_path / "aion.db"), Metrics((), (), CollectorRegistry()))
        await other.look()
        assert await state.epoch() != "unseeded"
        state.close()

    asyncio.run(play())


def test_what_was_settled_releases_what_was_held(redis: RedisServer, tmp_path: Path) -> None:
    redis.command("FLUSHALL")
    name = account("key", "dev", moment(time.time()).day)

    async def play() -> None:
        state = await connected(redis)
        told: list[tuple[str, int, int]] = []
        settler = Settler(
            state, Ledger(tmp_path / "aion.db"), Metrics((), (), CollectorRegistry()), lambda *one: told.append(one)
        )
        await settler.look()
        granted: list[object] = []
        state.reserve(Hold("1", (BudgetHold(name, 100, 90),)), granted.append)
        await until(lambda: granted)
        assert granted == [Verdict(True, (0,))]
        settler.ended(row("1", 40))
        settler.ended(row("1", 40))  # the log was replayed
        await settler.drain(10)
        assert (name, 0, 40) in told
        assert len(told) == 2  # the day's and the month's
        state.reserve(Hold("2", (BudgetHold(name, 100, 60),)), granted.append)
        await until(lambda: len(granted) == 2)
        assert granted[1] == Verdict(True, (40,))
        answers: list[object] = []
        state.settle([Settlement("1", ((name, 1),))], answers.append)
        await until(lambda: answers)
        assert answers == [[Settled()]]
        state.close()

    asyncio.run(play())


Play = Callable[[RedisState, Settler, Callable[[], int]], Awaitable[None]]


def played(redis: RedisServer, ledger: Ledger, play: Play, kind: type[RedisState] = RedisState) -> None:
    """With an empty Redis, seeded from the ledger; `play` can ask what the key `dev` has spent today."""
    redis.command("FLUSHALL")
    name = "{aion}:a:" + account("key", "dev", moment(time.time()).day)

    async def run() -> None:
        state = kind(redis.url, 2, 60)
        state.open()
        assert await state.connected(10)
        settler = Settler(state, ledger, Metrics((), (), CollectorRegistry()))
        await settler.look()
        await play(state, settler, lambda: int(redis.command("HGET", name, "s").strip() or 0))
        state.close()

    asyncio.run(run())
    ledger.close()


async def back(state: RedisState) -> None:
    """Until a Redis that was started anew answers."""
    async with asyncio.timeout(10):
        while await state.epoch() == "unreachable":  # noqa: ASYNC110  # another process answers
            await asyncio.sleep(0.01)


class LateState(RedisState):
    """Whose settlements take their time as long as `held` is there."""

    held: asyncio.Event | None = None

    def settle(self, settlements: Sequence[Settlement], then: Callable[[Sequence[Settled] | Failure], None]) -> None:
        if self.held is None:
            super().settle(settlements, then)
        else:
            waiting = asyncio.ensure_future(self.held.wait())
            waiting.add_done_callback(lambda _: RedisState.settle(self, settlements, then))


def test_what_is_told_again_is_not_mistaken_for_what_is_being_told(redis: RedisServer, tmp_path: Path) -> None:
    async def play(state: RedisState, settler: Settler, spent: Callable[[], int]) -> None:
        assert isinstance(state, LateState)
        settler.ended(row("first", 100))
        await settler.drain(10)
        redis.command("FLUSHALL")
        await state.seed(lambda: Seed({}, []))
        state.held = asyncio.Event()
        settler.ended(row("second", 23))
        await asyncio.sleep(0)  # it is on its way
        await settler.look()
        state.held.set()
        await settler.drain(10)
        assert spent() == 123

    played(redis, Ledger(tmp_path / "aion.db"), play, LateState)


@pytest.mark.parametrize("told_before", [True, False])
def test_a_seed_has_what_ended_before_the_ids_that_it_knows(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_before: bool
) -> None:
    """Ten minutes ago one request ended, and no other one since."""
    ledger = Ledger(tmp_path / "aion.db")

    async def play(state: RedisState, settler: Settler, spent: Callable[[], int]) -> None:
        at = time.monotonic()
        if not told_before:
            redis.kill()
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: at - 600)
            settler.ended(row("old", 1000))
        if told_before:
            await until(lambda: spent() == 1000)
            redis.kill()
        ledger.add([replace(row("old", 1000), at_ms=int(time.time() * 1000) - 600_000)])
        if not told_before:
            settler.ended(row("new", 7))
        redis.start()
        await back(state)
        await settler.look()
        await settler.drain(10)
        today = moment(time.time() - 600).day == moment(time.time()).day
        assert spent() == (1000 if today else 0) + (0 if told_before else 7)

    played(redis, ledger, play)


def test_a_redis_that_reads_an_old_copy_of_its_data_gets_the_ledgers(redis: RedisServer, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "aion.db")

    async def play(state: RedisState, settler: Settler, spent: Callable[[], int]) -> None:
        for number in range(2):
            settler.ended(row(str(number), 50))
            ledger.add([row(str(number), 50)])
            await settler.drain(10)
            if number == 0:
                redis.command("SAVE")
        redis.kill()
        redis.start()
        await until(lambda: spent() == 50)  # what it had then
        await back(state)
        answers: list[object] = []
        name = account("key", "dev", moment(time.time()).day)
        state.reserve(Hold("next", (BudgetHold(name, 100, 10),)), answers.append)
        await until(lambda: answers)
        assert answers == ["unseeded"]
        await settler.look()
        await settler.drain(10)
        assert spent() == 100

    try:
        played(redis, ledger, play)
    finally:
        (redis.directory / "dump.rdb").unlink(missing_ok=True)


def test_a_redis_that_was_busy_for_a_while_is_looked_after(redis: RedisServer, tmp_path: Path) -> None:
    async def play(state: RedisState, settler: Settler, spent: Callable[[], int]) -> None:
        redis.command("CONFIG", "SET", "lua-time-limit", "10")
        loop = asyncio.get_running_loop()
        with contextlib.suppress(subprocess.CalledProcessError):
            busy = loop.run_in_executor(None, redis.command, "EVAL", "while true do end", "0")
            async with asyncio.timeout(10):
                while await state.epoch() != "unreachable":  # noqa: ASYNC110  # until it says BUSY
                    await asyncio.sleep(0.005)
            await settler.look()
            redis.command("SCRIPT", "KILL")
            await busy
        await settler.look()
        assert await state.epoch() not in ("unreachable", "unseeded", "timeout")

    played(redis, Ledger(tmp_path / "aion.db"), play)


def test_rows_on_disk_come_before_a_seed(redis: RedisServer, tmp_path: Path) -> None:
    """They were spent too; the ledger has them in a moment."""
    redis.command("FLUSHALL")
    on_disk = [True]

    async def play() -> None:
        state = await connected(redis)
        ledger = Ledger(tmp_path / "aion.db")
        settler = Settler(state, ledger, Metrics((), (), CollectorRegistry()), spooled=lambda: on_disk[0])
        await settler.look()
        assert await state.epoch() == "unseeded"
        on_disk[0] = False
        await settler.look()
        assert await state.epoch() != "unseeded"
        state.close()

    asyncio.run(play())


def test_a_new_process_tells_what_its_predecessor_may_not_have_told(redis: RedisServer, tmp_path: Path) -> None:
    """Redis was out of its reach, and kept its data."""
    redis.command("FLUSHALL")
    name = account("key", "dev", moment(time.time()).day)

    async def play() -> None:
        state = await connected(redis)
        ledger = Ledger(tmp_path / "aion.db")
        await Settler(state, ledger, Metrics((), (), CollectorRegistry())).look()
        state.reserve(Hold("untold", (BudgetHold(name, 1000, 90),)), lambda _: None)
        told: list[object] = []
        state.settle([Settlement("told", ((name, 20),))], told.append)
        await until(lambda: told)
        ledger.add([row("told", 20), row("untold", 40)])
        settler = Settler(state, ledger, Metrics((), (), CollectorRegistry()))
        await settler.tell_the_last()
        await settler.drain(10)
        state.close()

    asyncio.run(play())
    assert redis.command("HMGET", "{aion}:a:" + name, "s", "r").split() == ["60", "0"]


def test_a_question_that_comes_after_the_end_holds_nothing(redis: RedisServer, tmp_path: Path) -> None:
    redis.command("FLUSHALL")
    name = account("key", "dev", moment(time.time()).day)

    async def play() -> None:
        state = await connected(redis)
        await Settler(state, Ledger(tmp_path / "aion.db"), Metrics((), (), CollectorRegistry())).look()
        answers: list[object] = []
        state.settle([Settlement("1")], answers.append)
        await until(lambda: answers)
        state.reserve(Hold("1", (BudgetHold(name, 100, 90),)), answers.append)
        state.reserve(Hold("2", (BudgetHold(name, 100, 90),)), answers.append)
        await until(lambda: len(answers) == 3)
        assert answers[1:] == [Verdict(True, (0,)), Verdict(True, (0,))]
        state.close()

    asyncio.run(play())
