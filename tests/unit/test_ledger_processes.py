"""Many processes on one ledger, and the writer when the database is away."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from aion_extproc.accounting.metrics import Metrics
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.stores.ledger import INT64_MAX, Ledger
from aion_extproc.stores.spool import Spool
from aion_extproc.stores.writer import LedgerWriter

pytestmark = pytest.mark.anyio
spawn = multiprocessing.get_context("spawn")

PROCESSES = 4
BATCHES = 15
BATCH = 40


def row(request_id: str, cost_nano: int = 1) -> LedgerRow:
    return LedgerRow(
        request_id=request_id,
        at_ms=1,
        outcome="served",
        status=200,
        provider="p",
        model="m",
        cost_nano=cost_nano,
    )


def write_and_replay(path: Path, number: int, start: Barrier, results: Queue[int]) -> None:
    """Opens the ledger together with the others, then writes its own rows and some that all write, twice."""
    start.wait(60)
    ledger = Ledger(path)
    new = 0
    for batch in range(BATCHES):
        rows = [row(f"{number}-{batch}-{n}") for n in range(BATCH)] + [row(f"all-{batch}")]
        new += ledger.add(rows)
        new += ledger.add(rows)
    ledger.close()
    results.put(new)


def test_processes_write_and_replay_at_the_same_time(tmp_path: Path) -> None:
    start = spawn.Barrier(PROCESSES)
    results: Queue[int] = spawn.Queue()
    path = tmp_path / "aion.db"
    processes = [
        spawn.Process(target=write_and_replay, args=(path, number, start, results)) for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    expected = PROCESSES * BATCHES * BATCH + BATCHES
    assert sum(results.get(timeout=10) for _ in processes) == expected
    ledger = Ledger(path)
    costs = ledger.costs(0, INT64_MAX)
    ledger.close()
    assert (costs.requests, costs.cost_nano) == (expected, expected)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "aion.db")
    yield ledger
    ledger.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", "a database", 1 << 20)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (the thread that changes it has no event for us)
            await asyncio.sleep(0.005)


def sample(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


async def test_drain_writes_what_neither_time_nor_number_had_flushed(ledger: Ledger, spool: Spool) -> None:
    metrics = Metrics((), ())
    writer = LedgerWriter(ledger, spool, batch_size=1000, flush_interval=3600, metrics=metrics)
    for n in range(999):
        writer.put(row(str(n)))
    assert ledger.rows() == []
    assert await writer.drain(10)
    assert ledger.costs(0, INT64_MAX).requests == 999
    assert (writer.waiting, writer.dropped) == (0, 0)
    assert sample(metrics, "aion_ledger_rows_total") == 999
    assert sample(metrics, "aion_ledger_waiting") == 0


async def test_a_full_batch_is_written_without_waiting_for_the_interval(ledger: Ledger, spool: Spool) -> None:
    writer = LedgerWriter(ledger, spool, batch_size=10, flush_interval=3600)
    for n in range(10):
        writer.put(row(str(n)))
    await until(lambda: len(ledger.rows()) == 10)
    assert await writer.drain(10)


async def test_few_rows_are_written_after_the_interval(ledger: Ledger, spool: Spool) -> None:
    writer = LedgerWriter(ledger, spool, batch_size=1000, flush_interval=0.05)
    writer.put(row("a"))
    await until(lambda: len(ledger.rows()) == 1)
    assert await writer.drain(10)


async def test_a_replayed_row_is_counted_once(ledger: Ledger, spool: Spool) -> None:
    metrics = Metrics((), ())
    writer = LedgerWriter(ledger, spool, metrics=metrics)
    for _ in range(3):
        writer.put(row("a"))
    assert await writer.drain(10)
    assert sample(metrics, "aion_ledger_rows_total") == 1


async def test_a_locked_database_delays_rows_and_loses_none(ledger: Ledger, spool: Spool, tmp_path: Path) -> None:
    metrics = Metrics((), ())
    other = sqlite3.connect(ledger.name, isolation_level=None, check_same_thread=False)
    impatient = Ledger(ledger.name, busy_timeout=0.05)
    other.execute("BEGIN EXCLUSIVE")
    writer = LedgerWriter(impatient, spool, batch_size=1, flush_interval=3600, metrics=metrics)
    for n in range(100):
        writer.put(row(str(n)))
    await until(lambda: sample(metrics, "aion_ledger_waiting") == 100)  # told after an attempt that failed
    assert (writer.waiting, writer.dropped) == (100, 0)
    other.execute("COMMIT")
    assert await writer.drain(10)
    impatient.close()
    other.close()
    # It may have left some on disk, if it was still waiting to ask the database again.
    following = LedgerWriter(ledger, Spool(tmp_path / "spool", "a database", 1 << 20), flush_interval=3600)
    await until(lambda: len(ledger.rows()) == 100)
    assert await following.drain(10)


async def test_drain_leaves_in_time_what_the_next_one_writes(
    ledger: Ledger, spool: Spool, tmp_path: Path
) -> None:
    other = sqlite3.connect(ledger.name, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    impatient = Ledger(ledger.name, busy_timeout=0.05)
    writer = LedgerWriter(impatient, spool, flush_interval=3600)
    writer.put(row("a"))
    async with asyncio.timeout(5):
        assert await writer.drain(0.3)
    assert ledger.rows() == []
    other.execute("COMMIT")
    other.close()
    impatient.close()
    following = LedgerWriter(ledger, Spool(tmp_path / "spool", "a database", 1 << 20), flush_interval=3600)
    await until(lambda: ledger.rows() == [row("a")])
    assert await following.drain(10)
    assert not list((tmp_path / "spool").iterdir())


async def test_drain_says_when_neither_database_nor_disk_took_the_rows(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    other = sqlite3.connect(ledger.name, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    impatient = Ledger(ledger.name, busy_timeout=0.05)
    writer = LedgerWriter(impatient, Spool(tmp_path / "file", "a database", 1 << 20), flush_interval=3600)
    writer.put(row("a"))
    async with asyncio.timeout(5):
        assert not await writer.drain(0.3)
    assert writer.waiting == 1
    other.execute("COMMIT")
    other.close()
    impatient.close()


async def test_rows_above_the_bound_are_dropped_and_counted(ledger: Ledger, spool: Spool) -> None:
    metrics = Metrics((), ())
    writer = LedgerWriter(ledger, spool, batch_size=10**9, flush_interval=3600, metrics=metrics, max_waiting=50)
    for n in range(80):
        writer.put(row(str(n)))
    assert await writer.drain(10)
    writer.put(row("after drain"))
    assert writer.dropped == 31
    assert {each.request_id for each in ledger.rows()} == {str(n) for n in range(50)}
    assert sample(metrics, "aion_ledger_dropped_total") == 30


async def test_a_row_of_a_wrong_kind_does_not_take_its_batch_along(ledger: Ledger, spool: Spool) -> None:
    bad = LedgerRow(request_id="bad", at_ms=1, outcome="served", status=200, path=None)  # type: ignore[arg-type]
    worse = LedgerRow(request_id=["worse"], at_ms=1, outcome="served", status=200)  # type: ignore[arg-type]
    writer = LedgerWriter(ledger, spool)
    for each in (row("a"), bad, worse, row("b")):
        writer.put(each)
    assert await writer.drain(10)
    assert writer.dropped == 2
    assert {each.request_id for each in ledger.rows()} == {"a", "b"}


async def test_put_while_a_flush_runs_loses_nothing(ledger: Ledger, spool: Spool) -> None:
    writer = LedgerWriter(ledger, spool, batch_size=7, flush_interval=0.01)
    for n in range(5000):
        writer.put(row(str(n)))
        if n % 50 == 0:
            await asyncio.sleep(0)
    assert await writer.drain(30)
    assert ledger.costs(0, INT64_MAX).requests == 5000
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ledger-writer")]
