"""What a caller may spend and use: budgets of a day and of a month, and limits a minute. From them the hold of one
request (holds.py), and from the verdict on it what the client is told.

Days and months are UTC's. A request counts on the day on which it began, however long it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil
from typing import Literal

from aion_extproc.accounting.cost import usd
from aion_extproc.accounting.holds import (
    BucketHold,
    BudgetHold,
    Hold,
    SlotHold,
    Verdict,
    bucket_wait_us,
    budget_fits,
    need_us,
    remaining,
)

Scope = Literal["key", "tenant", "service", "model"]
Period = Literal["day", "month"]
_DAY = 86400
_SLOT_SECONDS = 1  # nobody knows when an open request will end


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one key, tenant or service in one period."""

    scope: Scope
    name: str
    period: Period
    limit_nano: int
    downgrade: bool  # to what fits, instead of a refusal
    warn_at: tuple[int, ...] = ()  # percent of the limit

    def account(self, moment: Moment) -> str:
        return account(self.scope, self.name, moment.day if self.period == "day" else moment.month)

    def __str__(self) -> str:
        what = {"day": "daily", "month": "monthly"}[self.period]
        return f"{what} budget of {self.scope} {self.name}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one key, tenant or model. None: no limit."""

    scope: Scope
    name: str
    requests: int | None  # a minute
    tokens: int | None  # a minute
    concurrent: int | None


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time as accounts see it."""

    day: str  # 20261122
    month: str  # 202611
    left_of_day: int  # seconds to its end, rounded up
    left_of_month: int


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a hold was not granted, for the client. `scope` model: another model may do. `retry_after`: seconds."""

    kind: Literal["budget", "requests", "tokens", "concurrent"]
    scope: Scope
    message: str
    retry_after: float
    left_nano: int = 0  # of the budgets that were asked for, the least
    downgrade: bool = False  # only budgets were in the way, and they want that
    budget: Budget | None = None
    denied: str = ""  # for the facts


def moment(at: float, now: float | None = None) -> Moment:
    """Of UTC seconds since 1970. What is left is counted from `now` on, which may be later, and a second at least."""
    number = int(at) // _DAY
    day, month, next_month = _named(number)
    second = int(at if now is None else now)
    return Moment(day, month, max(1, (number + 1) * _DAY - second), max(1, next_month - second))


@lru_cache(maxsize=8)
def _named(number: int) -> tuple[str, str, int]:
    """The names of a day, counted from 1970, and of its month, and the second at which the next month begins."""
    day = datetime.fromtimestamp(number * _DAY, UTC)
    next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return day.strftime("%Y%m%d"), day.strftime("%Y%m"), int(next_month.timestamp())


