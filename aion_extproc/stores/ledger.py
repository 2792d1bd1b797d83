"""The ledger: one row for each request and each attempt of it that failed, written by many processes, read by the API.

Rows arrive in batches and may arrive twice (a replayed access log, a refusal reported by the worker and again
by Envoy). `request_id` is the primary key and the first row wins, so writing a batch again changes nothing, neither
rows nor the sums by the hour, which are written in the same transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Engine

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.stores import ledger_postgres, ledger_sqlite, report
from aion_extproc.stores import ledger_tables as tables
from aion_extproc.stores.database import (
    BUSY_TIMEOUT_S,
    LedgerAway,
    LedgerError,
    connect,
    describe,
    is_postgres,
    outage,
    snapshot,
)
from aion_extproc.stores.report import Books, By, Costs, Report, Routing, Savings
from aion_extproc.stores.scope import EVERYTHING, Scope

__all__ = ["INT64_MAX", "Ledger", "LedgerAway", "LedgerError"]

INT64_MAX = 2**63 - 1


class Ledger:
    """The ledger in `target`, a file of SQLite or `postgresql://…` (database.connect).

    Safe for several processes and for several threads in one process. Raises LedgerError when the database cannot be
    used or was written by a newer version. While it is only away, the ledger is there all the same: whatever is asked
    of it looks for the database again, and raises LedgerAway. `wait`: look for it now; without, at the first use.
    """

    def __init__(self, target: str | Path, *, busy_timeout: float = BUSY_TIMEOUT_S, wait: bool = True) -> None:
        self._target = str(target)
        self.name = describe(self._target)
        # Rows in one transaction: the writers of a file share its lock, and so many hold it for some ms.
        self.batch = 5000 if is_postgres(self._target) else 500
        self._busy_timeout = busy_timeout
        self._found: Engine | None = None
        self._finding = threading.Lock()
        if wait:
            with suppress(LedgerAway):  # whoever needs it is told
                self.open()

    def open(self) -> None:
        """Look for the database, unless it was found before. Raises LedgerError, LedgerAway."""
        self._engine()

    def _engine(self) -> Engine:
        with self._finding:
            if self._found is None:
                self._found = connect(self._target, busy_timeout=self._busy_timeout)
            return self._found

    def add(self, rows: Sequence[LedgerRow | AttemptRow]) -> int:
        """Write the rows in one transaction and return how many requests were new.

        Texts are cut to 256 characters. Rows from before what retention has deleted are left out: they may have been
        here. Raises LedgerAway when the database is away or cannot be written; then nothing was written, or all of it
        and nobody could say so. Other errors are the rows' own.
        """
        if not rows:
            return 0
        finished = [tables.values(row) for row in rows if isinstance(row, LedgerRow)]
        failed = [tables.attempt_values(row) for row in rows if isinstance(row, AttemptRow)]
        add = ledger_postgres.add if is_postgres(self._target) else ledger_sqlite.add
        with self.engine() as engine:
            return add(
                engine, tables.all_storable(tables.requests, finished), tables.all_storable(tables.attempts, failed)
            )

    def savings(self, since_ms: int, until_ms: int, scope: Scope = EVERYTHING) -> Savings:
        """What was spent and saved by requests with since_ms <= at_ms < until_ms."""
        with self.engine() as engine, snapshot(engine) as connection:
            return report.savings(connection, since_ms, until_ms, scope)

    def routing(self, since_ms: int, until_ms: int, scope: Scope = EVERYTHING) -> Routing:
        """Which tiers, models and tasks the requests with since_ms <= at_ms < until_ms went to."""
        with self.engine() as engine, snapshot(engine) as connection:
            return report.routing(connection, since_ms, until_ms, scope)

    def costs(self, since_ms: int, until_ms: int, scope: Scope = EVERYTHING) -> Costs:
        """Tokens and money by provider and model of requests with since_ms <= at_ms < until_ms."""
        with self.engine() as engine, snapshot(engine) as connection:
            return report.costs(connection, since_ms, until_ms, scope)

    def report(self, since_ms: int, until_ms: int, by: By, scope: Scope = EVERYTHING) -> Report:
        """Everything that is summed, for each model, key, … of requests with since_ms <= at_ms < until_ms."""
        with self.engine() as engine, snapshot(engine) as connection:
            return report.report(connection, since_ms, until_ms, by, scope)

    def books(self, day_ms: int, month_ms: int, recent_ms: int) -> Books:
        """What was spent since the first hour of the day and of the month, and whose rows are here since `recent_ms`,
        as of one moment. The two begin with an hour."""
        with self.engine() as engine, snapshot(engine) as connection:
            return report.books(connection, day_ms, month_ms, recent_ms)

    def rows(self, since_ms: int = 0, until_ms: int = INT64_MAX, limit: int = 1000) -> list[LedgerRow]:
        """The rows with since_ms <= at_ms < until_ms, oldest first, at most `limit`."""
        c = tables.requests.c
        query = (
            tables.requests.select()
            .where(c.at_ms >= since_ms, c.at_ms < until_ms)
            .order_by(c.at_ms, c.request_id)
            .limit(limit)
        )
        with self.engine() as engine, engine.connect() as connection:
            return [tables.row(record) for record in connection.execute(query).mappings()]

    def attempts(self, request_id: str) -> list[AttemptRow]:
        """The failed attempts of a request, in their order."""
        c = tables.attempts.c
        query = tables.attempts.select().where(c.request_id == request_id).order_by(c.number)
        with self.engine() as engine, engine.connect() as connection:
            return [tables.attempt_row(record) for record in connection.execute(query).mappings()]

    def close(self) -> None:
        if self._finding.acquire(blocking=False):  # who is just looking for it may take long, and has nothing to close
            found, self._found = self._found, None
            self._finding.release()
            if found is not None:
                found.dispose()

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """The database, looked for if need be; its outages are told as LedgerAway."""
        engine = self._engine()
        try:
            yield engine
        except Exception as error:
            reason = outage(error)
            if reason is None:
                raise
            self.close()  # what comes back may be another one, without our tables
            raise LedgerAway(f"the ledger {self.name} does not answer: {reason}") from None
