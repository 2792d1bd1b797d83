"""The ledger's writers and a PostgreSQL that is killed, away, or silent: every row is there once, sums and all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aion_extproc.accounting.metrics import Metrics
from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.stores import writer as module
from aion_extproc.stores.ledger import INT64_MAX, Ledger, LedgerAway
from aion_extproc.stores.report_sums import AttemptSums
from aion_extproc.stores.spool import Row, Spool
from aion_extproc.stores.writer import LedgerWriter
from tests.support.ledgers import added
from tests.support.postgres import Postgres

pytestmark = pytest.mark.anyio

PLENTY = 1 << 30


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[Ledger]:
    ledger = Ledger(postgres_url)
    yield ledger
    ledger.close()


def row(number: int, who: str = "") -> LedgerRow:
    return LedgerRow(
        f"{who}{number}",
        number * 60_000,
        "served",
        200,
        tenant=f"tenant-{number % 3}",
        provider="p",
        model="m",
        cost_nano=number,
    )


def attempt(number: int) -> AttemptRow:
    return AttemptRow(str(number), 1, number * 60_000, "p", "m", 503, "provider_503", 1.0, 5)


def spooled(directory: Path) -> int:
    """Bytes on disk."""
    total = 0
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is just going
            total += path.stat().st_size
    return total


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (the thread that changes it has no event for us)
            await asyncio.sleep(0.005)


def balances(ledger: Ledger, rows: list[LedgerRow]) -> None:
    """Each of the rows is there once, and in the sums once."""
    stored = ledger.rows(limit=100_000)
    assert sorted(each.request_id for each in stored) == sorted(each.request_id for each in rows)
    lines = ledger.report(0, INT64_MAX, "tenant").lines
    assert {line.name: line.sums for line in lines if line.sums.requests} == added(rows, lambda each: each.tenant)


async def test_a_server_that_is_killed_and_killed_again_loses_no_row(
    postgres_server: Postgres, ledger: Ledger, tmp_path: Path
) -> None:
    metrics, rng = Metrics((), ()), random.Random(5)
    writer = LedgerWriter(ledger, Spool(tmp_path, "a", PLENTY), 50, 0.01, metrics=metrics)
    rows = [row(number) for number in range(6000)]
    for at, each in enumerate(rows):
        writer.put(each)
        if rng.random() < 0.1:
            writer.put(rng.choice(rows[: at + 1]))
            writer.put(attempt(at))
        if at % 20 == 0:
            await asyncio.sleep(0)
        if at % 1500 == 700:
            await asyncio.to_thread(postgres_server.kill)
            await until(lambda: spooled(tmp_path) > 0)
        if at % 1500 == 1200:
            await asyncio.to_thread(postgres_server.start)
            await until(lambda: not spooled(tmp_path))
    await until(lambda: not writer.waiting)
    assert await writer.drain(10)
    assert writer.dropped == 0
    assert not spooled(tmp_path)
    balances(ledger, rows)


async def test_rows_are_written_though_the_server_comes_later(
    postgres_server: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    postgres_server.kill()
    try:
        ledger = Ledger(postgres_url)
        with pytest.raises(LedgerAway):
            ledger.savings(0, INT64_MAX)
        metrics = Metrics((), ())
        writer = LedgerWriter(ledger, Spool(tmp_path, "a", PLENTY), 10, 0.01, metrics=metrics)
        rows = [row(number) for number in range(100)]
        for each in rows:
            writer.put(each)
        await until(lambda: metrics.registry.get_sample_value("aion_ledger_spooled") == 100)
        assert (writer.waiting, writer.dropped) == (100, 0)
    finally:
        postgres_server.start()
    await until(lambda: not writer.waiting)
    assert await writer.drain(10)
    balances(ledger, rows)
    assert metrics.registry.get_sample_value("aion_ledger_spooled") == 0
    ledger.close()


async def test_a_server_that_is_silent_keeps_no_row_from_the_disk(
    postgres_server: Postgres, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    writer = LedgerWriter(ledger, Spool(tmp_path, "a", PLENTY), 10, 0.01)
    ledger.add([row(0)])
    rows = [row(number) for number in range(300)]
    postgres_server.freeze()
    try:
        for each in rows:
            writer.put(each)
            await asyncio.sleep(0.002)
        await until(lambda: writer._spool.rows == 300)
    finally:
        postgres_server.thaw()
    await until(lambda: not writer.waiting)
    assert await writer.drain(10)
    balances(ledger, rows)


async def test_a_full_spool_drops_and_says_so(postgres_server: Postgres, ledger: Ledger, tmp_path: Path) -> None:
    metrics = Metrics((), ())
    writer = LedgerWriter(ledger, Spool(tmp_path, "a", 20_000), 10, 0.01, metrics=metrics)
    postgres_server.kill()
    try:
        for number in range(200):
            writer.put(row(number))
        await until(lambda: (metrics.registry.get_sample_value("aion_ledger_dropped_total") or 0) > 100)
        await until(lambda: writer.waiting + writer.dropped == 200)
        assert spooled(tmp_path) <= 20_000
    finally:
        postgres_server.start()
    await until(lambda: not writer.waiting)
    assert await writer.drain(10)
    assert len(ledger.rows()) == 200 - writer.dropped


def test_a_database_that_was_made_anew_gets_its_tables(ledger: Ledger) -> None:
    ledger.add([row(1)])
    with ledger.engine() as engine, engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with pytest.raises(LedgerAway, match="does not exist"):
        ledger.add([row(2)])
    assert ledger.add([row(2)]) == 1
    balances(ledger, [row(2)])


WRITES = """
import asyncio, sys
from pathlib import Path
from aion_extproc import logs
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.spool import Spool
from aion_extproc.stores.writer import LedgerWriter
from tests.unit.test_ledger_postgres import row

