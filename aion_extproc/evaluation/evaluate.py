"""`aion eval`: everything that is measured of some rows, and how it is told as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aion_extproc.classify.classification import Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.evaluation import baselines
from aion_extproc.evaluation.curve import Floats
from aion_extproc.evaluation.data import Outcomes, Row
from aion_extproc.evaluation.measures import Interval, Measures, Point, at_thresholds, bootstrap, measure, point

EXACT = "random"  # measured without a doubt, so without an interval


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one group."""

    rows: int
    weak: float  # mean quality
    strong: float
    apgr: Mapping[str, float | None]  # by ranking


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Of a strong and a weak model."""

    outcomes: Outcomes
    rows: int
    samples: int  # of the bootstrap
    seed: int
    rankings: Mapping[str, Measures]
    thresholds: Thresholds
    tier_shares: tuple[float, ...]
    points: Mapping[str, Point]
    groups: Mapping[str, Group]  # empty unless every row has a group
    notes: tuple[str, ...]


def evaluate(
    rows: Sequence[Row], outcomes: Outcomes, classifier: Classifier, thresholds: Thresholds, samples: int, seed: int
) -> Evaluation:
    """Of rows that all have scores of the two models of `outcomes`. `samples`: 0 for no intervals."""
    gain = outcomes.quality[1] - outcomes.quality[0]
    scores = baselines.scores([row.conversation for row in rows], gain, classifier)
    notes = list(outcomes.notes)
    named = [row.group for row in rows if row.group is not None]
    if named and len(named) < len(rows):
        notes.append(f"{len(rows) - len(named)} of {len(rows)} lines have no group, so groups are left out")
        named = []
    measured = {name: measure(score, outcomes) for name, score in scores.items()}
    doubtful = {name: score for name, score in scores.items() if name != EXACT}
    if samples:
        by_rows = bootstrap(doubtful, gain, samples, seed)
        by_groups = bootstrap(doubtful, gain, samples, seed, named) if len(set(named)) > 1 else {}
        for name in doubtful:
            measured[name] = replace(measured[name], by_rows=by_rows[name], by_groups=by_groups.get(name))
        for drawn, intervals in (("lines", by_rows), ("groups", by_groups)):
            if intervals and intervals[baselines.OURS] is None:
                notes.append(f"too few samples of {drawn} have a strong model that is better, so there is no interval")
        undefined = [found.undefined for found in (*by_rows.values(), *by_groups.values()) if found is not None]
        if any(undefined):
            notes.append(f"in up to {max(undefined)} of {samples} samples there is no APGR; they are left out")
    ours = scores[baselines.OURS]
    shares, to_weak, to_strong = at_thresholds(ours, outcomes, thresholds)
    if measured[baselines.OURS].apgr is None:
        weak, strong = outcomes.models
        notes.append(f"{strong} is no better than {weak} here, so there is nothing to recover and no APGR")
    return Evaluation(
        outcomes=outcomes,
        rows=len(rows),
        samples=samples,
        seed=seed,
        rankings=measured,
        thresholds=thresholds,
        tier_shares=shares,
        points={
            "always weak": point(np.zeros(len(rows), np.intp), outcomes),
            "tier 2 to weak": to_weak,
            "tier 2 to strong": to_strong,
            "always strong": point(np.ones(len(rows), np.intp), outcomes),
        },
        groups=_groups(named, outcomes, scores),
        notes=tuple(notes),
    )


def _groups(named: Sequence[str], outcomes: Outcomes, scores: Mapping[str, Floats]) -> Mapping[str, Group]:
    found = {}
    of = np.array(named, dtype=object)
    for group in sorted(set(named)):
        inside = of == group
        part = replace(outcomes, quality=outcomes.quality[:, inside], cost=outcomes.cost[:, inside])
        found[group] = Group(
            rows=int(inside.sum()),
            weak=float(part.quality[0].mean()),
            strong=float(part.quality[1].mean()),
            apgr={name: measure(score[inside], part).apgr for name, score in scores.items()},
        )
    return found


def as_json(found: Evaluation, bad_lines: int, by_group: bool) -> dict[str, Any]:
    """Everything but the curves; shares from 0 to 1."""
    weak, strong = found.outcomes.models
    answer: dict[str, Any] = {
        "rows": found.rows,
        "bad_lines": bad_lines,
        "strong": strong,
        "weak": weak,
        "chosen_by": found.outcomes.chosen_by,
        "unit": found.outcomes.unit,
        "notes": list(found.notes),
        "bootstrap": {"samples": found.samples, "seed": found.seed},
        "rankings": {name: _ranking(measures) for name, measures in found.rankings.items()},
        "thresholds": {"tier1": found.thresholds.tier1, "tier2": found.thresholds.tier2},
        "tier_shares": list(found.tier_shares),
        "points": {name.replace(" ", "_"): point_json(point) for name, point in found.points.items()},
    }
    if by_group:
        answer["groups"] = {
            name: {"rows": group.rows, "weak": group.weak, "strong": group.strong, "apgr": dict(group.apgr)}
            for name, group in found.groups.items()
        }
    return answer


def _ranking(measures: Measures) -> dict[str, Any]:
    return {
        "apgr": measures.apgr,
        "apgr_by_rows": _interval(measures.by_rows),
        "apgr_by_groups": _interval(measures.by_groups),
        "cpt50": measures.cpt50,
        "cpt80": measures.cpt80,
        "auc": measures.auc,
        "saved_at_quality": {f"{share:.0%}": value for share, value in measures.saved.items()},
    }


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def point_json(point: Point) -> dict[str, Any]:
    """A point's figures; `calls`: the share of the rows that go to each model, from weak to strong."""
    return {
        "calls": list(point.shares),
        "quality": point.quality,
        "cost": point.cost,
        "pgr": point.pgr,
        "saved": point.saved,
        "quality_loss": point.loss,
    }
