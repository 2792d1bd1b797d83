"""Thresholds for a target, from labelled rows.

A cut sends the rows of the k lowest scores below it. Rows of one score stay together, as they do in routing. With two
models both thresholds are at one cut and no row is on tier 2; with three, tier 1 goes to the first, 2 to the second, 3
to the third, and every pair of cuts is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aion_extproc.classify.classification import Thresholds
from aion_extproc.evaluation.curve import EQUAL, Floats
from aion_extproc.evaluation.data import Outcomes
from aion_extproc.evaluation.measures import Point, point, tiers

MOST_CUTS = 2000  # of which all pairs are looked at: a twentieth of a per cent of the rows from one to the next

Target = Literal["savings", "quality loss"]


@dataclass(frozen=True, slots=True)
class Frontier:
    """The thresholds that nothing beats: whatever costs less is worse. (p,) each, from the cheapest to the best."""

    tier1: Floats
    tier2: Floats
    cost: Floats  # mean over the rows
    quality: Floats  # the same
    looked_at: int  # pairs of thresholds
    thinned: bool  # there were more than MOST_CUTS scores, and only so many cuts were looked at


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen from a frontier."""

    index: int
    met: bool  # False: no thresholds meet the target, these come nearest
    thresholds: Thresholds
    point: Point


def frontier(score: Floats, outcomes: Outcomes) -> Frontier:
    """`score` (n,) in 0..1; two or three models."""
    two = len(outcomes.models) == 2
    values, place = np.unique(score, return_inverse=True)
    cuts = np.arange(len(values) + 1)
    thinned = not two and len(cuts) > MOST_CUTS
    if thinned:
        # Evenly by rows, not by scores.
        below = np.concatenate(([0], np.cumsum(np.bincount(place))))
        wanted = np.linspace(0, len(score), MOST_CUTS)
        cuts = np.unique(np.searchsorted(below, wanted))
    first, second = (cuts, cuts) if two else _pairs(cuts)
    # A score of 0 is never below a threshold in 0..1, nor one of 1 above.
    reachable = ((first < len(values)) | (values[-1] < 1)) & ((second > 0) | (values[0] > 0))
    if two:
        reachable &= ((first > 0) | (values[0] > 0)) & ((second < len(values)) | (values[-1] < 1))
    first, second = first[reachable], second[reachable]
    quality, cost = (_mean(table, place, len(values), first, second) for table in (outcomes.quality, outcomes.cost))
    best = _undominated(cost, quality)
    threshold = np.array([_between(values, cut) for cut in range(len(values) + 1)])
    return Frontier(threshold[first[best]], threshold[second[best]], cost[best], quality[best], len(first), thinned)


def choose(found: Frontier, score: Floats, outcomes: Outcomes, target: Target, value: float) -> Choice:
    """Of the thresholds that save at least `value` of always-strong's cost, those of the best quality; or of those that
    lose at most `value` of always-strong's quality, the cheapest. Where none do, those that come nearest."""
    everything, best = float(outcomes.cost[-1].mean()), float(outcomes.quality[-1].mean())
    if target == "savings":
        meets = found.cost <= (1 - value) * everything + EQUAL * everything
        index, met = (int(np.flatnonzero(meets)[-1]), True) if meets.any() else (0, False)
    else:
        meets = found.quality >= (1 - value) * best - EQUAL
        index, met = (int(np.argmax(meets)), True) if meets.any() else (len(found.quality) - 1, False)
    return _choice(found, score, outcomes, index, met)


def _choice(found: Frontier, score: Floats, outcomes: Outcomes, index: int, met: bool) -> Choice:
    thresholds = Thresholds(float(found.tier1[index]), float(found.tier2[index]))
    return Choice(index, met, thresholds, decided(score, outcomes, thresholds))


def decided(score: Floats, outcomes: Outcomes, thresholds: Thresholds) -> Point:
    """What thresholds come to: tier 3 goes to the last model, tier 1 to the first, tier 2 to the middle one, or with
    two models to the strong one, for routing hands a tier without models to the next one above."""
    tier = tiers(score, thresholds)
    to = np.array([0, 0, 1, 1] if len(outcomes.models) == 2 else [0, 0, 1, 2])
    return point(to[tier], outcomes)


def _pairs(cuts: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first, second = np.triu_indices(len(cuts))
    return cuts[first], cuts[second]


def _mean(
    table: Floats, place: NDArray[np.intp], blocks: int, first: NDArray[np.intp], second: NDArray[np.intp]
) -> Floats:
    """(pairs,) the mean over the rows of what each gets from its model: the first below `first`, the last from `second`
    on, the middle one between. `table` (models, n)."""
    n = table.shape[1]
    below = [np.concatenate(([0.0], np.cumsum(np.bincount(place, row, blocks)))) for row in table]
    weak, middle, strong = below[0], below[len(below) // 2], below[-1]
    total: Floats = weak[first] + (middle[second] - middle[first]) + (strong[-1] - strong[second])
    mean: Floats = total / n
    return mean


def _undominated(cost: Floats, quality: Floats) -> NDArray[np.intp]:
    """From the cheapest on, those that are better than all that cost no more."""
    order = np.lexsort((-quality, cost))
    before = np.maximum.accumulate(np.concatenate(([-np.inf], quality[order][:-1])))
    kept: NDArray[np.intp] = order[quality[order] > before + EQUAL]
    return kept


def _between(values: Floats, cut: int) -> float:
    """A threshold with the `cut` lowest of `values` below it and the others above, of as few digits as will do."""
    if cut == 0:
        return 0.0
    if cut == len(values):
        return 1.0
    low, high = float(values[cut - 1]), float(values[cut])
    for digits in range(1, 16):
        short = round((low + high) / 2, digits)
        if low < short < high:
            return short
    return (low + high) / 2
