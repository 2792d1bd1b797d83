"""The figures of `aion eval`: every ranking's, with intervals, and where the configured thresholds are on the curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aion_extproc.classify.classification import Thresholds
from aion_extproc.evaluation.curve import EQUAL, Curve, Floats, apgr, apgr_of, auc, cpt, rank, saved, trace
from aion_extproc.evaluation.data import Outcomes

EQUAL_QUALITY = (1.0, 0.99, 0.95)  # times always-strong's
COVERAGE = 95  # per cent
_MOST_UNDEFINED = 0.05  # of the samples; of more, no quantile would mean anything


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile bootstrap interval of APGR."""

    low: float
    high: float
    undefined: int  # samples in which the strong model was no better: they are left out


@dataclass(frozen=True, slots=True)
class Measures:
    """Of one ranking. None: it is not defined, as where the strong model is no better than the weak one."""

    apgr: float | None
    by_rows: Interval | None
    by_groups: Interval | None
    cpt50: float | None
    cpt80: float | None
    auc: float | None
    saved: Mapping[float, float | None]  # by the share of always-strong's quality that is kept
    curve: Curve


def measure(score: Floats, outcomes: Outcomes) -> Measures:
    """Of a ranking by `score` (n,), without intervals."""
    weak, strong = outcomes.quality[0], outcomes.quality[-1]
    curve = trace(score, weak, strong, outcomes.cost[0], outcomes.cost[-1])
    gain = strong - weak
    return Measures(
        apgr=apgr(score, gain),
        by_rows=None,
        by_groups=None,
        cpt50=cpt(score, gain, 0.5),
        cpt80=cpt(score, gain, 0.8),
        auc=auc(curve),
        saved={share: saved(curve, share) for share in EQUAL_QUALITY},
        curve=curve,
    )


def bootstrap(
    rankings: Mapping[str, Floats], gain: Floats, samples: int, seed: int, groups: Sequence[str] | None = None
) -> Mapping[str, Interval | None]:
    """An interval of APGR for each ranking, from `samples` draws with replacement: of rows, or of whole groups where
    `groups` (n,) are given. All rankings see the same draws. None: in more than 5 % of the draws there is none."""
    n = len(gain)
    member: NDArray[np.intp] = np.arange(n)
    if groups is not None:
        member = np.unique(np.array(groups, dtype=object), return_inverse=True)[1]
    units = int(member.max()) + 1
    ranked = {name: rank(score) for name, score in rankings.items()}
    found = {name: np.full(samples, np.nan) for name in rankings}
    random = np.random.default_rng(seed)
    for sample in range(samples):
        drawn = np.bincount(random.integers(units, size=units), minlength=units).astype(np.float64)
        weight = drawn[member]
        for name, ranking in ranked.items():
            area = apgr_of(ranking, gain, weight)
            found[name][sample] = np.nan if area is None else area
    return {name: _interval(values) for name, values in found.items()}


def _interval(values: Floats) -> Interval | None:
    undefined = int(np.isnan(values).sum())
    if not values.size or undefined > _MOST_UNDEFINED * values.size:
        return None
    low, high = np.nanpercentile(values, [(100 - COVERAGE) / 2, (100 + COVERAGE) / 2])
    return Interval(float(low), float(high), undefined)


def tiers(score: Floats, thresholds: Thresholds) -> NDArray[np.intp]:
    """(n,) as Thresholds.tier says of each score."""
    above = np.where(score <= thresholds.tier2, 2, 3)
    return np.where(score < thresholds.tier1, 1, above).astype(np.intp)


@dataclass(frozen=True, slots=True)
class Point:
    """A router that decides by thresholds."""

    shares: tuple[float, ...]  # of the rows that go to each model, from weak to strong
    quality: float
    cost: float
    saved: float | None  # of always-strong's cost; None: that is nothing
    loss: float | None  # of always-strong's quality, as a share of it; below 0: it is better. None: that is nothing
    pgr: float | None  # None: the strong model is no better


def point(model: NDArray[np.intp], outcomes: Outcomes) -> Point:
    """Of sending row i to outcomes.models[model[i]]."""
    rows = np.arange(len(model))
    weak, strong = float(outcomes.quality[0].mean()), float(outcomes.quality[-1].mean())
    everything = float(outcomes.cost[-1].mean())
    quality, cost = float(outcomes.quality[model, rows].mean()), float(outcomes.cost[model, rows].mean())
    return Point(
        shares=tuple(float((model == index).mean()) for index in range(len(outcomes.models))),
        quality=quality,
        cost=cost,
        saved=1 - cost / everything if everything > 0 else None,
        loss=1 - quality / strong if strong > 0 else None,
        pgr=(quality - weak) / (strong - weak) if strong - weak > EQUAL else None,
    )


def at_thresholds(score: Floats, outcomes: Outcomes, thresholds: Thresholds) -> tuple[tuple[float, ...], Point, Point]:
    """The share of the rows on each tier, and what that comes to between two models, where tier 2 may be either's:
    with tier 2 on the weak one, and with tier 2 on the strong one."""
    tier = tiers(score, thresholds)
    shares = tuple(float((tier == wanted).mean()) for wanted in (1, 2, 3))
    strong = len(outcomes.models) - 1
    return (
        shares,
        point(np.where(tier > 2, strong, 0).astype(np.intp), outcomes),
        point(np.where(tier > 1, strong, 0).astype(np.intp), outcomes),
    )
