"""Whatever was written, and however often: reports say what adding up the rows one by one says, on both databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.stores.database import connect
from aion_extproc.stores.ledger import INT64_MAX, Ledger
from aion_extproc.stores.ledger_tables import HOUR_MS
from aion_extproc.stores.report import By, Line
from aion_extproc.stores.report_sums import AttemptSums, Sums
from aion_extproc.stores.scope import EVERYTHING, Scope
from tests.support import ledgers
from tests.support.ledgers import END_MS, START_MS, added, attempts_added, within

KEYS: dict[By, ledgers.Key] = {
    "model": lambda row: f"{row.provider}/{row.model}" if row.provider or row.model else "",
    "provider": lambda row: row.provider,
    "key": lambda row: row.key_name,
    "tenant": lambda row: row.tenant,
    "service": lambda row: row.service,
    "task": lambda row: row.task,
    "tier": lambda row: str(row.tier),
    "day": lambda row: datetime.fromtimestamp(row.at_ms / 1000, UTC).date().isoformat(),
}
TABLES = ("requests", "attempts", "hourly", "hourly_attempts", "ledger_marks")


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "aion.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def ledger(target: str) -> Iterator[Ledger]:
    ledger = Ledger(target)
    yield ledger
    ledger.close()


def emptied(target: str) -> None:
    engine = connect(target)
    with engine.begin() as connection:
        for table in TABLES:
            connection.exec_driver_sql(f"DELETE FROM {table}")
    engine.dispose()


def first_of_each(rows: Sequence[Any], *key: str) -> list[Any]:
    kept: dict[tuple[Any, ...], Any] = {}
    for row in rows:
        kept.setdefault(tuple(getattr(row, name) for name in key), row)
    return list(kept.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(ledgers.rows | ledgers.attempts, max_size=12), max_size=4),
    since=ledgers.moments | st.just(0),
    until=ledgers.moments | st.just(INT64_MAX),
    scope=st.just(EVERYTHING) | ledgers.scopes,
)
@example(batches=[], since=0, until=INT64_MAX, scope=EVERYTHING)
def test_reports_are_what_the_rows_add_up_to(
    target: str,
    ledger: Ledger,
    batches: list[list[LedgerRow | AttemptRow]],
    since: int,
    until: int,
    scope: Scope,
) -> None:
    emptied(target)
    for batch in batches:
        ledger.add(batch)
        ledger.add(batch[1:])
    written = [row for batch in batches for row in batch]
    rows = first_of_each([row for row in written if isinstance(row, LedgerRow)], "request_id")
    failed = first_of_each([row for row in written if isinstance(row, AttemptRow)], "request_id", "number")
    assert len(ledger.rows()) == len(rows)
    rows, failed = within(rows, since, until, scope), within(failed, since, until, scope)
    total = sum(added(rows, id).values(), Sums())

    for by in get_args(By):
        report = ledger.report(since, until, by, scope)
        sums, tries = added(rows, KEYS[by]), attempts_added(failed, KEYS[by]) if by not in ("task", "tier") else None
        names = {*sums, *(tries or {})}
        assert {line.name: line for line in report.lines} == {
            name: Line(name, sums.get(name, Sums()), None if tries is None else tries.get(name, AttemptSums()))
            for name in names
        }
        assert report.total.sums == total == sum((line.sums for line in report.lines), Sums())
        assert report.total.failed == sum(attempts_added(failed, id).values(), AttemptSums())
        compared = {row.baseline_model for row in rows if None not in (row.cost_nano, row.baseline_nano)}
        assert set(report.baseline_models) == compared - {""}

    savings = ledger.savings(since, until, scope)
    assert (savings.requests, savings.cost_nano, savings.saved_nano) == (
        total.requests, total.cost_nano, total.saved_nano
    )  # fmt: skip
    assert ledger.routing(since, until, scope).requests == total.requests
    assert ledger.costs(since, until, scope).cost_nano == sum(row.cost_nano or 0 for row in rows if row.provider)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ledgers.rows, max_size=20),
    day=st.integers(START_MS // HOUR_MS, END_MS // HOUR_MS),
    month=st.integers(START_MS // HOUR_MS, END_MS // HOUR_MS),
    recent=ledgers.moments,
)
def test_the_books_are_what_the_rows_add_up_to(
    target: str, ledger: Ledger, rows: list[LedgerRow], day: int, month: int, recent: int
) -> None:
    emptied(target)
    ledger.add(rows)
    rows = first_of_each(rows, "request_id")
    books = ledger.books(day * HOUR_MS, month * HOUR_MS, recent)
    for spent, hour in ((books.day, day), (books.month, month)):
        for found, key in ((spent.keys, "key_name"), (spent.tenants, "tenant"), (spent.services, "service")):
            of = [row for row in rows if row.at_ms >= hour * HOUR_MS]
            sums = added(of, lambda row, key=key: getattr(row, key))  # type: ignore[misc]
            assert {name: cost for name, cost in found.items() if cost} == {
                name: one.cost_nano for name, one in sums.items() if one.cost_nano
            }
    assert sorted(books.recent_ids) == sorted(row.request_id for row in rows if row.at_ms >= recent)
