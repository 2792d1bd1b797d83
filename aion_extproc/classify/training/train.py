"""Trains the intent model from `prompts.jsonl` and writes `intent_model.json`.

    python -m aion_extproc.classify.training.train [--report]

Needs the extra `train` (scikit-learn); the service itself never imports this module. The result depends on the
prompts alone: same prompts and same scikit-learn, same bytes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from aion_extproc.classify.intent import SCALE, IntentModel, Term
from aion_extproc.classify.terms import TOKEN, fold, terms

ARTIFACT = Path(__file__).parent.parent / "intent_model.json"
HELD_OUT = 5  # one prompt in so many is never trained on


class Example(NamedTuple):
    prompt: str
    category: str


def load_prompts() -> list[Example]:
    """The labelled prompts of the package, in file order."""
    text = files(__package__).joinpath("prompts.jsonl").read_text("utf-8")
    return [Example(**json.loads(line)) for line in text.splitlines() if line]


def held_out(example: Example) -> bool:
    """Whether a prompt is kept for measuring: by its hash, so that adding prompts moves none to the other side."""
    return hashlib.sha256(example.prompt.encode()).digest()[0] % HELD_OUT == 0


def vocabulary(prompts: Sequence[str], min_pairs: int) -> list[str]:
    """Every term of the prompts, and every pair of terms that `min_pairs` of them have; sorted, pairs as "a b"."""
    seen: Counter[str] = Counter()
    for prompt in prompts:
        words = terms(prompt)
        seen.update(set(words))
        seen.update({f"{first} {second}" for first, second in pairwise(words)})
    return sorted(term for term, prompts_with in seen.items() if " " not in term or prompts_with >= min_pairs)


def fit(examples: Sequence[Example], min_pairs: int = 3) -> Pipeline:
    """A fitted scikit-learn pipeline over raw texts."""
    prompts = [e.prompt for e in examples]
    tfidf = TfidfVectorizer(
        preprocessor=fold,
        token_pattern=TOKEN,
        ngram_range=(1, 2),
        sublinear_tf=True,
        vocabulary=vocabulary(prompts, min_pairs),
    )
    # C and min_pairs were chosen by five-fold cross-validation on the training part (docs/classifier.md).
    softmax = LogisticRegression(C=40.0, class_weight="balanced", max_iter=2000, random_state=0)
    pipeline = Pipeline([("tfidf", tfidf), ("softmax", softmax)])
    with threadpool_limits(1):  # one thread sums in one order; the problem is too small for more anyway
        pipeline.fit(prompts, [e.category for e in examples])
    return pipeline


def weights_of(pipeline: Pipeline) -> tuple[list[str], list[float], dict[Term, list[float]]]:
    """Categories, bias and `{term: [idf, w_1, …]}` of a fitted pipeline: the arguments of IntentModel."""
    tfidf, softmax = pipeline.named_steps["tfidf"], pipeline.named_steps["softmax"]
    weights: dict[Term, list[float]] = {}
    for name, column in sorted(tfidf.vocabulary_.items()):
        first, _, second = name.partition(" ")
        row = [float(tfidf.idf_[column]), *(float(w) for w in softmax.coef_[:, column])]
        weights[(first, second) if second else first] = row
    return [str(c) for c in softmax.classes_], [float(b) for b in softmax.intercept_], weights


def to_json(categories: Sequence[str], bias: Sequence[float], weights: dict[Term, list[float]]) -> bytes:
    """The artifact: one term a line, numbers rounded to 1/SCALE, which hides the last bits of the optimiser."""

    def scaled(numbers: Sequence[float]) -> str:
        return "[" + ",".join(str(round(n * SCALE)) for n in numbers) + "]"

    names = {t if isinstance(t, str) else " ".join(t): scaled(row) for t, row in weights.items()}
    body = ",\n".join(f"{json.dumps(name, ensure_ascii=False)}:{row}" for name, row in sorted(names.items()))
    head = f'"categories":{json.dumps(list(categories))},\n"bias":{scaled(bias)},\n'
    return f'{{{head}"terms":{{\n{body}\n}}}}\n'.encode()


def train(examples: Sequence[Example] | None = None) -> bytes:
    """The artifact trained on `examples`, or on the part of the package's prompts that is not held out."""
    if examples is None:
        examples = [e for e in load_prompts() if not held_out(e)]
    return to_json(*weights_of(fit(examples)))


def main(arguments: Sequence[str]) -> None:
    data = train()
    ARTIFACT.write_bytes(data)
    model = IntentModel.from_json(data)
    print(f"{ARTIFACT.name}: {len(data):,} bytes, {len(model.categories)} categories")
    if "--report" in arguments:
        from aion_extproc.classify.training.report import print_report

        print_report(model, [e for e in load_prompts() if held_out(e)])


if __name__ == "__main__":
    main(sys.argv[1:])
