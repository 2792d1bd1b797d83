"""Reports of the benchmarks as tables for people, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from typing import Any

from rich.markup import escape
from rich.table import Table

from aion_extproc.accounting.cost import NANO_PER_USD, usd
from aion_extproc.bench.costs import ALWAYS_STRONG, TIERS, Report, Run
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import PICO_PER_NANO, Rate


def heading(report: Report, catalog: Catalog, at: datetime) -> str:
    """What was measured, with which prices."""
    models = ", ".join(f"{model.provider}/{model.id} (tier {model.tier})" for model in catalog.models if model.tier)
    return (
        f"{report.name}: {len(report.groups):,} requests in {report.format.value}'s format, seed {report.seed}\n"
        f"{models}\n"
        f"prices of {at:%Y-%m-%d} (genai-prices {version('genai-prices')}, or the configuration's)"
    )


def costs(report: Report) -> Table:
    """A row for each run. A mix has no prompt cache."""
    cached = report.name == "session"
    table = _table("", ["tier 1", "tier 2", "tier 3", "$", "saved"])
    if cached:
        for name in ("$, prompt caches", "saved", "input from cache", "switches"):
            table.add_column(name, justify="right")
        table.caption = (
            "saved: of always strong's dollars beside it; switches: steps at another model than the last one"
        )
    else:
        table.caption = "saved: of what always strong costs"
    strong = report.runs[ALWAYS_STRONG]
    for name, run in report.runs.items():
        shares = [f"{run.tier_shares[tier]:.1%}" for tier in TIERS]
        figures = [_usd(run.uncached_nano), f"{saved(run.uncached_nano, strong.uncached_nano):.1%}"]
        if cached:
            read = run.usage.cache_read_tokens / run.usage.input_tokens
            figures += [_usd(run.cost_nano), f"{saved(run.cost_nano, strong.cost_nano):.1%}", f"{read:.1%}"]
            figures += [str(run.switches)]
        table.add_row(name, *shares, *figures)
    return table


def groups(report: Report) -> Table:
    """Which tier the classifier gives each category, or each kind of task, without what the session adds."""
    table = _table("category" if report.name == "mix" else "kind of task", ["requests", "tier 1", "tier 2", "tier 3"])
    for group, counts in report.by_group().items():
        figures = (str(counts[tier] or "") for tier in TIERS)
        table.add_row(escape(group), str(sum(counts.values())), *figures)
    return table


def saved(cost: int, baseline: int) -> float:
    """The share of the baseline that was saved; below zero: it cost more."""
    return 1 - cost / baseline if baseline else 0.0


def as_json(report: Report, catalog: Catalog, at: datetime) -> dict[str, Any]:
    """Everything, unrounded; money in nano-dollars and prices in dollars for a million tokens."""
    strong = report.runs[ALWAYS_STRONG]
    return {
        "benchmark": report.name,
        "seed": report.seed,
        "format": report.format.value,
        "requests": len(report.groups),
        "genai_prices": version("genai-prices"),
        "prices_of": f"{at:%Y-%m-%d}",
        "models": [
            {"provider": model.provider, "id": model.id, "tier": model.tier, "usd_per_1m": _prices(model.prices)}
            for model in catalog.models
            if model.tier
        ],
        "groups": {group: dict(counts) for group, counts in report.by_group().items()},
        "runs": {name: _run(run, strong) for name, run in report.runs.items()},
    }


def _run(run: Run, strong: Run) -> dict[str, Any]:
    return {
        "tier_shares": dict(run.tier_shares),
        "switches": run.switches,
        "usage": asdict(run.usage),
        "uncached_nano": run.uncached_nano,
        "uncached_saved": saved(run.uncached_nano, strong.uncached_nano),
        "cost_nano": run.cost_nano,
        "saved": saved(run.cost_nano, strong.cost_nano),
    }


def _prices(prices: Any) -> dict[str, list[object]]:
    """[the price, then (above so many input tokens, that price) …] by kind of token."""
    found = {name: getattr(prices, name) for name in getattr(prices, "__slots__", ())}
    return {name: _rate(rate) for name, rate in found.items() if rate is not None}


def _rate(rate: Rate) -> list[object]:
    per_million = NANO_PER_USD * PICO_PER_NANO / 1_000_000
    return [rate.base / per_million, *((above, price / per_million) for above, price in rate.above)]


def _usd(nano: int) -> str:
    whole, _, decimals = usd(nano).partition(".")
    return f"{whole}.{decimals[:4]}"


def _table(first: str, columns: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, caption_justify="left")
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table
