"""The ledger in SQLite: one row for each request and each attempt of it that failed, written by many processes, read by
the API.

Rows arrive in batches and may arrive twice (a replayed access log, a refusal reported by the worker and again
by Envoy). `request_id` is the primary key and the first row wins, so writing a batch again changes nothing.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, String, Table, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Engine, create_engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.accounting.usage import Usage
from aion_extproc.stores import report
from aion_extproc.stores.report import Costs, Routing, Savings

SCHEMA_VERSION = 2  # 2 added the attempts
TEXT_LIMIT = 256  # characters: what a client chose (a model name, say) must not grow the ledger
INT64_MAX = 2**63 - 1
BUSY_TIMEOUT_S = 5.0

metadata = MetaData()


def _text(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, String(TEXT_LIMIT), nullable=False, primary_key=primary_key)


def _int(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


requests = Table(
    "requests",
    metadata,
    _text("request_id", primary_key=True),
    _int("at_ms"),
    _text("outcome"),
    Column("status", Integer, nullable=False),
    _text("path"),
    _text("format"),
    Column("stream", Boolean, nullable=False),
    _text("key_name"),
    _text("tenant"),
    _text("asked_model"),
    _text("model"),
    _text("provider"),
    Column("tier", Integer, nullable=False),
    Column("score", Double),
    _text("task"),
    _text("reason"),
    _text("error"),
    Column("attempts", Integer, nullable=False),
    _int("input_tokens"),
    _int("output_tokens"),
    _int("cache_read_tokens"),
    _int("cache_write_tokens"),
    _int("cache_write_1h_tokens"),
    _int("reasoning_tokens"),
    Column("estimated", Boolean, nullable=False),
    _int("cost_nano", nullable=True),
    _int("baseline_nano", nullable=True),
    _text("baseline_model"),
    Column("latency_ms", Double, nullable=False),
    Column("ttft_ms", Double),
    _int("request_bytes"),
    _int("response_bytes"),
    Index("requests_at_ms", "at_ms"),
)

attempts = Table(
    "attempts",
    metadata,
    _text("request_id", primary_key=True),
    Column("number", Integer, nullable=False, primary_key=True),
    _int("at_ms"),
    _text("provider"),
    _text("model"),
    Column("status", Integer, nullable=False),
    _text("error"),
    Column("latency_ms", Double, nullable=False),
    _int("cost_nano", nullable=True),
    Index("attempts_at_ms", "at_ms"),
)

_USAGE_FIELDS = tuple(f.name for f in fields(Usage))
_COLUMNS = tuple(column.name for column in requests.columns)
# One C call turns a row into its tuple of values, in the order of the columns.
_values = attrgetter(*(f"usage.{name}" if name in _USAGE_FIELDS else name for name in _COLUMNS))
_texts = attrgetter(*(column.name for column in requests.columns if isinstance(column.type, String)))
_TEXT_AT = tuple(at for at, column in enumerate(requests.columns) if isinstance(column.type, String))
_attempt_values = attrgetter(*(column.name for column in attempts.columns))
_INT_AT = tuple(at for at, column in enumerate(requests.columns) if isinstance(column.type, Integer))


class LedgerError(Exception):
    """The ledger cannot be opened; the message names the file and says why."""


class Ledger:
    """The ledger at `path`; the directory and the table are created when missing.

    Safe for several processes on one file and for several threads in one process. Raises LedgerError when the
    file cannot be opened or was written by a newer version. A statement waits `busy_timeout` seconds for
    another process's lock.
    """

    def __init__(self, path: str | Path, *, busy_timeout: float = BUSY_TIMEOUT_S) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"cannot create {self.path.parent} for the ledger: {error.strerror}") from None
        self._engine = create_engine(f"sqlite+pysqlite:///{self.path}", connect_args={"timeout": busy_timeout})
        event.listen(self._engine, "connect", _configure)
        self._insert = str(insert(requests).on_conflict_do_nothing(index_elements=["request_id"]).compile(self._engine))
        self._insert_attempt = str(insert(attempts).on_conflict_do_nothing().compile(self._engine))
        try:
            _open(self._engine, self.path)
        except Exception:
            self._engine.dispose()
            raise

    def add(self, rows: Sequence[LedgerRow | AttemptRow]) -> int:
        """Write the rows in one transaction and return how many requests were new.

        Texts are cut to 256 characters. Raises sqlalchemy.exc.OperationalError when the file stays locked or
        cannot be written; then nothing was written.
        """
        if not rows:
            return 0
        finished = [row for row in rows if isinstance(row, LedgerRow)]
        failed = [_attempt_values(row) for row in rows if isinstance(row, AttemptRow)]  # all of it is our own
        values = [
            _values(row) if max(map(len, _texts(row))) <= TEXT_LIMIT else _storable(_values(row)) for row in finished
        ]
        try:
            return self._insert_all(values, failed)
        except (UnicodeEncodeError, OverflowError):
            # A lone surrogate or a number past 64 bits: rare, so only then every value is looked at.
            return self._insert_all([_storable(each) for each in values], failed)

    def _insert_all(self, values: list[tuple[Any, ...]], failed: list[tuple[Any, ...]]) -> int:
        with self._engine.begin() as connection:
            # The driver's executemany: Core's would build a dictionary and a bound parameter for each value.
            if failed:
                connection.exec_driver_sql(self._insert_attempt, failed)
            return connection.exec_driver_sql(self._insert, values).rowcount if values else 0

    def savings(self, since_ms: int, until_ms: int) -> Savings:
        """What was spent and saved by requests with since_ms <= at_ms < until_ms."""
        with self._engine.connect() as connection:
            return report.savings(connection, requests, since_ms, until_ms)

    def routing(self, since_ms: int, until_ms: int) -> Routing:
        """Which tiers, models and tasks the requests with since_ms <= at_ms < until_ms went to."""
        with self._engine.connect() as connection:
            return report.routing(connection, requests, since_ms, until_ms)

    def costs(self, since_ms: int, until_ms: int) -> Costs:
        """Tokens and money by provider and model of requests with since_ms <= at_ms < until_ms."""
        with self._engine.connect() as connection:
            return report.costs(connection, requests, since_ms, until_ms)

    def rows(self, since_ms: int = 0, until_ms: int = INT64_MAX, limit: int = 1000) -> list[LedgerRow]:
        """The rows with since_ms <= at_ms < until_ms, oldest first, at most `limit`."""
        query = (
            requests.select()
            .where(requests.c.at_ms >= since_ms, requests.c.at_ms < until_ms)
            .order_by(requests.c.at_ms, requests.c.request_id)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [_row(record) for record in connection.execute(query).mappings()]

    def attempts(self, request_id: str) -> list[AttemptRow]:
        """The failed attempts of a request, in their order."""
        query = attempts.select().where(attempts.c.request_id == request_id).order_by(attempts.c.number)
        with self._engine.connect() as connection:
            return [AttemptRow(**record) for record in connection.execute(query).mappings()]

    def close(self) -> None:
        self._engine.dispose()


def _row(record: Any) -> LedgerRow:
    usage = Usage(**{name: record[name] for name in _USAGE_FIELDS})
    return LedgerRow(usage=usage, **{name: record[name] for name in _COLUMNS if name not in _USAGE_FIELDS})


def _storable(values: Iterable[Any]) -> tuple[Any, ...]:
    """The same values as SQLite can hold them: text that is valid UTF-8 and short, integers of 64 bits."""
    clean = list(values)
    for at in _TEXT_AT:
        clean[at] = clean[at][:TEXT_LIMIT].encode("utf-8", "replace").decode()
    for at in _INT_AT:
        if clean[at] is not None:
            clean[at] = max(-INT64_MAX, min(INT64_MAX, clean[at]))
    return tuple(clean)


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # A crash of the machine may lose the last transactions under NORMAL, never corrupt the file.
    connection.execute("PRAGMA synchronous=NORMAL")
    # Request ids are random, so each row dirties another page of their index: copying those into the file less
    # often (every 32 MB of WAL) and keeping 4 MB of them took inserts at 500,000 rows from 33 to 24 µs of CPU.
    connection.execute("PRAGMA wal_autocheckpoint=8000")
    connection.execute("PRAGMA cache_size=-4000")


def _open(engine: Engine, path: Path) -> None:
    """Switch to WAL and create the table. Several workers do this at the same moment on a new file."""
    deadline = time.monotonic() + 2 * BUSY_TIMEOUT_S
    while True:
        try:
            _create(engine, path)
        except DatabaseError as error:
            # Changing the journal mode answers "locked" at once instead of waiting for the busy timeout.
            if "locked" not in str(error.orig) or time.monotonic() > deadline:
                raise LedgerError(f"cannot open the ledger {path}: {error.orig}") from None
            time.sleep(random.uniform(0.01, 0.05))
        else:
            return


def _create(engine: Engine, path: Path) -> None:
    with engine.connect() as connection:
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        version = connection.exec_driver_sql("PRAGMA user_version").scalar()
        if version == SCHEMA_VERSION:
            return
        if version and version > SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger {path} has schema version {version}, this aion knows {SCHEMA_VERSION}: "
                "use the aion that wrote it, or another telemetry.db_path"
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # One process creates; the others wait here and find everything there.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
