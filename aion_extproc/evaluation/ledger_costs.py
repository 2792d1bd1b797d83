"""Thresholds for a share of the cost to be saved, from the ledger: the scores and tokens of its requests, priced at the
models of every tier. Nothing in it says whether an answer was good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aion_extproc.accounting.cost import cost_nano
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.catalog.model import Model
from aion_extproc.classify.classification import Thresholds
from aion_extproc.evaluation.curve import EQUAL, Floats
from aion_extproc.stores.ledger import Ledger

PAGE = 10_000  # rows read at once
STEPS = 1000  # from everything on tier 3 to everything on tier 1


@dataclass(frozen=True, slots=True)
class Costs:
    """What the ledger's requests would cost on each tier."""

    score: Floats  # (n,)
    nano: NDArray[np.int64]  # (3, n) nano-dollars on tier 1, 2, 3


@dataclass(frozen=True, slots=True)
class Saving:
    """What thresholds would have saved."""

    thresholds: Thresholds
    shares: tuple[float, float, float]  # of the requests, on tier 1, 2, 3
    nano: int  # nano-dollars spent
    saved: float  # as a share of what all of them cost on tier 3


def pages(ledger: Ledger, since_ms: int, until_ms: int) -> Iterator[LedgerRow]:
    """The rows with since_ms <= at_ms < until_ms, oldest first. Raises LedgerError."""
    seen: set[str] = set()  # of the millisecond that the last page ended in
    size = PAGE
    while True:
        page = ledger.rows(since_ms, until_ms, size)
        fresh = [row for row in page if row.request_id not in seen]
        yield from fresh
        if len(page) < size:
            return
        if page[-1].at_ms == since_ms:
            size += PAGE  # more rows in one millisecond than a page holds
        since_ms = page[-1].at_ms
        seen = {row.request_id for row in page if row.at_ms == since_ms}


def costs(rows: Iterable[LedgerRow], tiers: Sequence[Sequence[Model]]) -> Costs | None:
    """Of the requests that were classified and answered: the same usage at the cheapest model of each tier. `tiers`:
    the models of tier 1, 2 and 3, all with prices; a tier without any is that of the next one above, or of the highest
    there is, as in routing. None: there is no such request. ValueError: no tier has a model."""
    if not any(tiers):
        raise ValueError("no model has a tier and a price")
    highest = next(models for models in reversed(tiers) if models)
    filled = [next((models for models in tiers[place:] if models), highest) for place in range(len(tiers))]
    scores: list[float] = []
    nano: list[list[int]] = []
    for row in rows:
        if row.score is None or not (row.usage.input_tokens or row.usage.output_tokens):
            continue
        scores.append(row.score)
        nano.append([min(cost_nano(model.prices, row.usage) for model in models if model.prices) for models in filled])
    return Costs(np.array(scores), np.array(nano, np.int64).T) if scores else None


def savings(costs: Costs, configured: Thresholds) -> list[Saving]:
    """From everything on tier 3 to everything on tier 1.

    Costs alone cannot say where to put two thresholds. They are moved together, from both at 0 through the configured
    ones to both at 1, so that what was configured keeps its shape. ValueError: tier 3 costs nothing.
    """
    everything = int(costs.nano[2].sum())
    if everything <= 0:
        raise ValueError("tier 3 costs nothing, so nothing can be saved")
    order = np.argsort(costs.score, kind="stable")
    ranked, n = costs.score[order], len(costs.score)
    running = np.concatenate((np.zeros((3, 1), np.int64), np.cumsum(costs.nano[:, order], axis=1)), axis=1)

    def at(thresholds: Thresholds) -> Saving:
        first = int(np.searchsorted(ranked, thresholds.tier1, "left"))
        second = max(first, int(np.searchsorted(ranked, thresholds.tier2, "right")))
        spent = int(running[0, first] + running[1, second] - running[1, first] + running[2, n] - running[2, second])
        return Saving(thresholds, (first / n, (second - first) / n, (n - second) / n), spent, 1 - spent / everything)

    return [at(_moved(configured, 2 * step / STEPS)) for step in range(STEPS + 1)]


def choose(found: Sequence[Saving], target: float) -> tuple[int, bool]:
    """Which of them: the one nearest to everything on tier 3 that saves at least `target` (0..1), and True; or the one
    that saves most, and False."""
    met = next((index for index, saving in enumerate(found) if saving.saved >= target - EQUAL), None)
    if met is not None:
        return met, True
    return max(range(len(found)), key=lambda index: found[index].saved), False


def _moved(configured: Thresholds, way: float) -> Thresholds:
    """`way`: 0 all on tier 3, 1 as configured, 2 all on tier 1."""

    def at(threshold: float) -> float:
        return round(way * threshold if way <= 1 else threshold + (way - 1) * (1 - threshold), 4)

    return Thresholds(at(configured.tier1), at(configured.tier2))
