"""What is deleted for its age stays in the sums, and does not come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.stores import retention
from aion_extproc.stores.ledger import INT64_MAX, Ledger
from aion_extproc.stores.ledger_tables import HOUR_MS
from aion_extproc.stores.retention import forget, keep

DAY_MS = 24 * HOUR_MS
START = 20_000 * DAY_MS


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    target = str(tmp_path / "aion.db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    ledger = Ledger(target)
    yield ledger
    ledger.close()


def row(number: int) -> LedgerRow:
    """Four in an hour."""
    return LedgerRow(str(number), START + number * HOUR_MS // 4, "served", 200, provider="p", model="m", cost_nano=1)


def attempt(number: int) -> AttemptRow:
    return AttemptRow(str(number), 1, START + number * HOUR_MS // 4, "p", "m", 503, "e", 1.0, 7)


def test_old_rows_go_and_their_sums_stay(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 30)
    rows, attempts = [row(n) for n in range(100)], [attempt(n) for n in range(0, 100, 2)]
    ledger.add([*rows, *attempts])
    before = ledger.report(0, INT64_MAX, "day")
    middle = START + 10 * HOUR_MS + HOUR_MS // 2
    assert forget(ledger, middle) == 30
    # Of the eighth hour two are still there; a report that begins after them takes the whole hour already.
    assert ledger.report(START + 7 * HOUR_MS + 50 * 60_000, INT64_MAX, "day").total.sums.requests == 100 - 28
    assert forget(ledger, middle) == 30
    assert forget(ledger, middle) == 0
    assert [each.request_id for each in ledger.rows()] == [str(n) for n in range(40, 100)]
    assert not ledger.attempts("38")
    assert ledger.attempts("40")
    assert ledger.report(0, INT64_MAX, "day") == before
    # Behind the mark hours are whole, from it on they are cut.
    assert ledger.report(START + 3 * HOUR_MS + 1, START + 5 * HOUR_MS - 1, "day").total.sums.requests == 8
    assert ledger.report(middle, middle + HOUR_MS, "day").total.sums.requests == 4
    assert ledger.report(middle + 1, middle + HOUR_MS // 4, "day").total.sums.requests == 0

    assert ledger.add([*rows, *attempts]) == 0, "a batch that comes again much later"
    assert ledger.report(0, INT64_MAX, "day") == before
    assert len(ledger.rows()) == 60
    assert forget(ledger, START) == 0, "the mark does not fall"
    assert ledger.add([replace(rows[0], request_id="late")]) == 0


def test_it_goes_on_by_itself(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 7)
    ledger.add([row(n) for n in range(100)])

    async def until_gone() -> None:
        work = asyncio.create_task(keep(ledger, 86_400))
        async with asyncio.timeout(20):
            while ledger.rows():  # noqa: ASYNC110 (it has no event for us)
                await asyncio.sleep(0.01)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    asyncio.run(until_gone())
    assert ledger.report(0, INT64_MAX, "day").total.sums.requests == 100
