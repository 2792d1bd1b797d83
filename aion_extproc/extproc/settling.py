"""Tells the shared state how requests have ended, and has it seeded when it knows nothing.

What was told lately is kept: a store that lost its data is seeded from the ledger, which may not have the last rows
yet, and hears of those again. The store counts no request twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import structlog

from aion_extproc.accounting.allowances import Scope, account, accounts, moment, starts
from aion_extproc.accounting.holds import Settled, Settlement
from aion_extproc.accounting.metrics import Metrics
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.report import Books
from aion_extproc.stores.state import Failure, Seed, State

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 0.2
_AT_ONCE = 200  # settlements in one call: the store serves nobody else meanwhile
_RECENT_SECONDS = 60.0  # longer than a row waits for the ledger while that is well
_MOST_RECENT = 100_000
_MOST_WAITING = 500_000
_SEED_KNOWS_MS = 300_000  # the seed has the ids of requests that ended so lately

Spent = Callable[[str, int, int], None]  # account, nano-dollars spent before and after


def _nobody(_account: str, _before: int, _after: int) -> None:
    pass


class Settler:
    """Of one process. `spent` hears of every account that was charged. All is done in the event loop's thread."""

    def __init__(self, state: State, ledger: Ledger, metrics: Metrics, spent: Spent = _nobody) -> None:
        self._state = state
        self._ledger = ledger
        self._metrics = metrics
        self._spent = spent
        self._waiting: deque[Settlement] = deque()
        self._recent: deque[tuple[float, Settlement]] = deque()
        self._epoch = ""
        self._telling = False
        self._complained = False

    def ended(self, row: LedgerRow) -> None:
        """A request is over. Never blocks, never raises."""
        settlement = settlement_of(row)
        now = time.monotonic()
        self._recent.append((now, settlement))
        while self._recent[0][0] < now - _RECENT_SECONDS or len(self._recent) > _MOST_RECENT:
            self._recent.popleft()
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()  # its reservation times out, and a seed will have its cost
        self._waiting.append(settlement)
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        if not self._waiting:
            self._telling = False
            return
        part = [self._waiting[n] for n in range(min(_AT_ONCE, len(self._waiting)))]

        def told(answer: Sequence[Settled] | Failure) -> None:
            loop = asyncio.get_running_loop()
            if isinstance(answer, str):
                self._metrics.state_failures.labels("settle", answer, "again").inc()
                loop.call_later(_AGAIN_SECONDS, self._tell)
                return
            for _ in part:
                self._waiting.popleft()
            self._report(part, answer)
            loop.call_soon(self._tell)

        self._state.settle(part, told)

    def _report(self, part: Sequence[Settlement], answers: Sequence[Settled]) -> None:
        for settlement, settled in zip(part, answers, strict=True):
            charged = zip(settlement.spent, settled.before, settled.after, strict=False)
            for (name, _), before, after in charged:
                self._spent(name, before, after)

    async def look(self) -> None:
        """Once: whether the store still knows what it knew; seed it if it does not."""
        epoch = await self._state.epoch()
        if epoch == "unseeded":
            try:
                await self._state.seed(self._seed)
            except Exception as error:  # the ledger's database, whichever it is
                if not self._complained:
                    log.error("state_not_seeded", reason=f"the ledger cannot be read: {type(error).__name__}")
                self._complained = True
                return
            self._complained = False
            epoch = await self._state.epoch()
        if epoch in ("unseeded", "timeout", "unreachable") or epoch == self._epoch:
            return
        if self._epoch:
            log.warning("state_seeded_again", reason="the shared state had lost its data", told_again=len(self._recent))
            self._waiting.extendleft(settlement for _, settlement in reversed(self._recent))
            if not self._telling:
                self._telling = True
                self._tell()
        self._epoch = epoch

    async def watch(self) -> None:
        """`look` for ever."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Until all is told, so long at most."""
        deadline = time.monotonic() + seconds
        while self._waiting and time.monotonic() < deadline:  # noqa: ASYNC110  # once in a lifetime
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
