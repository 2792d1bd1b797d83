"""Writes ledger rows behind the request path: `put` only appends, a thread of its own does the rest."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, ProgrammingError

from aion_extproc.accounting.metrics import Metrics
from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.stores.ledger import Ledger

MAX_WAITING = 100_000  # rows kept while the database is away
CHUNK = 500  # rows in one transaction: workers share the write lock, and this many hold it for some ms
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0

# These say that a row is wrong, all other database errors that the database is.
_ROW_ERRORS = (IntegrityError, DataError, ProgrammingError, InterfaceError)

log = structlog.get_logger(__name__)


class LedgerWriter:
    """Collects rows and writes them when `batch_size` wait or `flush_interval` seconds have passed.

    `put` and `drain` belong to one thread, the event loop's. A locked or missing database delays rows; new
    ones are dropped only while `max_waiting` are waiting, which aion_ledger_dropped_total and the log tell.
    Call `drain` before the process ends.
    """

    def __init__(
        self,
        ledger: Ledger,
        batch_size: int = 100,
        flush_interval: float = 5.0,
        *,
        metrics: Metrics | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._ledger = ledger
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._queue: deque[LedgerRow | AttemptRow] = deque()
        self._batch: list[LedgerRow | AttemptRow] = []  # taken from the queue and not committed yet
        self._refused = 0  # counted by the event loop
        self._unwritable = 0  # counted by the thread
        self._reported = 0
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows not yet committed."""
        return len(self._queue) + len(self._batch)

    @property
    def dropped(self) -> int:
        """Rows given up since the start."""
        return self._refused + self._unwritable

    def put(self, row: LedgerRow | AttemptRow) -> None:
        """Hand over a row. Never blocks, never raises."""
        queue = self._queue
        if len(queue) >= self._max_waiting or self._stop.is_set():
            self._refused += 1
            return
        queue.append(row)
        if len(queue) >= self._batch_size and not self._wake.is_set():
            self._wake.set()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 (it bounds a thread, not a task)
        """Write everything that waits, then stop; at most `timeout` seconds. False: rows were lost.

        Rows put after this call are dropped.
        """
        self._deadline = time.monotonic() + timeout
        self._stop.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, timeout)
        lost = self.waiting
        if lost:
            log.error("ledger rows lost at shutdown", rows=lost, path=str(self._ledger.path))
        return lost == 0

    def _run(self) -> None:
        while True:
            self._wake.wait(self._flush_interval)
            self._wake.clear()
            stopping = self._stop.is_set()  # read before the flush, so that it sees every row put before
            self._flush()
            if stopping:
                return

    def _flush(self) -> None:
        # Only what waits now: chasing the newest row would mean a transaction for every few rows.
        left = len(self._queue)
        while left:
            size = min(CHUNK, left)
            self._batch = [self._queue.popleft() for _ in range(size)]
            left -= size
            written = self._write(self._batch)
            if written is None:
                return
            self._batch = []
            if self._metrics is not None:
                self._metrics.ledger_rows.inc(written)
        self._report()

    def _write(self, rows: list[LedgerRow | AttemptRow]) -> int | None:
        """The number of new rows; None when the time to stop came before the database answered."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                return self._ledger.add(rows)
            except Exception as error:
                if not isinstance(error, DBAPIError) or isinstance(error, _ROW_ERRORS):
                    return self._write_singly(rows, error)
                log.warning("the ledger cannot be written, trying again", error=str(error.orig), rows=self.waiting)
            self._report()
            if time.monotonic() > self._deadline:
                return None
            if self._stop.wait(pause):
                time.sleep(FIRST_PAUSE_S)  # draining: `wait` no longer waits
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _write_singly(self, rows: list[LedgerRow | AttemptRow], error: Exception) -> int | None:
        """One bad row must not take its batch along."""
        if len(rows) == 1:
            self._unwritable += 1
            log.error("a ledger row cannot be written", request_id=rows[0].request_id, error=repr(error))
            return 0
        total = 0
        for row in rows:
            written = self._write([row])
            if written is None:
                return None
            total += written
        return total

    def _report(self) -> None:
        dropped = self.dropped
        new = dropped - self._reported
        self._reported = dropped
        if new:
            log.error("ledger rows dropped", rows=new, total=dropped, waiting=self.waiting)
        if self._metrics is not None:
            self._metrics.ledger_waiting.set(self.waiting)
            if new:
                self._metrics.ledger_dropped.inc(new)