async def main(url, directory, who):
    writer = LedgerWriter(Ledger(url), Spool(Path(directory), "a", 1 << 30), 20, 0.01)
    number = 0
    while True:
        for _ in range(20):
            writer.put(row(number, who))
            number += 1
        await asyncio.sleep(0.005)
        if not writer._queue and not writer._batch:
            print(number, flush=True)

logs.configure()  # to standard error; standard output has the numbers
asyncio.run(main(*sys.argv[1:]))
"""


async def test_writers_that_are_killed_with_the_server_away_leave_their_rows(
    postgres_server: Postgres, ledger: Ledger, tmp_path: Path
) -> None:
    """What each of them said was safe is there, and everything that is there is in the sums once."""
    command = [sys.executable, "-c", WRITES]
    writers = [
        subprocess.Popen(  # noqa: ASYNC220
            [*command, ledger._target, str(tmp_path), f"{who}-"], stdout=subprocess.PIPE, text=True
        )
        for who in "abc"
    ]
    safe = {}
    for who, process in zip("abc", writers, strict=True):
        assert process.stdout is not None
        process.stdout.readline()
        if who == "b":
            postgres_server.kill()
        safe[who] = int([process.stdout.readline() for _ in range(5)][-1])
    for process in writers:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    postgres_server.start()
    assert spooled(tmp_path)
    both = [LedgerWriter(ledger, Spool(tmp_path, "a", PLENTY), 20, 0.01) for _ in range(2)]
    await until(lambda: not spooled(tmp_path))
    for writer in both:
        assert await writer.drain(10)
    stored = ledger.rows(limit=1_000_000)
    there = {each.request_id for each in stored}
    for who, number in safe.items():
        assert {f"{who}-{n}" for n in range(number)} <= there
    balances(ledger, [row(int(each.request_id[2:]), each.request_id[:2]) for each in stored])


def test_two_writers_of_the_same_rows_do_not_hold_each_other_up(ledger: Ledger, postgres_url: str) -> None:
    """They meet at the rows and at the sums; a deadlock would be told as an outage."""
    from concurrent.futures import ThreadPoolExecutor

    rows: list[Row] = [row(number) for number in range(8000)]
    attempts: list[Row] = [attempt(number) for number in range(8000)]
    ledgers = [Ledger(postgres_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for of in (rows, attempts):

            def write(seed: int, of: list[Row] = of) -> int:
                return ledgers[seed].add(random.Random(seed).sample(of, len(of)))

            assert sum(threads.map(write, range(4))) == (8000 if of is rows else 0)
    balances(ledger, [each for each in rows if isinstance(each, LedgerRow)])
    assert ledger.report(0, INT64_MAX, "day").total.failed == AttemptSums(8000, 0, 40_000)
    for each in ledgers:
        each.close()
