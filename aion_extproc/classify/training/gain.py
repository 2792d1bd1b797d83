"""Trains the gain model on graded answers: {"prompt", "scores", "group"} a line, as `aion eval` reads them.

Randomised trees find what matters and smooth it, but are too many to walk for each request; boosted trees are then
fitted to what the first say of prompts, half of it by the trees that have not seen them (out of bag). The line that
calibrates them is fitted to predictions for groups (subjects) that were left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from aion_extproc.classify.questions import choice_question, features
from aion_extproc.evaluation.curve import apgr
from aion_extproc.evaluation.data import Row, choose_pair

Floats = NDArray[np.float64]
SEED: Final = 0
FOLDS: Final = 5
DIGITS: Final = 6
TEACHERS: Final = 400
TREES: Final = 80
DEPTH: Final = 4
# high_school_mathematics: the labels of the strong model are broken. moral_scenarios: 895 prompts of one template and
# an outsized gain, which is learned as a template.
LEFT_OUT: Final = frozenset({"high_school_mathematics", "moral_scenarios"})


class Questions:
    """Rows that are questions with options: (n, features) `x`, gains `gain` in [-1, 1], and their groups."""

    def __init__(self, rows: Sequence[Row], left_out: frozenset[str] = LEFT_OUT) -> None:
        self.strong, self.weak, _ = choose_pair(rows)
        kept = [
            (question, row)
            for row in rows
            if (row.group or "") not in left_out
            and (question := choice_question(row.conversation.turns[-1].texts[0])) is not None
        ]
        if len({row.group for _, row in kept}) < 2 * FOLDS:
            raise ValueError(f"needs questions with options of at least {2 * FOLDS} groups to learn the gain")
        self.x: Floats = np.array([features(question) for question, _ in kept], dtype=np.float64)
        self.gain: Floats = np.array([row.scores[self.strong] - row.scores[self.weak] for _, row in kept])
        self.groups = np.array([row.group or "" for _, row in kept])

    def folds(self, seed: int = SEED) -> list[NDArray[np.bool_]]:
        """(n,) masks of the rows to leave out: whole groups, each once."""
        names = np.unique(self.groups)
        np.random.default_rng(seed).shuffle(names)
        return [np.isin(self.groups, names[fold::FOLDS]) for fold in range(FOLDS)]


def fit(x: Floats, gain: Floats) -> HistGradientBoostingRegressor:
    """Boosted trees that say of (n, features) how much a strong model gains."""
    with threadpool_limits(1):
        teacher = ExtraTreesRegressor(
            TEACHERS, min_samples_leaf=20, max_features=0.3, bootstrap=True, oob_score=True, random_state=SEED
        ).fit(x, gain)
        return HistGradientBoostingRegressor(
            max_iter=TREES,
            learning_rate=0.15,
            max_depth=DEPTH,
            min_samples_leaf=30,
            max_features=0.4,
            early_stopping=False,
            random_state=SEED,
        ).fit(x, (teacher.oob_prediction_ + teacher.predict(x)) / 2)


def held_out(questions: Questions, seed: int = SEED) -> Floats:
    """(n,) predictions, each by a model that saw nothing of the row's group."""
    found = np.zeros(len(questions.gain))
    for out in questions.folds(seed):
        found[out] = fit(questions.x[~out], questions.gain[~out]).predict(questions.x[out])
    return found


def train(questions: Questions) -> tuple[dict[str, Any], float | None]:
    """What `GainModel.of` reads, calibrated; and the APGR on groups that were left out."""
    found = trees_of(fit(questions.x, questions.gain))
    unseen = held_out(questions)
    slope, level = np.polyfit(unseen, questions.gain, 1)
    slope = round(float(slope), 3)
    calibrated = {**found, "base": round(float(level) + slope * found["base"], DIGITS), "slope": slope}
    return calibrated, apgr(unseen, questions.gain)


def trees_of(model: HistGradientBoostingRegressor) -> dict[str, Any]:
    """What `GainModel.of` reads, as the model is."""
    # scikit-learn has no public way to its trees.
    base = float(model._baseline_prediction[0, 0])
    return {"base": base, "slope": 1.0, "trees": [_tree(stage[0].nodes, 0) for stage in model._predictors]}


def _tree(nodes: Any, at: int) -> Any:
    node = nodes[at]
    if node["is_leaf"]:
        return round(float(node["value"]), DIGITS)
    return [
        int(node["feature_idx"]),
        float(node["num_threshold"]),
        _tree(nodes, int(node["left"])),
        _tree(nodes, int(node["right"])),
    ]
