"""Trains the text model: one TF-IDF for all heads, one multinomial logistic regression a head."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from struct import error, pack
from typing import Any, Final

from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from aion_extproc.classify.text_model import SCALE
from aion_extproc.classify.training import examples
from aion_extproc.classify.training.examples import Example

# Chosen on the training authors (train on some, measure on another), never on the unseen part.
PENALTY: Final[Mapping[str, float]] = {"intent": 100.0, "tier": 50.0, "task": 20.0, "proposal": 10.0}
MIN_WORDS = 2  # texts that a term must be in
MIN_PAIRS = 3  # texts that a pair of terms must be in
HEADS: Final[Mapping[str, Callable[[], list[Example]]]] = {
    "intent": examples.intents,
    "tier": examples.tiers,
    "task": examples.tasks,
    "proposal": examples.proposals,
}


def with_pairs(terms: Sequence[str]) -> list[str]:
    """Terms, and each pair of neighbours as "a b"."""
    return [*terms, *(f"{first} {second}" for first, second in pairwise(terms))]


def vocabulary(texts: Sequence[Sequence[str]]) -> list[str]:
    """Every term that MIN_WORDS texts have, and every pair that MIN_PAIRS have; sorted."""
    seen: Counter[str] = Counter()
    for text in texts:
        seen.update(set(with_pairs(text)))
    return sorted(name for name, count in seen.items() if count >= (MIN_PAIRS if " " in name else MIN_WORDS))


def fit(by_head: Mapping[str, Sequence[Example]]) -> tuple[TfidfVectorizer, dict[str, LogisticRegression]]:
    """A fitted vectoriser over terms, and a fitted classifier a head."""
    texts = list({example.terms: None for found in by_head.values() for example in found})
    vectoriser = TfidfVectorizer(analyzer=with_pairs, sublinear_tf=True, vocabulary=vocabulary(texts))
    vectoriser.fit(texts)
    classifiers = {}
    with threadpool_limits(1):  # one thread sums in one order
        for head, found in by_head.items():
            classifiers[head] = LogisticRegression(
                C=PENALTY[head], class_weight="balanced", max_iter=4000, tol=1e-4, random_state=0
            ).fit(
                vectoriser.transform([example.terms for example in found]),
                [example.label for example in found],
                sample_weight=[example.weight for example in found],
            )
    return vectoriser, classifiers


def artifact(vectoriser: TfidfVectorizer, classifiers: Mapping[str, LogisticRegression]) -> dict[str, Any]:
    """What `TextModel.of` reads: numbers in 1/SCALE, which hides the last bits of the optimiser."""
    rows = {
        name: _row([vectoriser.idf_[column], *(w for model in classifiers.values() for w in model.coef_[:, column])])
        for name, column in sorted(vectoriser.vocabulary_.items())
    }
    return {
        "heads": {head: [str(name) for name in model.classes_] for head, model in classifiers.items()},
        "bias": [round(float(b) * SCALE) for model in classifiers.values() for b in model.intercept_],
        "terms": rows,
    }


def _row(numbers: Sequence[float]) -> str:
    try:
        return b64encode(pack(f"<{len(numbers)}h", *[round(float(n) * SCALE) for n in numbers])).decode()
    except error:
        raise ValueError(f"a weight is beyond ±{(2**15 - 1) / SCALE}: the penalty is too low for these texts") from None


def train(by_head: Mapping[str, Sequence[Example]] | None = None) -> dict[str, Any]:
    """The artifact trained on the package's labelled texts, or on those given."""
    return artifact(*fit(by_head or {head: load() for head, load in HEADS.items()}))
