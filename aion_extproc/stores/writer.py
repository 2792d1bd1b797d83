"""Writes ledger rows behind the request path: `put` only appends, threads do the rest.

    put ─▶ queue ─▶ database
                └─▶ spool on disk ─▶ database          while it is away, and when it is back

The first thread looks after queue and spool, and waits for the database only so long: one that neither answers nor
breaks off must not stop rows from getting to the disk. The second does what there is to wait for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import suppress

import structlog

from aion_extproc.accounting.metrics import Metrics
from aion_extproc.stores.ledger import Ledger, LedgerError
from aion_extproc.stores.spool import Row, Spool
from aion_extproc.stores.writer_patience import Patience, StillWaiting

MAX_WAITING = 100_000  # rows kept in memory
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
PATIENCE_S = 10.0  # for one transaction
_TAKE_OVER_S = 5.0  # between two looks for files of processes that are gone

log = structlog.get_logger(__name__)


class LedgerWriter:
    """Collects rows and writes them when `batch_size` wait or `flush_interval` seconds have passed.

    `put` and `drain` belong to one thread, the event loop's. While the database is away rows go into `spool`; once that
    is full, or `max_waiting` rows wait in memory, new ones are dropped, which aion_ledger_dropped_total and the log
    tell. Call `drain` before the process ends.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        batch_size: int = 100,
        flush_interval: float = 5.0,
        *,
        metrics: Metrics | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._queue: deque[Row] = deque()
        self._batch: list[Row] = []  # taken from the queue, and neither in the database nor in the spool
        self._refused = 0  # counted by the event loop
        self._given_up = 0  # counted by the first thread
        self._unwritable = 0  # counted by the second
        self._reported = 0
        self._pause = 0.0  # 0: the database is there
        self._again_at = 0.0  # when to try it
        self._look_at = 0.0
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._wake = threading.Event()
        self._database = Patience("ledger-database")
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows not yet in the database."""
        return len(self._queue) + len(self._batch) + self._spool.rows

    @property
    def dropped(self) -> int:
        """Rows given up since the start."""
        return self._refused + self._given_up + self._unwritable

    def put(self, row: Row) -> None:
        """Hand over a row. Never blocks, never raises."""
        queue = self._queue
        if len(queue) >= self._max_waiting or self._stop.is_set():
            self._refused += 1
            return
        queue.append(row)
        if len(queue) >= self._batch_size and not self._wake.is_set():
            self._wake.set()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 (it bounds a thread, not a task)
        """Write everything that waits, into the spool what the database does not take, then stop; at most `timeout`
        seconds. False: rows were lost.

        Rows put after this call are dropped.
        """
        self._deadline = time.monotonic() + timeout
        self._stop.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, timeout)
        lost = len(self._queue) + len(self._batch)
        if lost:
            log.error("ledger rows lost at shutdown", rows=lost, ledger=self._ledger.name)
        return lost == 0

    def _run(self) -> None:
        while True:
            self._wake.wait(self._until_next())
            self._wake.clear()
            stopping = self._stop.is_set()  # read before the flush, so that it sees every row put before
            try:
                self._flush()
                if not stopping:
                    self._catch_up()
                self._report()
            except Exception:  # whatever it is, the rows that come next must not be lost to it
                with suppress(Exception):
                    log.exception("the ledger's writer has failed, and goes on")
                self._again_at = time.monotonic() + LONGEST_PAUSE_S
            if stopping:
                self._database.close()
                self._spool.close()
                return

    def _until_next(self) -> float:
        now = time.monotonic()
        next_at = self._look_at if not self._spool.rows and not self._pause else self._again_at
        return max(0.0, min(self._flush_interval, next_at - now))

    def _flush(self) -> None:
        # Only what waits now: chasing the newest row would mean a transaction for every few rows.
        left = len(self._queue) + len(self._batch)
        while left > 0:
            if not self._batch:
                self._batch = [self._queue.popleft() for _ in range(min(left, self._ledger.batch))]
            left -= len(self._batch)
            if (self._pause or not self._written(self._batch)) and not self._spooled():
                return
            self._batch = []

    def _written(self, rows: list[Row]) -> bool:
        """Whether the rows are in the database. If not, it is away."""
        patience = min(PATIENCE_S, (self._deadline - time.monotonic()) / 2)  # the other half is for the spool
        try:
            self._database.do(lambda: self._write(rows), max(0.0, patience))
        except (LedgerError, StillWaiting) as error:
            self._away(error)
            return False
        if self._pause:
            log.info("the ledger is back", ledger=self._ledger.name, spooled=self._spool.rows)
        self._pause = 0.0
        return True

    def _away(self, error: Exception) -> None:
        if not self._pause:
            reason = str(error) or f"the ledger {self._ledger.name} takes longer than {PATIENCE_S:g} s"
            log.warning("rows wait on disk", reason=reason)
        self._pause = min(2 * self._pause or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._again_at = time.monotonic() + self._pause

    def _spooled(self) -> bool:
        """Whether nothing is left to do for the batch: as much of it as there is room for is on disk, the rest is
        dropped. A disk that cannot be written may be mended while the rows wait in memory."""
        try:
            kept = self._spool.append(self._batch)
        except OSError as error:
            log.error("the spool cannot be written", error=str(error))
            return False
        self._given_up += len(self._batch) - kept
        return True

    def _catch_up(self) -> None:
        """Bring a file of the spool into the database."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _TAKE_OVER_S
            self._spool.take_over()
        if now < self._again_at:
            return
        if not self._spool.rows:
            self._pause = 0.0  # the next row will tell
        elif all(self._written(rows) for rows in self._spool.oldest(self._ledger.batch)):
            self._spool.done()
            self._again_at = 0.0

    def _write(self, rows: list[Row]) -> None:
        try:
            new = self._ledger.add(rows)
        except LedgerError:
            raise
        except Exception as error:
            if len(rows) > 1:
                for row in rows:  # one bad row must not take its batch along
                    self._write([row])
                return
            self._unwritable += 1
            log.error("a ledger row cannot be written", request_id=rows[0].request_id, error=repr(error))
            return
        if self._metrics is not None:
            self._metrics.ledger_rows.inc(new)

    def _report(self) -> None:
        dropped = self.dropped
        new = dropped - self._reported
        self._reported = dropped
        if new:
            log.error("ledger rows dropped", rows=new, total=dropped, waiting=self.waiting)
        if self._metrics is not None:
            self._metrics.ledger_waiting.set(self.waiting)
            self._metrics.ledger_spooled.set(self._spool.rows)
            if new:
                self._metrics.ledger_dropped.inc(new)
