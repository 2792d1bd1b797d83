"""The intent model at run time: TF-IDF and a softmax, in plain Python.

Trained by `training/train.py` with scikit-learn, which is never imported here. For terms t with count c_t:

    v_t = (1 + ln c_t) · idf_t        logit_k = Σ_t v_t · w_tk / ‖v‖₂ + b_k        p = softmax(logit)

which is `TfidfVectorizer(sublinear_tf=True, norm="l2")` followed by multinomial `LogisticRegression`. Terms of one
count are summed as integers: exact, so that neither the order of the terms nor the version of Python can change a
score. A term's numbers lie side by side in the 64-bit lanes of one large integer, so that one addition adds them all;
it is the fastest sum of rows that plain Python has, and a term is one object in memory instead of thirteen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import chain, islice
from math import exp, fsum, log, sqrt
from struct import Struct
from types import MappingProxyType
from typing import Final

import orjson

SCALE: Final = 1_000  # the artifact holds integers: thousandths
UNIT: Final = 10**9  # the integers that are summed are billionths; products of two of the artifact's are exact
LANE: Final = 64  # bits of a lane
MIDDLE: Final = 1 << LANE - 1  # added to a lane, it keeps a negative sum from borrowing from the next one

# How much of the intent signal a prompt of this kind is worth. By itself the signal moves a bare prompt from 0.075
# to 0.425, so what needs tier 2 must be near 1 and what does not must be near 0, with bonuses still to come.
COMPLEXITY: Mapping[str, float] = MappingProxyType(
    {
        "small_talk": 0.0,
        "lookup": 0.05,
        "mechanical": 0.05,
        "text": 0.20,
        "writing": 0.70,
        "explain": 0.90,
        "edit": 0.95,
        "analysis": 0.95,
        "debug": 0.95,
        "code": 0.95,
        "design": 1.0,
        "proof": 1.0,
    }
)

Term = str | tuple[str, str]


class IntentModel:
    """Weights of the terms and pairs of terms. Immutable after construction."""

    __slots__ = ("_bias", "_lanes", "_middle", "_rows", "categories")

    def __init__(
        self, categories: Sequence[str], bias: Sequence[float], weights: Mapping[Term, Sequence[float]]
    ) -> None:
        """`weights[term]` is (idf, w_1, …, w_k). ValueError when lengths do not agree or k < 2."""
        width = len(categories)
        if width < 2 or len(bias) != width or any(len(row) != width + 1 for row in weights.values()):
            raise ValueError("an intent model needs one bias and one weight a term for each of its categories")
        self.categories = tuple(categories)
        self._bias = tuple(bias)
        # (idf², idf·w_1, …, idf·w_k) in 1/UNIT: the products are made once, here.
        self._rows = {term: _pack([round(row[0] * factor * UNIT) for factor in row]) for term, row in weights.items()}
        self._middle = _pack([MIDDLE] * (width + 1))
        self._lanes = Struct(f"<{width + 1}Q")

    @classmethod
    def load(cls) -> IntentModel:
        """The model that ships with the package. ValueError if its categories are not those of COMPLEXITY."""
        model = cls.from_json(files(__package__).joinpath("intent_model.json").read_bytes())
        if set(model.categories) != set(COMPLEXITY):
            raise ValueError("intent_model.json was trained for other categories: run training/train.py")
        return model

    @classmethod
    def from_json(cls, data: bytes) -> IntentModel:
        """From `{"categories": […], "bias": […], "terms": {"a": […], "a b": […]}}`, numbers in 1/SCALE."""
        raw = orjson.loads(data)
        weights: dict[Term, tuple[float, ...]] = {}
        for name, row in raw["terms"].items():
            first, _, second = name.partition(" ")
            weights[(first, second) if second else first] = tuple(n / SCALE for n in row)
        return cls(raw["categories"], [n / SCALE for n in raw["bias"]], weights)

    def probabilities(self, terms: Sequence[str]) -> tuple[float, ...]:
        """The probability of each of `categories`, in their order, for the terms of a text (`terms.terms`)."""
        known = self._rows
        every: Iterator[Term] = chain(terms, zip(terms, islice(terms, 1, None), strict=False))
        counts = Counter(filter(known.__contains__, every))
        if not counts:
            return _softmax(self._bias)
        by_count: dict[int, list[int]] = {}
        for term, count in counts.items():
            by_count.setdefault(count, []).append(known[term])
        squares = 0.0
        dots = [0.0] * len(self._bias)
        for count in sorted(by_count):
            damped = 1.0 + log(count)
            lanes = sum(by_count[count], self._middle)
            square, *products = self._lanes.unpack(lanes.to_bytes(self._lanes.size, "little"))
            squares += damped * damped * (square - MIDDLE)
            dots = [dot + damped * (product - MIDDLE) for dot, product in zip(dots, products, strict=True)]
        norm = sqrt(squares * UNIT)  # ‖v‖ · UNIT: the products are billionths too
        return _softmax([b + dot / norm for b, dot in zip(self._bias, dots, strict=True)])


def _pack(numbers: Sequence[int]) -> int:
    """Σ numbers[i] · 2^(LANE · i): as long as sums stay below MIDDLE, adding two adds their lanes."""
    return sum(number << LANE * place for place, number in enumerate(numbers))


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    top = max(logits)
    parts = [exp(x - top) for x in logits]
    total = fsum(parts)
    return tuple(x / total for x in parts)
