"""Tells the shared state how requests have ended, and has it seeded when it knows nothing.

What was told lately is kept: a store that lost its data is seeded from the ledger, which may not have the last rows
yet, and hears of those again. The store counts no request twice: with its sums it gets the ids of those that ended
lately. What has waited for longer than that reaches back is in the sums, and is not told any more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import structlog

from aion_extproc.accounting.allowances import Scope, account, accounts, moment, starts
from aion_extproc.accounting.holds import Settled, Settlement
from aion_extproc.accounting.metrics import Metrics
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.stores.ledger import Ledger, LedgerError
from aion_extproc.stores.report import Books
from aion_extproc.stores.state import Failure, Seed, State

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 0.2
_SPOOL_SECONDS = 60.0  # longer is not waited for rows on disk to reach the ledger
_AT_ONCE = 200  # settlements in one call: the store serves nobody else meanwhile
_RECENT_SECONDS = 60.0  # longer than a row waits for the ledger while that is well
_MOST_RECENT = 100_000
_MOST_WAITING = 500_000
_SEED_KNOWS_MS = 300_000  # the seed has the ids of requests that ended so lately
_TOLD_TO_A_NEW_STORE_SECONDS = 240.0  # less than that, for it was seeded a moment ago

Spent = Callable[[str, int, int], None]  # account, nano-dollars spent before and after


def _nobody(_account: str, _before: int, _after: int) -> None:
    pass


class _Ended(NamedTuple):
    at: float  # monotonic seconds
    settlement: Settlement


class Settler:
    """Of one process. `spent` hears of every account that was charged; `spooled` tells whether rows wait on disk. All
    is done in the event loop's thread."""

    def __init__(
        self,
        state: State,
        ledger: Ledger,
        metrics: Metrics,
        spent: Spent = _nobody,
        spooled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._metrics = metrics
        self._spent = spent
        self._spooled = spooled
        self._empty_since = 0.0
        self._waiting: deque[_Ended] = deque()
        self._recent: deque[_Ended] = deque()
        self._epoch = ""  # that was last seen
        self._empty = False  # the store was, when it was last asked
        self._telling = False  # or about to
        self._again: asyncio.Task[None] | None = None
        self._complained = False

    def ended(self, row: LedgerRow) -> None:
        """A request is over. Never blocks, never raises."""
        ended = _Ended(time.monotonic(), settlement_of(row))
        self._recent.append(ended)
        while self._recent[0].at < ended.at - _RECENT_SECONDS or len(self._recent) > _MOST_RECENT:
            self._recent.popleft()
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()  # its reservation times out, and a seed will have its cost
        self._waiting.append(ended)
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        if not self._waiting:
            self._telling = False
            return
        part = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        settlements = [ended.settlement for ended in part]

        def told(answer: Sequence[Settled] | Failure) -> None:
            loop = asyncio.get_running_loop()
            if isinstance(answer, str):
                self._metrics.state_failures.labels("settle", answer, "again").inc()
                self._waiting.extendleft(reversed(part))
                loop.call_later(_AGAIN_SECONDS, self._begin_again)
                return
            loop.call_soon(self._tell)
            self._report(settlements, answer)

        self._state.settle(settlements, told)

    def _begin_again(self) -> None:
        self._again = asyncio.create_task(self._tell_again())

    async def _tell_again(self) -> None:
        """Somebody may have seeded the store meanwhile."""
        self._seen(await self._state.epoch())
        self._tell()

    def _report(self, part: Sequence[Settlement], answers: Sequence[Settled]) -> None:
        for settlement, settled in zip(part, answers, strict=True):
            charged = zip(settlement.spent, settled.before, settled.after, strict=False)
            for (name, _), before, after in charged:
                self._spent(name, before, after)

    async def look(self) -> None:
        """Once: whether the store still knows what it knew; seed it if it does not."""
        epoch = await self._state.epoch()
        if epoch == "unseeded":
            if not self._empty:
                self._empty_since = time.monotonic()
            self._empty = True
            if self._spooled() and time.monotonic() < self._empty_since + _SPOOL_SECONDS:
                return  # the ledger does not know what was spent before its rows are there
            try:
                await self._state.seed(self._seed)
            except Exception as error:  # the ledger's database, whichever it is
                if not self._complained:
                    log.error("state_not_seeded", reason=f"the ledger cannot be read: {type(error).__name__}")
                self._complained = True
                return
            self._complained = False
            epoch = await self._state.epoch()
        self._seen(epoch)

    async def tell_the_last(self) -> None:
        """Once, by the ledger's process at its start: those that its predecessor may not have told. The store has heard
        of most of them, and counts none twice."""
        since = int((time.time() - _TOLD_TO_A_NEW_STORE_SECONDS) * 1000)
        try:
            rows = await asyncio.to_thread(self._ledger.rows, since, limit=_MOST_RECENT)
        except LedgerError:
            return  # it is away; what is in doubt times out
        for row in rows:
            self.ended(row)

    def _seen(self, epoch: str | Failure) -> None:
        if epoch in ("unseeded", "timeout", "unreachable") or epoch == self._epoch:
            return
        if self._epoch or self._empty:
            since = time.monotonic() - _TOLD_TO_A_NEW_STORE_SECONDS
            self._waiting = deque(ended for ended in (*self._recent, *self._waiting) if ended.at >= since)
            if self._epoch:
                log.warning("state_seeded_again", reason="it had lost its data", to_tell=len(self._waiting))
            if not self._telling:
                self._telling = True
                self._tell()
        self._epoch, self._empty = epoch, False

    async def watch(self) -> None:
        """`look` for ever."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Until all is told, so long at most."""
        deadline = time.monotonic() + seconds
        while self._telling and time.monotonic() < deadline:  # noqa: ASYNC110  # once in a lifetime
            await asyncio.sleep(0.01)

    def _seed(self) -> Seed:
        """In a thread."""
        now = time.time()
        when = moment(now)
        day, month = (int(start.timestamp() * 1000) for start in starts(now))
        books = self._ledger.books(day, month, int(now * 1000) - _SEED_KNOWS_MS)
        return seed_of(books, when.day, when.month)


def settlement_of(row: LedgerRow) -> Settlement:
    """What a request cost, on the accounts of the day on which it began."""
    cost = row.cost_nano
    spent: tuple[tuple[str, int], ...] = ()
    if cost:
        when = moment(row.at_ms / 1000)
        spent = tuple((name, cost) for name in accounts(row.key_name, row.tenant, row.service, when))
    # An error or a refusal has used none.
    return Settlement(row.request_id, spent, row.usage.input_tokens + row.usage.output_tokens)


def seed_of(books: Books, day: str, month: str) -> Seed:
    spent: dict[str, int] = {}
    for period, sums in ((day, books.day), (month, books.month)):
        named: Sequence[tuple[Scope, Mapping[str, int]]] = (
            ("key", sums.keys),
            ("tenant", sums.tenants),
            ("service", sums.services),
        )
        for scope, by_name in named:
            spent |= {account(scope, name, period): cost for name, cost in by_name.items() if name}
    return Seed(spent, books.recent_ids)
