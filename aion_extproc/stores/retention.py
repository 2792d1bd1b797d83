"""Deletes single rows of the ledger for their age; what they add up to by the hour stays.

Whole hours go: before the mark `kept_from_ms` nothing is left, and reports know that they have no more than the sums.
The mark rises in the same transaction as the first of its rows goes.
"""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn

import structlog
from sqlalchemy import Connection, text

from aion_extproc.stores.database import LedgerError, exclusive
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.ledger_tables import HOUR_MS, KEPT_FROM

AT_ONCE = 1000  # rows in one transaction, so that nobody waits long for it
_PAUSE_S = 0.05  # between two: deleting need not be fast
_LOOK_S = 600.0
_LOCK_KEY = 0x61696F72  # of PostgreSQL's advisory locks: "aior"

log = structlog.get_logger(__name__)


async def keep(ledger: Ledger, seconds: float) -> NoReturn:
    """Delete what is older than `seconds`, until cancelled. In as many processes as there are: they take turns."""
    deleted = 0
    while True:
        try:
            some = await asyncio.to_thread(forget, ledger, time.time_ns() // 1_000_000 - int(seconds * 1000))
        except LedgerError as error:
            log.warning("retention_waits", reason=str(error))
            some = 0
        deleted += some
        if some < AT_ONCE and deleted:
            log.info("rows_deleted", rows=deleted)
            deleted = 0
        await asyncio.sleep(_PAUSE_S if some == AT_ONCE else _LOOK_S)


def forget(ledger: Ledger, before_ms: int) -> int:
    """Delete some rows and attempts from before the hour of `before_ms`, and return how many: fewer than AT_ONCE when
    that was all, or somebody else is at it. Raises LedgerError."""
    before_ms -= before_ms % HOUR_MS
    with ledger.engine() as engine, exclusive(engine) as connection:
        return _forget(connection, before_ms)


def _forget(connection: Connection, before_ms: int) -> int:
    sqlite = connection.dialect.name == "sqlite"
    if not sqlite and not connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({_LOCK_KEY})")):
        return 0
    place, larger = ("rowid", "max") if sqlite else ("ctid", "greatest")
    raised = text(
        "INSERT INTO ledger_marks (name, value) VALUES (:name, :before)"
        f" ON CONFLICT (name) DO UPDATE SET value = {larger}(ledger_marks.value, excluded.value)"
    )
    connection.execute(raised, {"name": KEPT_FROM, "before": before_ms})
    left = AT_ONCE
    for table in ("requests", "attempts"):
        delete = text(
            f"DELETE FROM {table} WHERE {place} IN"
            f" (SELECT {place} FROM {table} WHERE at_ms < :before ORDER BY at_ms LIMIT :left)"
        )
        left -= connection.execute(delete, {"before": before_ms, "left": left}).rowcount
    return AT_ONCE - left
