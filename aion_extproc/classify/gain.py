"""The gain model at run time: regression trees over `questions.FEATURES`, in plain Python.

It estimates what a strong model gains over a weak one on a question with options, that is the probability that the
strong one is right less the probability that the weak one is. Difficulty would escalate what nobody can solve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Tree = tuple[int, float, "Tree | float", "Tree | float"] | float  # feature, threshold, ≤ threshold, above it

# The gain at which a question moves the intent signal from one tier to the next. Most questions gain between .05 and
# .3, so that is where tier 2 lies.
_ANCHORS: Final = ((-0.1, 0.0), (0.06, 0.25), (0.30, 0.75), (0.60, 1.0))


class GainModel:
    """A sum of regression trees, and a line that calibrates it. Immutable."""

    __slots__ = ("_base", "_slope", "_trees")

    def __init__(self, trees: Sequence[Tree], base: float, slope: float) -> None:
        self._trees = tuple(trees)
        self._base = base
        self._slope = slope

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> GainModel:
        """From `{"base", "slope", "trees"}`; a tree is a number, or [feature, threshold, left, right]."""
        return cls([_tree(tree) for tree in raw["trees"]], raw["base"], raw["slope"])

    def gain(self, features: Sequence[float]) -> float:
        """Expected gain, in [-1, 1] but for rounding, from `questions.features`."""
        total = 0.0
        for tree in self._trees:
            while type(tree) is tuple:
                tree = tree[2] if features[tree[0]] <= tree[1] else tree[3]
            total += tree  # type: ignore[operator]
        return self._base + self._slope * total


def worth(gain: float) -> float:
    """The intent signal of a question: piecewise linear in its expected gain, strictly rising between the ends."""
    low, start = _ANCHORS[0]
    if gain <= low:
        return start
    for high, end in _ANCHORS[1:]:
        if gain <= high:
            return start + (end - start) * (gain - low) / (high - low)
        low, start = high, end
    return 1.0


def _tree(raw: Any) -> Tree:
    if isinstance(raw, list):
        feature, threshold, left, right = raw
        return (feature, threshold, _tree(left), _tree(right))
    return float(raw)
