"""Prompts with what each model's answer was worth, from JSON lines.

    {"prompt": "…", "scores": {"small": 0, "large": 1}, "cost_usd": {"small": 0.0001, "large": 0.002}, "group": "law"}

`prompt`, or `format` ("openai" or "anthropic") and `body`, a request as a client sends it. `scores`: from 0 to 1 by
model. `cost_usd`, `id` and `group` may be left out. Other members are nobody's business here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import orjson

from aion_extproc.classify.batch import LineError, said_in
from aion_extproc.evaluation.curve import Floats
from aion_extproc.wire.conversation import Conversation
from aion_extproc.wire.errors import RequestError


class DataError(ValueError):
    """What is wrong with a line, or with the choice of models."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line."""

    line: int  # its number, from 1 on
    conversation: Conversation
    scores: Mapping[str, float]  # 0..1 by model, never empty
    cost_usd: Mapping[str, float]
    group: str | None


def read_rows(lines: Iterable[bytes], report: Callable[[str], None]) -> tuple[list[Row], int]:
    """The good lines, and how many were bad; a bad one is reported with its number and passed over."""
    rows: list[Row] = []
    bad = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(_row(number, line))
        except (DataError, LineError, RequestError) as error:
            report(f"line {number}: {error}")
            bad += 1
    return rows, bad


def _row(number: int, line: bytes) -> Row:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"not JSON: {error}") from None
    if not isinstance(entry, dict):
        raise DataError("must be an object")
    scores = _numbers(entry, "scores", "a number from 0 to 1", lambda value: 0 <= value <= 1)
    if not scores:
        raise DataError('needs "scores", an object with a number from 0 to 1 for each model')
    cost_usd = _numbers(entry, "cost_usd", "dollars, 0 or more", lambda value: value >= 0 and isfinite(value))
    group = entry.get("group")
    if group is not None and not isinstance(group, str):
        raise DataError('"group" must be a string')
    return Row(number, said_in(entry), scores, cost_usd, group)


def _numbers(entry: dict[str, object], name: str, what: str, good: Callable[[float], bool]) -> dict[str, float]:
    found = entry.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise DataError(f'"{name}" must be an object with {what} for each model')
    for model, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not good(value):
            raise DataError(f'"{name}" of {model} must be {what}, not {orjson.dumps(value).decode()[:40]}')
    return {model: float(value) for model, value in found.items()}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What some models, from weak to strong, make of n rows."""

    models: tuple[str, ...]
    chosen_by: str  # how they were chosen, for a person
    quality: Floats  # (models, n), 0..1
    cost: Floats  # (models, n), in `unit`
    unit: str  # "USD", or "calls": no costs are known, so a call to the strong model counts 1 and others nothing
    notes: tuple[str, ...] = ()


def models_of(rows: Sequence[Row]) -> list[str]:
    """Those that have a score in every row, sorted."""
    return sorted(set.intersection(*(set(row.scores) for row in rows))) if rows else []


def without_score(rows: Sequence[Row], models: Sequence[str]) -> list[str]:
    """What to report of rows that lack a score of one of the models."""
    return [
        f"line {row.line}: no score of {', '.join(missing)}"
        for row in rows
        if (missing := [model for model in models if model not in row.scores])
    ]


def choose_pair(rows: Sequence[Row], strong: str | None = None, weak: str | None = None) -> tuple[str, str, str]:
    """A strong and a weak model and how they were chosen: as named; else the best mean score is strong and, of the
    others, the cheapest is weak, or, where a cost is missing, the worst. Raises DataError."""
    common = models_of(rows)
    if strong is None and weak is not None:
        common = [model for model in common if model != weak]
    best = max(common, key=lambda model: (_mean_score(rows, model), model), default=None) if strong is None else strong
    if best is None:
        raise DataError("no model has a score in every line; name two with --strong and --weak")
    if weak is not None:
        cheapest, how = weak, ""
    else:
        others = [model for model in common if model != best]
        if not others:
            raise DataError("needs two models with a score in every line; name them with --strong and --weak")
        cheapest, how = _cheapest(rows, others)
    if best == cheapest:
        raise DataError(f"{best} cannot be both the strong and the weak model")
    said = [f"{best} has the best mean score" if strong is None else "", how]
    return best, cheapest, ", ".join(part for part in said if part) or "as named"


def _cheapest(rows: Sequence[Row], models: Sequence[str]) -> tuple[str, str]:
    if all(model in row.cost_usd for row in rows for model in models):
        found = min(models, key=lambda model: (mean_cost(rows, model), _mean_score(rows, model), model))
        return found, f"{found} is the cheapest" + (" of the others" if len(models) > 1 else "")
    found = min(models, key=lambda model: (_mean_score(rows, model), model))
    return found, f"{found} has the worst"


def choose_three(rows: Sequence[Row]) -> tuple[tuple[str, ...], str]:
    """Models from weak to strong and how they were chosen: the pair of `choose_pair`, and between them, where costs
    are known, the best of those that cost more than the weak one and less than the strong one. Raises DataError."""
    strong, weak, how = choose_pair(rows)
    known = [model for model in models_of(rows) if all(model in row.cost_usd for row in rows)]
    if weak not in known or strong not in known:
        return (weak, strong), how
    low, high = mean_cost(rows, weak), mean_cost(rows, strong)
    between = [model for model in known if low < mean_cost(rows, model) < high]
    if not between:
        return (weak, strong), how
    middle = max(between, key=lambda model: (_mean_score(rows, model), model))
    return (weak, middle, strong), f"{how}, {middle} is the best of those between them in cost"


def outcomes(rows: Sequence[Row], models: Sequence[str], chosen_by: str) -> Outcomes:
    """Of `models`, from weak to strong; every row must have their scores. Raises DataError: three models need costs."""
    quality = np.array([[row.scores[model] for row in rows] for model in models])
    lacking = [row.line for row in rows if not all(model in row.cost_usd for model in models)]
    if not lacking:
        cost = np.array([[row.cost_usd[model] for row in rows] for model in models])
        if cost[-1].sum() > cost[0].sum():
            return Outcomes(tuple(models), chosen_by, quality, cost, "USD")
        note = f"{models[-1]} costs no more than {models[0]}, so calls to {models[-1]} are counted and not dollars"
    elif len(lacking) == len(rows):
        note = "no line has the costs of all models, so calls to the strong model are counted and not dollars"
    else:
        note = (
            f"{len(lacking)} of {len(rows)} lines (the first is line {lacking[0]}) lack a cost,"
            " so calls to the strong model are counted and not dollars"
        )
    if len(models) > 2:
        raise DataError(f"three models need costs: {note.partition(', so')[0]}")
    return Outcomes(tuple(models), chosen_by, quality, np.outer([0.0, 1.0], np.ones(len(rows))), "calls", (note,))


def _mean_score(rows: Sequence[Row], model: str) -> float:
    # Exact up to one rounding, so that the order of the lines cannot change which of two models is better.
    return float(np.mean(np.sort([row.scores[model] for row in rows])))


def mean_cost(rows: Sequence[Row], model: str) -> float:
    """In USD; every row must have it."""
    return float(np.mean(np.sort([row.cost_usd[model] for row in rows])))
