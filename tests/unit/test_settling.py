"""What the shared state is told of ended requests, and told again when it has lost its data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from aion_extproc.accounting.allowances import account, moment
from aion_extproc.accounting.holds import BudgetHold, Hold, Settled, Settlement, Verdict
from aion_extproc.accounting.metrics import Metrics
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.extproc.settling import Settler
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.state_redis import RedisState
from tests.support.redis import RedisServer, redis_server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def row(id: str, cost: int) -> LedgerRow:
    return LedgerRow(id, int(time.time() * 1000), "served", 200, key_name="dev", cost_nano=cost)


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
        state = RedisState(redis.url, 2, 60)
        state.open()
        assert await state.connected(10)
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
        state = RedisState(redis.url, 2, 60)
        state.open()
        assert await state.connected(10)
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
        state = RedisState(redis.url, 2, 60)
        state.open()
        assert await state.connected(10)
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
