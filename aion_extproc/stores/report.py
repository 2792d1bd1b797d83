"""Questions to the ledger: what was saved, where requests went, what each model cost (in nano-dollars)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, and_, case, func, select

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Savings:
    """`cost_nano` is all that is known to have been spent.

    The saving is only taken over requests of which both the cost and the baseline are known.
    """

    requests: int
    cost_nano: int
    compared_requests: int
    compared_cost_nano: int
    baseline_nano: int
    unpriced_requests: int  # a provider answered, and no price is known
    estimated_requests: int  # token counts are estimates
    baseline_models: tuple[str, ...]

    @property
    def saved_nano(self) -> int:
        return self.baseline_nano - self.compared_cost_nano


@dataclass(frozen=True, slots=True)
class Share:
    """So many requests of one kind; `percent` is of all routed requests (of all requests, for outcomes)."""

    name: str
    requests: int
    percent: float


@dataclass(frozen=True, slots=True)
class ModelShare:
    provider: str
    model: str
    tier: int
    requests: int
    percent: float


@dataclass(frozen=True, slots=True)
class Routing:
    requests: int
    routed_requests: int  # those for which a model was chosen
    by_outcome: tuple[Share, ...]
    by_tier: tuple[Share, ...]
    by_model: tuple[ModelShare, ...]
    by_task: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Sums over the requests of one model at one provider; `cost_nano` leaves out the unpriced ones."""

    provider: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_nano: int
    unpriced_requests: int
    estimated_requests: int


@dataclass(frozen=True, slots=True)
class Costs:
    requests: int
    cost_nano: int
    by_model: tuple[ModelCost, ...]


def _between(table: Table, since_ms: int, until_ms: int) -> ColumnElement[bool]:
    return and_(table.c.at_ms >= since_ms, table.c.at_ms < until_ms)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


def _unpriced(table: Table) -> ColumnElement[bool]:
    answered = and_(table.c.outcome.in_(("served", "cut")), table.c.provider != "")
    return and_(answered, table.c.cost_nano.is_(None))


def savings(connection: Connection, table: Table, since_ms: int, until_ms: int) -> Savings:
    c = table.c
    within = _between(table, since_ms, until_ms)
    compared = and_(c.cost_nano.is_not(None), c.baseline_nano.is_not(None))
    row = connection.execute(
        select(
            func.count(),
            _sum(c.cost_nano),
            _count(compared),
            _sum(case((compared, c.cost_nano), else_=0)),
            _sum(case((compared, c.baseline_nano), else_=0)),
            _count(_unpriced(table)),
            _count(c.estimated.is_(True)),
        ).where(within)
    ).one()
    models = connection.execute(
        select(c.baseline_model).where(within, compared, c.baseline_model != "").distinct().order_by(c.baseline_model)
    ).scalars()
    requests, cost, compared_requests, compared_cost, baseline, unpriced, estimated = map(int, row)
    return Savings(
        requests=requests,
        cost_nano=cost,
        compared_requests=compared_requests,
        compared_cost_nano=compared_cost,
        baseline_nano=baseline,
        unpriced_requests=unpriced,
        estimated_requests=estimated,
        baseline_models=tuple(models),
    )


def routing(connection: Connection, table: Table, since_ms: int, until_ms: int) -> Routing:
    c = table.c
    within = _between(table, since_ms, until_ms)
    grouped: list[tuple[str, str, str, int, str, int]] = [
        (outcome, provider, model, tier, task, int(n))
        for outcome, provider, model, tier, task, n in connection.execute(
            select(c.outcome, c.provider, c.model, c.tier, c.task, func.count())
            .where(within)
            .group_by(c.outcome, c.provider, c.model, c.tier, c.task)
        )
    ]
    total = sum(group[-1] for group in grouped)
    routed = [group for group in grouped if group[2]]
    of_routed = sum(group[-1] for group in routed)
    models = _tally([((provider, model, tier), n) for _, provider, model, tier, _, n in routed])
    return Routing(
        requests=total,
        routed_requests=of_routed,
        by_outcome=_shares([(outcome, n) for outcome, *_, n in grouped], total),
        by_tier=_shares([(str(tier), n) for _, _, _, tier, _, n in routed], of_routed, by_name=True),
        by_model=tuple(
            ModelShare(provider, model, tier, n, _percent(n, of_routed)) for (provider, model, tier), n in models
        ),
        by_task=_shares([(task or "unclassified", n) for *_, task, n in routed], of_routed),
    )


def costs(connection: Connection, table: Table, since_ms: int, until_ms: int) -> Costs:
    c = table.c
    records = connection.execute(
        select(
            c.provider,
            c.model,
            func.count(),
            _sum(c.input_tokens),
            _sum(c.output_tokens),
            _sum(c.cache_read_tokens),
            _sum(c.cache_write_tokens),
            _sum(c.reasoning_tokens),
            _sum(c.cost_nano),
            _count(_unpriced(table)),
            _count(c.estimated.is_(True)),
        )
        .where(_between(table, since_ms, until_ms), c.provider != "")
        .group_by(c.provider, c.model)
    )
    by_model = [ModelCost(record[0], record[1], *(int(value) for value in record[2:])) for record in records]
    by_model.sort(key=lambda each: (-each.cost_nano, each.provider, each.model))
    return Costs(
        requests=sum(each.requests for each in by_model),
        cost_nano=sum(each.cost_nano for each in by_model),
        by_model=tuple(by_model),
    )


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _tally(counts: Iterable[tuple[K, int]]) -> list[tuple[K, int]]:
    """The sum for each key, largest first."""
    sums: Counter[K] = Counter()
    for key, n in counts:
        sums[key] += n
    return sums.most_common()


def _shares(counts: Iterable[tuple[str, int]], whole: int, *, by_name: bool = False) -> tuple[Share, ...]:
    tally = _tally(counts)
    if by_name:
        tally.sort()
    return tuple(Share(name, n, _percent(n, whole)) for name, n in tally)
