"""The intent model: equal to scikit-learn, the same on every run, and without it at run time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from aion_extproc.classify.intent import COMPLEXITY, SCALE, IntentModel
from aion_extproc.classify.terms import TOKEN, fold, terms
from aion_extproc.classify.training import train as training

PROMPTS = training.load_prompts()
MODEL = IntentModel.load()

TEXTS = [
    *("", "hello", "xyzzy plugh", "add a null check on line 42", "fix fix fix this this typo", "??? $5 {a} = ```"),
    *(
        "测试 运行 测试",
        "Übersetze das bitte",
        "привет, как дела?",
        "\0\ud800 lone",
        "naïve café 12 x1y2",
        "\x02 hello",
    ),
    *("a " * 500 + "refactor this package", "İstanbul ǅ ſ ﬁ", "it's o'clock — don't", "snake_case CamelCase"),
]


def shipped_in_sklearn() -> tuple[TfidfVectorizer, LogisticRegression]:
    """The shipped weights inside scikit-learn's own vectoriser and classifier, fed with raw texts."""
    raw = json.loads(training.ARTIFACT.read_bytes())
    names = list(raw["terms"])
    rows = np.array([raw["terms"][name] for name in names]) / SCALE
    vectoriser = TfidfVectorizer(
        preprocessor=fold,
        token_pattern=TOKEN,
        ngram_range=(1, 2),
        sublinear_tf=True,
        vocabulary={name: i for i, name in enumerate(names)},
    )
    vectoriser.idf_ = rows[:, 0]
    classifier = LogisticRegression()
    classifier.classes_ = np.array(raw["categories"])
    classifier.coef_ = rows[:, 1:].T.copy()
    classifier.intercept_ = np.array(raw["bias"]) / SCALE
    return vectoriser, classifier


VECTORISER, SOFTMAX = shipped_in_sklearn()


def of_sklearn(text: str) -> list[float]:
    return [float(p) for p in SOFTMAX.predict_proba(VECTORISER.transform([text]))[0]]


def test_the_shipped_model_gives_scikit_learns_probabilities() -> None:
    for text in [*TEXTS, *(e.prompt for e in PROMPTS[::7])]:
        assert MODEL.probabilities(terms(text)) == pytest.approx(of_sklearn(text), abs=1e-6)


@given(st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(TEXTS), max_size=5).map(" ".join))
def test_any_text_gives_scikit_learns_probabilities(text: str) -> None:
    assert MODEL.probabilities(terms(text)) == pytest.approx(of_sklearn(text), abs=1e-6)


def test_a_freshly_trained_model_gives_scikit_learns_probabilities() -> None:
    pipeline = training.fit(PROMPTS[::4], min_pairs=1)
    model = IntentModel(*training.weights_of(pipeline))
    texts = [*TEXTS, *(e.prompt for e in PROMPTS[1::9])]
    ours = [model.probabilities(terms(text)) for text in texts]
    np.testing.assert_allclose(ours, pipeline.predict_proba(texts), atol=1e-6)
    assert list(model.categories) == [str(c) for c in pipeline.classes_]


def test_training_twice_gives_the_same_bytes_and_the_shipped_model() -> None:
    part = PROMPTS[::5]
    assert training.train(part) == training.train(part)
    data = training.train()
    assert len(data) < 400_000
    fresh = IntentModel.from_json(data)
    for text in TEXTS:  # not the bytes: another BLAS may round a last digit the other way
        assert fresh.probabilities(terms(text)) == pytest.approx(MODEL.probabilities(terms(text)), abs=0.005)


def test_held_out_prompts_are_classified_as_the_model_card_says() -> None:
    held = [e for e in PROMPTS if training.held_out(e)]
    right = 0
    for example in held:
        probabilities = MODEL.probabilities(terms(example.prompt))
        right += MODEL.categories[probabilities.index(max(probabilities))] == example.category
    assert len(held) > 300
    assert right / len(held) > 0.7


def test_the_prompts_are_many_diverse_and_told_apart() -> None:
    assert len({e.prompt for e in PROMPTS}) == len(PROMPTS) > 1000
    counts = Counter(e.category for e in PROMPTS)
    assert set(counts) == set(COMPLEXITY) == set(MODEL.categories)
    assert min(counts.values()) >= 80


def test_probabilities_sum_to_one_without_any_known_term() -> None:
    for words in ([], ["xyzzy"], ["xyzzy"] * 1000):
        assert sum(MODEL.probabilities(words)) == pytest.approx(1)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one bias and one weight"):
        IntentModel(["a", "b"], [0.0, 0.0], {"x": [1.0, 2.0]})
    with pytest.raises(ValueError, match="one bias and one weight"):
        IntentModel(["a"], [0.0], {})


SCRIPT = """
import sys
from aion_extproc.classify.classifier import Classifier
from aion_extproc.wire.conversation import Conversation, Turn
classifier = Classifier.load()
texts = ["hello", "add a null check on line 42", "refactor this package to use X", "how and why? 1. a 2. b if c",
         "word " * 3000, "\\u6d4b\\u8bd5\\u8fd0\\u884c", "Explain {x} = $5 and compare, derive, prove ```a```"]
for text in texts:
    print(repr(classifier.classify(Conversation((Turn("assistant", ("1. a 2. b",)), Turn("user", (text,)))))))
for name in ("sklearn", "numpy", "scipy"):
    assert name not in sys.modules, name
"""


def test_scores_do_not_depend_on_hash_randomisation_and_no_numeric_library_is_imported() -> None:
    outputs = set()
    for seed in ("0", "1", "2", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert "score=" in outputs.pop()
