"""Rows into the ledger's file, and into the sums of their hours, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine

from aion_extproc.stores.database import exclusive
from aion_extproc.stores.ledger_tables import (
    ATTEMPT_COLUMNS,
    ATTEMPT_KEYS,
    ATTEMPT_SUMS,
    COLUMNS,
    KEPT_FROM,
    KEYS,
    SUMS,
    add_up,
)

Values = tuple[Any, ...]


def _insert(table: str, columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT DO NOTHING"


_INSERT = _insert("requests", COLUMNS)
_INSERT_ATTEMPT = _insert("attempts", ATTEMPT_COLUMNS)
# New rows have the highest rowids: nobody else writes meanwhile, and those that were there already keep theirs.
_ADD_UP = add_up("hourly", "requests WHERE rowid > ?", KEYS, SUMS, "sqlite")
_ADD_UP_ATTEMPTS = add_up("hourly_attempts", "attempts WHERE rowid > ?", ATTEMPT_KEYS, ATTEMPT_SUMS, "sqlite")
_STATE = (
    "SELECT (SELECT max(rowid) FROM requests), (SELECT max(rowid) FROM attempts),"
    f" (SELECT value FROM ledger_marks WHERE name = '{KEPT_FROM}')"
)
_AT = COLUMNS.index("at_ms")
_ATTEMPT_AT = ATTEMPT_COLUMNS.index("at_ms")


def add(engine: Engine, requests: Sequence[Values], attempts: Sequence[Values]) -> int:
    """The number of requests that were new."""
    with exclusive(engine) as connection:
        last, last_attempt, kept_from = (mark or 0 for mark in connection.exec_driver_sql(_STATE).one())
        _new(connection, _INSERT_ATTEMPT, _ADD_UP_ATTEMPTS, _since(attempts, _ATTEMPT_AT, kept_from), last_attempt)
        return _new(connection, _INSERT, _ADD_UP, _since(requests, _AT, kept_from), last)


def _since(rows: Sequence[Values], at: int, kept_from: int) -> list[Values]:
    return [row for row in rows if row[at] >= kept_from]


def _new(connection: Connection, insert: str, add_up: str, rows: list[Values], last: int) -> int:
    # The driver's executemany: Core's would build a dictionary and a bound parameter for each value.
    new = connection.exec_driver_sql(insert, rows).rowcount if rows else 0
    if new:
        connection.exec_driver_sql(add_up, (last,))
    return new
