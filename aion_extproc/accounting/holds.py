"""What is held for a request while it runs, and what is known of it when it has ended. Plain values and arithmetic; the
stores (stores/state.py) keep them.

    budget     an account of nano-dollars: granted while  spent + reserved + amount ≤ limit, or the amount is nothing
    bucket     a rate per minute, by the generic cell rate algorithm (ITU-T I.371): it has one number, the time `tat` at
               which it is full again, in microseconds.
                   backlog = max(tat − now, 0)       need(n) = ⌈n · 60 s / limit⌉
                   granted while backlog + need(n) ≤ 60 s, or the bucket is full (backlog = 0): what is larger than a
                   whole minute's worth waits for all of it, and is paid back by those who come after
                   then tat := max(tat, now) + need(n)
    slot       how many requests are open: granted while open < limit

All of a request's are granted, or none. Holds are tuples, for each request makes a handful of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

MINUTE_US = 60_000_000


class BudgetHold(NamedTuple):
    account: str
    limit_nano: int
    amount_nano: int  # an upper estimate


class BucketHold(NamedTuple):
    bucket: str
    limit: int  # a minute
    amount: int
    # Tokens are estimated and set right afterwards; requests are what they are.
    kind: Literal["requests", "tokens"]


class SlotHold(NamedTuple):
    slot: str
    limit: int


class Hold(NamedTuple):
    """All that one request asks for. `id` is the request's; to ask again takes the place of what was held before."""

    id: str
    budgets: tuple[BudgetHold, ...] = ()
    buckets: tuple[BucketHold, ...] = ()
    slots: tuple[SlotHold, ...] = ()


class Verdict(NamedTuple):
    """The answer to a hold, in its order: what was there before it."""

    granted: bool
    used_nano: tuple[int, ...] = ()  # spent and reserved, of each budget
    backlog_us: tuple[int, ...] = ()  # of each bucket
    open: tuple[int, ...] = ()  # of each slot


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a request. `spent`: its exact cost on all its accounts. `tokens`: that it used; None: nobody knows,
    and the estimate stays."""

    id: str
    spent: tuple[tuple[str, int], ...] = ()
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """`before` and `after`: what was spent on each account, in the order of the settlement. Empty where it had been
    settled before."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def need_us(amount: int, limit: int) -> int:
    """How long a bucket takes to make up for so much, in microseconds."""
    return -(-amount * MINUTE_US // limit)


def budget_fits(hold: BudgetHold, used_nano: int) -> bool:
    return not hold.amount_nano or used_nano + hold.amount_nano <= hold.limit_nano


def bucket_wait_us(hold: BucketHold, backlog_us: int) -> int:
    """How long until the bucket would grant it, in microseconds; 0: now."""
    need = need_us(hold.amount, hold.limit)
    return backlog_us if need > MINUTE_US else max(0, backlog_us + need - MINUTE_US)


def remaining(limit: int, backlog_us: int) -> int:
    """How much the bucket would grant now."""
    return max(0, (MINUTE_US - backlog_us) * limit // MINUTE_US)
