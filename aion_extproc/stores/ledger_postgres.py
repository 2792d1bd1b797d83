"""Rows into the ledger's tables in PostgreSQL, and into the sums of their hours, in one transaction.

A batch is copied into a temporary table, and one statement takes from there what is new:

    COPY ─▶ incoming ─▶ INSERT … ON CONFLICT DO NOTHING RETURNING ─▶ GROUP BY hour, keys ─▶ hourly
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Engine

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

_MADE = "aion_incoming"  # in the connection's own notes


def _statement(table: str, columns: tuple[str, ...], sums: str) -> str:
    listed = ", ".join(columns)
    return (
        f"WITH added AS (INSERT INTO {table} ({listed}) SELECT {listed} FROM incoming_{table} WHERE at_ms >="
        f" coalesce((SELECT value FROM ledger_marks WHERE name = '{KEPT_FROM}'), 0)"
        f" ON CONFLICT DO NOTHING RETURNING *), summed AS ({sums}) SELECT count(*) FROM added"
    )


_ADD = _statement("requests", COLUMNS, add_up("hourly", "added", KEYS, SUMS, "postgresql"))
_ADD_ATTEMPTS = _statement(
    "attempts", ATTEMPT_COLUMNS, add_up("hourly_attempts", "added", ATTEMPT_KEYS, ATTEMPT_SUMS, "postgresql")
)
_COPY = f"COPY incoming_requests ({', '.join(COLUMNS)}) FROM STDIN"
_COPY_ATTEMPTS = f"COPY incoming_attempts ({', '.join(ATTEMPT_COLUMNS)}) FROM STDIN"


def add(engine: Engine, requests: Sequence[Values], attempts: Sequence[Values]) -> int:
    """The number of requests that were new. Raises psycopg's errors besides SQLAlchemy's."""
    with engine.connect() as connection:
        if _MADE not in connection.info:
            _make(connection)
        with connection.begin():
            return _add(connection, requests, attempts)


def _add(connection: Connection, requests: Sequence[Values], attempts: Sequence[Values]) -> int:
    # In the same order everywhere, so that two writers of the same rows wait for each other in turn.
    _new(connection, _COPY_ATTEMPTS, _ADD_ATTEMPTS, sorted(attempts, key=itemgetter(0, 1)))
    return _new(connection, _COPY, _ADD, sorted(requests, key=itemgetter(0)))


def _make(connection: Connection) -> None:
    for table in ("requests", "attempts"):
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS incoming_{table} (LIKE {table}) ON COMMIT DELETE ROWS"
        )
    connection.commit()
    connection.info[_MADE] = True


def _new(connection: Connection, copy: str, add: str, rows: list[Values]) -> int:
    if not rows:
        return 0
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor:
        with cursor.copy(copy) as into:
            for row in rows:
                into.write_row(row)
        found: int = cursor.execute(add).fetchone()[0]
    return found
