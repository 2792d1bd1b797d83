"""The text model at run time: TF-IDF and softmaxes, in plain Python.

Trained by `training/train.py` with scikit-learn, which is never imported here. For terms t with count c_t:

    v_t = (1 + ln c_t) · idf_t        logit_k = Σ_t v_t · w_tk / ‖v‖₂ + b_k        p = softmax(logit)

which is `TfidfVectorizer(sublinear_tf=True, norm="l2")` followed by a multinomial `LogisticRegression` for each head.
Terms of one count are summed as integers: exact, so that neither the order of the terms nor the version of Python can
change a score. A term's numbers lie side by side in the 64-bit lanes of one large integer, so that one addition adds
them all; it is the fastest sum of rows that plain Python has, and a term is one object in memory and not dozens.
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from math import exp, fsum, log, sqrt
from struct import Struct, error
from typing import Any, Final

SCALE: Final = 500  # the artifact holds integers of 16 bits: from -65 to 65 by .002
UNIT: Final = SCALE * SCALE  # what is summed are integers, too: products of two of the artifact's, exact
LANE: Final = 64  # bits of a lane
MIDDLE: Final = 1 << LANE - 1  # added to a lane, it keeps a negative sum from borrowing from the next one

Term = str | tuple[str, str]


class TextModel:
    """Weights of the terms and pairs of terms, for several questions ("heads") asked of the same text.

    Immutable after construction.
    """

    __slots__ = ("_bias", "_lanes", "_middle", "_rows", "_slices", "heads")

    def __init__(self, heads: Mapping[str, Sequence[str]], bias: Sequence[float], rows: Mapping[str, bytes]) -> None:
        """`heads[name]` are the names of its categories; bias has a number for each category of each head, in order.
        `rows[term]`, or `rows["first second"]` for a pair: (idf, w_1, …, w_k) in 1/SCALE, as little-endian 16-bit
        integers. ValueError when lengths do not agree."""
        width = sum(len(categories) for categories in heads.values())
        if any(len(found) < 2 for found in heads.values()) or len(bias) != width:
            raise ValueError("a text model needs at least two categories a head, and one bias for each")
        self.heads = {name: tuple(categories) for name, categories in heads.items()}
        self._bias = tuple(bias)
        self._slices: dict[str, slice] = {}
        start = 0
        for name, categories in self.heads.items():
            self._slices[name] = slice(start, start + len(categories))
            start += len(categories)
        self._lanes = Struct(f"<{width + 1}Q")
        packed = Struct(f"<{width + 1}h")
        self._middle = int.from_bytes(self._lanes.pack(*[MIDDLE] * (width + 1)), "little")
        self._rows: dict[Term, int] = {}
        for name, row in rows.items():
            first, _, second = name.partition(" ")
            try:
                idf, *weights = packed.unpack(row)
            except error:
                raise ValueError("a text model needs an idf and one weight a category for each of its terms") from None
            # (idf², idf·w_1, …, idf·w_k) in 1/UNIT. MIDDLE keeps what is negative from borrowing from the next lane.
            lanes = self._lanes.pack(idf * idf + MIDDLE, *[idf * weight + MIDDLE for weight in weights])
            self._rows[(first, second) if second else first] = int.from_bytes(lanes, "little") - self._middle

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> TextModel:
        """From `{"heads": {…}, "bias": […], "terms": {"a": "…", "a b": "…"}}`: bias in 1/SCALE, rows in Base64."""
        rows = {name: b64decode(row) for name, row in raw["terms"].items()}
        return cls(raw["heads"], [n / SCALE for n in raw["bias"]], rows)

    def logits(self, terms: Sequence[str]) -> list[float]:
        """One number for each category of each head, for the terms of a text (`instruction.read`)."""
        known = self._rows
        every: Iterator[Term] = chain(terms, zip(terms, islice(terms, 1, None), strict=False))
        counts = Counter(filter(known.__contains__, every))
        if not counts:
            return list(self._bias)
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
        norm = sqrt(squares * UNIT)  # ‖v‖ · UNIT: the products are in 1/UNIT, too
        return [b + dot / norm for b, dot in zip(self._bias, dots, strict=True)]

    def probabilities(self, head: str, logits: Sequence[float]) -> dict[str, float]:
        """The probability of each category of a head."""
        return dict(zip(self.heads[head], softmax(logits[self._slices[head]]), strict=True))


def softmax(logits: Sequence[float]) -> tuple[float, ...]:
    """exp(x_i) / Σ exp(x_j), without overflow."""
    top = max(logits)
    parts = [exp(x - top) for x in logits]
    total = fsum(parts)
    return tuple(x / total for x in parts)
