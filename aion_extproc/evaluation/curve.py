"""What a ranking of prompts is worth to a router between a weak and a strong model.

The rows with the highest scores go to the strong model first, one more at every cut, from none to all of them. Rows of
the same score have no order: what is given for them is the expected value over all their orders, which lies on the line
between the cut before them and the one after them. So the order of a file never matters, a constant score is exactly a
router that chooses at random, and nothing is random here.

PGR, APGR and CPT are RouteLLM's (arXiv 2406.18665): with r(·) the mean quality of a router,
PGR(R) = (r(R) − r(weak)) / (r(strong) − r(weak)). All arrays are of one length n, a row each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

EQUAL = 1e-12  # qualities and shares nearer than that are the same: sums of many rows differ in their last bits


@dataclass(frozen=True, slots=True)
class Ranking:
    """The rows from the highest score to the lowest, those of one score together."""

    order: Indices  # (n,) row numbers
    starts: Indices  # (b,) where in `order` each block of one score begins

    def sums(self, values: Floats) -> Floats:
        """(b,) the sum of `values` over each block; with values (…, n) over the last axis."""
        return np.add.reduceat(values[..., self.order], self.starts, axis=-1)

    def running(self, values: Floats) -> Floats:
        """(b + 1,) what the rows sent to the strong model add up to after each block; 0 first."""
        return np.concatenate(([0.0], np.cumsum(self.sums(values))))


def rank(score: ArrayLike) -> Ranking:
    """From the highest score to the lowest. ValueError: there is no row, or a score is not a number."""
    values = np.asarray(score, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError("needs at least one score")
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    return Ranking(order, np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1]))))


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality and cost of a router at every cut, (b + 1,) each: none to the strong model first, all of them last.
    Between two points everything is on the line between them."""

    share: Floats  # of the rows that go to the strong model, from 0 to 1
    quality: Floats  # mean over all rows
    cost: Floats  # mean over all rows, in the unit of the costs


def trace(score: ArrayLike, weak: Floats, strong: Floats, weak_cost: Floats, strong_cost: Floats) -> Curve:
    """The curve of a ranking. All (n,): quality in 0..1, costs in one unit (USD, say, or 0 and 1 for calls)."""
    ranking = rank(score)
    n = len(weak)
    return Curve(
        share=ranking.running(np.ones(n)) / n,
        quality=weak.mean() + ranking.running(strong - weak) / n,
        cost=weak_cost.mean() + ranking.running(strong_cost - weak_cost) / n,
    )


def apgr(score: ArrayLike, gain: ArrayLike) -> float | None:
    """The area under PGR over the share of calls that go to the strong model: RouteLLM's APGR, over every cut instead
    of ten. .5: no better than chance. `score`: the higher, the sooner strong; `gain`: quality of the strong model minus
    that of the weak one. None: the strong model is no better, so there is nothing to recover."""
    return apgr_of(rank(score), np.asarray(gain, np.float64))


def apgr_of(ranking: Ranking, gain: Floats, weight: Floats | None = None) -> float | None:
    """The same of rows that are already ranked, each counted `weight` times (a bootstrap's draws)."""
    weight = np.ones(len(gain)) if weight is None else weight
    rows, gained = ranking.sums(weight), ranking.sums(weight * gain)
    total, count = float(gained.sum()), float(rows.sum())
    if total <= EQUAL * count:
        return None
    # A trapezoid for every block: its width in rows, times the gain in its middle.
    return float(rows @ (np.cumsum(gained) - gained / 2) / (total * count))


def cpt(score: ArrayLike, gain: ArrayLike, target: float) -> float | None:
    """CPT(target): the least share of calls to the strong model at which PGR ≥ target (0..1). None: as for `apgr`."""
    ranking, gains = rank(score), np.asarray(gain, np.float64)
    recovered = ranking.running(gains)
    if recovered[-1] <= EQUAL * len(gains):
        return None
    return _first(ranking.running(np.ones(len(gains))) / len(gains), recovered / recovered[-1], target)


def _first(x: Floats, y: Floats, target: float) -> float:
    """Where the line through the points reaches y = target for the first time; it does so at its end at the latest."""
    at = int(np.argmax(y >= target - EQUAL))
    if at == 0:
        return float(x[0])
    part = (target - y[at - 1]) / (y[at] - y[at - 1])
    return float(x[at - 1] + min(1.0, part) * (x[at] - x[at - 1]))


def auc(curve: Curve) -> float | None:
    """The area under quality over cost, with the cost taken from 0 (always weak) to 1 (always strong): the mean quality
    over all budgets between the two, as RouterBench's AIQ (arXiv 2403.12031), but of the curve itself and not of its
    hull. None: the strong model costs no more than the weak one."""
    span = curve.cost[-1] - curve.cost[0]
    if span <= EQUAL * max(abs(curve.cost[0]), abs(curve.cost[-1])):
        return None
    x = (curve.cost - curve.cost[0]) / span
    return float(np.diff(x) @ (curve.quality[1:] + curve.quality[:-1]) / 2)


def least_cost(curve: Curve, quality: float) -> float | None:
    """The least cost on the curve at which the mean quality is at least so much; None: it never is."""
    q, c = curve.quality, curve.cost
    reached = q >= quality - EQUAL
    if not reached.any():
        return None
    costs = [float(c[reached].min())]
    crossing = np.flatnonzero(reached[1:] != reached[:-1])
    if crossing.size:
        part = np.clip((quality - q[crossing]) / (q[crossing + 1] - q[crossing]), 0, 1)
        costs.append(float((c[crossing] + part * (c[crossing + 1] - c[crossing])).min()))
    return min(costs)


def saved(curve: Curve, of_strong: float) -> float | None:
    """The share of always-strong's cost that can be saved at a quality of at least `of_strong` (1, .99, …) times
    always-strong's. None: always-strong costs nothing."""
    everything = curve.cost[-1]
    cheapest = least_cost(curve, of_strong * float(curve.quality[-1]))
    if everything <= 0 or cheapest is None:
        return None
    return float(1 - cheapest / everything)