def starts(at: float) -> tuple[datetime, datetime]:
    """Of the day and of the month in which that is."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day, day.replace(day=1)


def account(scope: Scope, name: str, period: str) -> str:
    """The name of an account; `period` as a Moment writes it."""
    return f"{scope}:{name}:{period}"


def accounts(key: str, tenant: str, service: str, when: Moment) -> Iterator[str]:
    """All accounts that a request is charged to."""
    named: Sequence[tuple[Scope, str]] = (("key", key), ("tenant", tenant), ("service", service))
    for scope, name in named:
        if name:
            yield account(scope, name, when.day)
            yield account(scope, name, when.month)


def hold_of(
    id: str, budgets: Iterable[Budget], limits: Iterable[Limits], amount_nano: int, tokens: int, when: Moment
) -> Hold:
    """What a request asks for. `amount_nano`, `tokens`: estimates."""
    buckets: list[BucketHold] = []
    slots: list[SlotHold] = []
    for one in limits:
        name = f"{one.scope}:{one.name}"
        if one.requests is not None:
            buckets.append(BucketHold(f"{name}:r", one.requests, 1, "requests"))
        if one.tokens is not None:
            buckets.append(BucketHold(f"{name}:t", one.tokens, tokens, "tokens"))
        if one.concurrent is not None:
            slots.append(SlotHold(name, one.concurrent))
    return Hold(
        id,
        tuple([BudgetHold(one.account(when), one.limit_nano, amount_nano) for one in budgets]),
        tuple(buckets),
        tuple(slots),
    )


def denial(hold: Hold, verdict: Verdict, budgets: Sequence[Budget], when: Moment) -> Denial:
    """Of a hold that was made of these budgets and not granted: what keeps it longest."""
    tight = [
        budget
        for budget, held, used in zip(budgets, hold.budgets, verdict.used_nano, strict=True)
        if not budget_fits(held, used)
    ]
    found: list[Denial] = []
    for bucket, backlog in zip(hold.buckets, verdict.backlog_us, strict=True):
        wait = bucket_wait_us(bucket, backlog) / 1e6
        if wait:
            found.append(_too_many(bucket.bucket, bucket.kind, bucket.limit, wait))
    for slot, there in zip(hold.slots, verdict.open, strict=True):
        if there >= slot.limit:
            found.append(_too_many(slot.slot, "concurrent", slot.limit, _SLOT_SECONDS))
    if tight:
        left = min(held.limit_nano - used for held, used in zip(hold.budgets, verdict.used_nano, strict=True))
        downgrade = all(budget.downgrade for budget in tight)
        used = dict(zip(budgets, verdict.used_nano, strict=True))
        if not (downgrade and found):  # something may fit as soon as the limits allow it
            found += [_spent(budget, used[budget], max(0, left), downgrade, when) for budget in tight]
    return max(found, key=lambda one: one.retry_after)


def _too_many(name: str, kind: Literal["requests", "tokens", "concurrent"], limit: int, wait: float) -> Denial:
    scope, _, rest = name.partition(":")
    whose = rest if kind == "concurrent" else rest.rpartition(":")[0]
    what = "requests at a time" if kind == "concurrent" else f"{kind} per minute"
    known: Scope = "key" if scope == "key" else "tenant" if scope == "tenant" else "model"
    return Denial(kind, known, f"The {scope} {whose} may use {limit} {what}, and does.", wait)


def _spent(budget: Budget, used: int, left: int, downgrade: bool, when: Moment) -> Denial:
    wait = when.left_of_day if budget.period == "day" else when.left_of_month
    message = (
        f"The {budget} is ${usd(budget.limit_nano)}, and what is left of it (${usd(left)}) may not be enough for this "
        f"request; it begins anew in {wait} seconds."
    )
    return Denial("budget", budget.scope, message, wait, left, downgrade, budget, f"{budget.account(when)} {used}")


def rate_headers(hold: Hold, verdict: Verdict) -> dict[str, str]:
    """OpenAI's x-ratelimit-* headers, without their x-, of the limit of each kind that has least left."""
    least: dict[str, tuple[int, int, int]] = {}
    granted = verdict.granted
    for bucket, backlog in zip(hold.buckets, verdict.backlog_us, strict=True):
        if bucket.bucket.startswith("model:"):  # what others use too
            continue
        limit = bucket.limit
        after = backlog + need_us(bucket.amount, limit) if granted else backlog
        one = (remaining(limit, after), limit, after)
        known = least.get(bucket.kind)
        if known is None or one < known:
            least[bucket.kind] = one
    told: dict[str, str] = {}
    for kind, (left, limit, after) in least.items():
        told[f"ratelimit-limit-{kind}"] = str(limit)
        told[f"ratelimit-remaining-{kind}"] = str(left)
        told[f"ratelimit-reset-{kind}"] = _duration(after)
    return told


def _duration(us: int) -> str:
    """As OpenAI writes it: 120ms, 7.66s, 6m0s."""
    ms = ceil(us / 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    seconds = f"{rest / 1000:g}s"
    return f"{minutes}m{seconds}" if minutes else seconds
