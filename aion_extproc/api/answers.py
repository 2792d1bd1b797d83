"""The answers of /aion/v1/metrics/…. Each amount is given twice: exactly, in integer nano-dollars, and as the
nearest double in dollars."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import BaseModel

from aion_extproc.stores.report import By, Costs, Line, Report, Routing, Savings

Range = Literal["1h", "24h", "7d", "30d", "all"]
HOUR_MS = 3_600_000
RANGE_MS: dict[Range, int | None] = {
    "1h": HOUR_MS,
    "24h": 24 * HOUR_MS,
    "7d": 7 * 24 * HOUR_MS,
    "30d": 30 * 24 * HOUR_MS,
    "all": None,
}


def usd(nano: int) -> float:
    return nano / 1_000_000_000  # of two integers, so rounded once


class SavingsAnswer(BaseModel):
    """Savings are taken over the `compared_requests`: those whose cost and baseline are both known."""

    range: Range
    total_requests: int
    total_cost_usd: float
    total_cost_nano: int
    compared_requests: int
    compared_cost_usd: float
    compared_cost_nano: int
    baseline_cost_usd: float
    baseline_cost_nano: int
    baseline_models: list[str]
    savings_usd: float
    savings_nano: int
    savings_percent: float
    unpriced_requests: int
    estimated_requests: int


class OutcomeShare(BaseModel):
    outcome: str
    requests: int
    percent: float


class TierShare(BaseModel):
    tier: int
    requests: int
    percent: float


class ModelShare(BaseModel):
    provider: str
    model: str
    tier: int
    requests: int
    percent: float


class TaskShare(BaseModel):
    task: str
    requests: int
    percent: float


class RoutingAnswer(BaseModel):
    """Percentages are of `routed_requests`, those of `by_outcome` of `total_requests`."""

    range: Range
    total_requests: int
    routed_requests: int
    by_outcome: list[OutcomeShare]
    by_tier: list[TierShare]
    by_model: list[ModelShare]
    by_task: list[TaskShare]


class ProviderCost(BaseModel):
    provider: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    cost_nano: int
    unpriced_requests: int


class ModelCost(ProviderCost):
    model: str
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated_requests: int


class CostsAnswer(BaseModel):
    """Requests that reached a provider, dearest first. Cached tokens are in input, reasoning is in output."""

    range: Range
    total_requests: int
    total_cost_usd: float
    total_cost_nano: int
    by_provider: list[ProviderCost]
    by_model: list[ModelCost]


class Figures(BaseModel):
    """Savings are taken over the `compared_requests`, those against the named baseline over the `reference_requests`.
    Energy in joules, of the `energy_requests`. Failed attempts are in no other figure; null: they cannot be told apart
    like that."""

    requests: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_usd: float
    cost_nano: int
    compared_requests: int
    compared_cost_nano: int
    baseline_cost_usd: float
    baseline_cost_nano: int
    savings_usd: float
    savings_nano: int
    reference_requests: int
    reference_compared_cost_nano: int
    reference_cost_usd: float
    reference_cost_nano: int
    reference_savings_usd: float
    reference_savings_nano: int
    unpriced_requests: int
    estimated_requests: int
    energy_requests: int
    energy_low_joules: float
    energy_high_joules: float
    mean_latency_ms: float | None
    failed_attempts: int | None
    failed_attempts_cost_usd: float | None
    failed_attempts_cost_nano: int | None


class StatsLine(Figures):
    name: str


class StatsAnswer(BaseModel):
    """The lines add up to the total; `name` is empty for requests that have none."""

    range: Range
    by: By
    baseline_models: list[str]
    reference_models: list[str]
    lines: list[StatsLine]
    total: Figures


def stats_answer(range_: Range, report: Report) -> StatsAnswer:
    return StatsAnswer(
        range=range_,
        by=report.by,
        baseline_models=list(report.baseline_models),
        reference_models=list(report.reference_models),
        lines=[StatsLine(name=line.name, **_figures(line).model_dump()) for line in report.lines],
        total=_figures(report.total),
    )


def _figures(line: Line) -> Figures:
    of, failed = line.sums, line.failed
    return Figures(
        requests=of.requests,
        input_tokens=of.input_tokens,
        output_tokens=of.output_tokens,
        cache_read_tokens=of.cache_read_tokens,
        cache_write_tokens=of.cache_write_tokens,
        reasoning_tokens=of.reasoning_tokens,
        cost_usd=usd(of.cost_nano),
        cost_nano=of.cost_nano,
        compared_requests=of.compared,
        compared_cost_nano=of.compared_cost_nano,
        baseline_cost_usd=usd(of.baseline_nano),
        baseline_cost_nano=of.baseline_nano,
        savings_usd=usd(of.saved_nano),
        savings_nano=of.saved_nano,
        reference_requests=of.referred,
        reference_compared_cost_nano=of.referred_cost_nano,
        reference_cost_usd=usd(of.reference_nano),
        reference_cost_nano=of.reference_nano,
        reference_savings_usd=usd(of.reference_saved_nano),
        reference_savings_nano=of.reference_saved_nano,
        unpriced_requests=of.unpriced,
        estimated_requests=of.estimated,
        energy_requests=of.metered,
        energy_low_joules=of.energy_low_mj / 1000,
        energy_high_joules=of.energy_high_mj / 1000,
        mean_latency_ms=round(of.latency_us / of.requests / 1000, 3) if of.requests else None,
        failed_attempts=None if failed is None else failed.attempts,
        failed_attempts_cost_usd=None if failed is None else usd(failed.cost_nano),
        failed_attempts_cost_nano=None if failed is None else failed.cost_nano,
    )


def savings_answer(range_: Range, savings: Savings) -> SavingsAnswer:
    saved, baseline = savings.saved_nano, savings.baseline_nano
    return SavingsAnswer(
        range=range_,
        total_requests=savings.requests,
        total_cost_usd=usd(savings.cost_nano),
        total_cost_nano=savings.cost_nano,
        compared_requests=savings.compared_requests,
        compared_cost_usd=usd(savings.compared_cost_nano),
        compared_cost_nano=savings.compared_cost_nano,
        baseline_cost_usd=usd(baseline),
        baseline_cost_nano=baseline,
        baseline_models=list(savings.baseline_models),
        savings_usd=usd(saved),
        savings_nano=saved,
        savings_percent=round(100 * saved / baseline, 2) if baseline else 0.0,
        unpriced_requests=savings.unpriced_requests,
        estimated_requests=savings.estimated_requests,
    )


def routing_answer(range_: Range, routing: Routing) -> RoutingAnswer:
    return RoutingAnswer(
        range=range_,
        total_requests=routing.requests,
        routed_requests=routing.routed_requests,
        by_outcome=[
            OutcomeShare(outcome=each.name, requests=each.requests, percent=each.percent)
            for each in routing.by_outcome
        ],
        by_tier=[
            TierShare(tier=int(each.name), requests=each.requests, percent=each.percent)
            for each in routing.by_tier
        ],
        by_model=[
            ModelShare(
                provider=each.provider,
                model=each.model,
                tier=each.tier,
                requests=each.requests,
                percent=each.percent,
            )
            for each in routing.by_model
        ],
        by_task=[
            TaskShare(task=each.name, requests=each.requests, percent=each.percent)
            for each in routing.by_task
        ],
    )


def costs_answer(range_: Range, costs: Costs) -> CostsAnswer:
    sums: dict[str, Counter[str]] = {}
    for each in costs.by_model:
        sums.setdefault(each.provider, Counter()).update(
            requests=each.requests,
            input_tokens=each.input_tokens,
            output_tokens=each.output_tokens,
            cost_nano=each.cost_nano,
            unpriced_requests=each.unpriced_requests,
        )
    providers = [
        ProviderCost(
            provider=name,
            requests=of["requests"],
            input_tokens=of["input_tokens"],
            output_tokens=of["output_tokens"],
            cost_usd=usd(of["cost_nano"]),
            cost_nano=of["cost_nano"],
            unpriced_requests=of["unpriced_requests"],
        )
        for name, of in sums.items()
    ]
    providers.sort(key=lambda each: (-each.cost_nano, each.provider))
    return CostsAnswer(
        range=range_,
        total_requests=costs.requests,
        total_cost_usd=usd(costs.cost_nano),
        total_cost_nano=costs.cost_nano,
        by_provider=providers,
        by_model=[
            ModelCost(
                provider=each.provider,
                model=each.model,
                requests=each.requests,
                input_tokens=each.input_tokens,
                output_tokens=each.output_tokens,
                cache_read_tokens=each.cache_read_tokens,
                cache_write_tokens=each.cache_write_tokens,
                reasoning_tokens=each.reasoning_tokens,
                cost_usd=usd(each.cost_nano),
                cost_nano=each.cost_nano,
                unpriced_requests=each.unpriced_requests,
                estimated_requests=each.estimated_requests,
            )
            for each in costs.by_model
        ],
    )
