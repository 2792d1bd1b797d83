"""Questions to the ledger: what was saved, where requests went, what each model, key or tenant cost (in nano-dollars).

All of them are added up from the same sums (report_sums.py), so that they agree with each other to the nano-dollar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar

from sqlalchemy import Connection, text

from aion_extproc.stores.ledger_tables import HOUR_MS
from aion_extproc.stores.report_sums import DAY, AttemptSums, Group, Sums, attempt_sums, sums
from aion_extproc.stores.scope import Scope

K = TypeVar("K")

By = Literal["model", "provider", "key", "tenant", "service", "task", "tier", "day"]
_KEYS: dict[By, tuple[str, ...]] = {
    "model": ("provider", "model"),
    "provider": ("provider",),
    "key": ("key_name",),
    "tenant": ("tenant",),
    "service": ("service",),
    "task": ("task",),
    "tier": ("tier",),
    "day": (DAY,),
}
# Of an attempt nobody knows these.
_NOT_OF_ATTEMPTS: tuple[By, ...] = ("task", "tier")


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


@dataclass(frozen=True, slots=True)
class Line:
    """`name` is empty for requests that have none: no model was chosen, the key has no tenant. `failed`: None where
    attempts cannot be told apart like that."""

    name: str
    sums: Sums
    failed: AttemptSums | None


@dataclass(frozen=True, slots=True)
class Report:
    """The lines add up to the total, dearest first; days in their order."""

    by: By
    lines: tuple[Line, ...]
    total: Line
    baseline_models: tuple[str, ...]
    reference_models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """Nano-dollars, by name; "" for those that have none."""

    keys: dict[str, int]
    tenants: dict[str, int]
    services: dict[str, int]


@dataclass(frozen=True, slots=True)
class Books:
    """What there is to know of budgets, as of one moment. `recent_ids`: of those requests in these sums
    that ended lately."""

    day: Spent
    month: Spent
    recent_ids: list[str]


def savings(connection: Connection, since_ms: int, until_ms: int, scope: Scope) -> Savings:
    groups = sums(connection, since_ms, until_ms, ("baseline_model",), scope)
    total = sum(groups.values(), Sums())
    return Savings(
        requests=total.requests,
        cost_nano=total.cost_nano,
        compared_requests=total.compared,
        compared_cost_nano=total.compared_cost_nano,
        baseline_nano=total.baseline_nano,
        unpriced_requests=total.unpriced,
        estimated_requests=total.estimated,
        baseline_models=_names(((name, of.compared) for (name,), of in groups.items())),
    )


def routing(connection: Connection, since_ms: int, until_ms: int, scope: Scope) -> Routing:
    keys = ("outcome", "provider", "model", "tier", "task")
    grouped: list[tuple[str, str, str, int, str, int]] = [
        (*group, of.requests) for group, of in sums(connection, since_ms, until_ms, keys, scope).items()
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


def costs(connection: Connection, since_ms: int, until_ms: int, scope: Scope) -> Costs:
    groups = sums(connection, since_ms, until_ms, ("provider", "model"), scope)
    by_model = [
        ModelCost(
            provider=provider,
            model=model,
            requests=of.requests,
            input_tokens=of.input_tokens,
            output_tokens=of.output_tokens,
            cache_read_tokens=of.cache_read_tokens,
            cache_write_tokens=of.cache_write_tokens,
            reasoning_tokens=of.reasoning_tokens,
            cost_nano=of.cost_nano,
            unpriced_requests=of.unpriced,
            estimated_requests=of.estimated,
        )
        for (provider, model), of in groups.items()
        if provider
    ]
    by_model.sort(key=lambda each: (-each.cost_nano, each.provider, each.model))
    return Costs(
        requests=sum(each.requests for each in by_model),
        cost_nano=sum(each.cost_nano for each in by_model),
        by_model=tuple(by_model),
    )


def report(connection: Connection, since_ms: int, until_ms: int, by: By, scope: Scope) -> Report:
    keys = _KEYS[by]
    both = ("baseline_model", "reference_model")
    lines: dict[str, Sums] = {}
    models: Counter[tuple[str, str]] = Counter()
    for (*group, baseline, reference), of in sums(connection, since_ms, until_ms, (*keys, *both), scope).items():
        name = _name(by, tuple(group))
        lines[name] = lines.get(name, Sums()) + of
        models["baseline", baseline] += of.compared
        models["reference", reference] += of.referred
    apart = by not in _NOT_OF_ATTEMPTS
    found = attempt_sums(connection, since_ms, until_ms, keys if apart else (), scope)
    failed = {_name(by, group): of for group, of in found.items() if of.attempts} if apart else {}
    names = sorted({*lines, *failed}, key=lambda name: (-lines.get(name, Sums()).cost_nano, name))
    if by in ("day", "tier"):
        names.sort()
    return Report(
        by=by,
        lines=tuple(
            Line(name, lines.get(name, Sums()), failed.get(name, AttemptSums()) if apart else None) for name in names
        ),
        total=Line("", sum(lines.values(), Sums()), sum(found.values(), AttemptSums())),
        baseline_models=_names((name, n) for (which, name), n in models.items() if which == "baseline"),
        reference_models=_names((name, n) for (which, name), n in models.items() if which == "reference"),
    )


_LONGEST_MS = 24 * HOUR_MS  # of an answer


def books(connection: Connection, day_ms: int, month_ms: int, recent_ms: int) -> Books:
    first = min(day_ms, month_ms)
    spent = text(
        "SELECT key_name, tenant, service,"
        " sum(CASE WHEN hour >= :day THEN cost_nano ELSE 0 END),"
        " sum(CASE WHEN hour >= :month THEN cost_nano ELSE 0 END)"
        " FROM hourly WHERE hour >= :first GROUP BY key_name, tenant, service"
    )
    hours = {"day": day_ms // HOUR_MS, "month": month_ms // HOUR_MS, "first": first // HOUR_MS}
    day, month = Spent({}, {}, {}), Spent({}, {}, {})
    for *names, of_day, of_month in connection.execute(spent, hours):
        for into, cost in ((day, int(of_day)), (month, int(of_month))):
            for sums_of, name in zip((into.keys, into.tenants, into.services), names, strict=True):
                sums_of[name] = sums_of.get(name, 0) + cost
    # By their ends: an answer may take hours.
    recent = text("SELECT request_id FROM requests WHERE at_ms >= :first AND at_ms + latency_ms >= :recent")
    since = {"first": recent_ms - _LONGEST_MS, "recent": recent_ms}
    return Books(day, month, list(connection.execute(recent, since).scalars()))


def _name(by: By, group: Group) -> str:
    if by == "model":
        provider, model = group
        return f"{provider}/{model}" if provider or model else ""
    if by == "day":
        return datetime.fromtimestamp(group[0] * 86400, UTC).date().isoformat()
    return str(group[0])


def _names(counts: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """Those that count for something."""
    return tuple(sorted(name for name, n in counts if name and n))


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _tally(counts: Iterable[tuple[K, int]]) -> list[tuple[K, int]]:
    """The sum for each key, largest first."""
    tallied: Counter[K] = Counter()
    for key, n in counts:
        tallied[key] += n
    return tallied.most_common()


def _shares(counts: Iterable[tuple[str, int]], whole: int, *, by_name: bool = False) -> tuple[Share, ...]:
    tally = _tally(counts)
    if by_name:
        tally.sort()
    return tuple(Share(name, n, _percent(n, whole)) for name, n in tally)
