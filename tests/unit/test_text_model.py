"""The text model: equal to scikit-learn, the same on every run, and without it at run time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from aion_extproc.classify.instruction import read
from aion_extproc.classify.intents import COMPLEXITY
from aion_extproc.classify.model import NAME, Model
from aion_extproc.classify.text_model import SCALE, TextModel
from aion_extproc.classify.training import examples, text

RAW = json.loads(files("aion_extproc.classify").joinpath(NAME).read_bytes())["text"]
MODEL = TextModel.of(RAW)
PROMPTS = examples.prompts()

TEXTS = [
    *("", "hello", "xyzzy plugh", "add a null check on line 42", "fix fix fix this this typo", "??? $5 {a} = ```"),
    *("测试 运行 测试", "Übersetze das bitte", "привет, как дела?", "\0\ud800 lone"),
    *("naïve café 12 x1y2", "\x02 hello"),
    *("a " * 500 + "refactor this package", "İstanbul ǅ ſ ﬁ", "it's o'clock — don't", "snake_case CamelCase"),
]


def of_sklearn(said: str, head: str) -> list[float]:
    return [float(p) for p in SKLEARN[head].predict_proba(VECTORISER.transform([read(said).terms]))[0]]


def shipped_in_sklearn() -> tuple[TfidfVectorizer, dict[str, LogisticRegression]]:
    """The shipped weights inside scikit-learn's own vectoriser and classifiers."""
    names = list(RAW["terms"])
    rows = np.array([np.frombuffer(b64decode(RAW["terms"][name]), "<i2") for name in names]) / SCALE
    vectoriser = TfidfVectorizer(
        analyzer=text.with_pairs, sublinear_tf=True, vocabulary={name: i for i, name in enumerate(names)}
    )
    vectoriser.idf_ = rows[:, 0]
    found, start = {}, 0
    for head, categories in RAW["heads"].items():
        end = start + len(categories)
        model = LogisticRegression()
        model.classes_ = np.array(categories)
        model.coef_ = rows[:, 1 + start : 1 + end].T.copy()
        model.intercept_ = np.array(RAW["bias"][start:end]) / SCALE
        found[head], start = model, end
    return vectoriser, found


VECTORISER, SKLEARN = shipped_in_sklearn()


@pytest.mark.parametrize("head", MODEL.heads)
def test_the_shipped_model_gives_scikit_learns_probabilities(head: str) -> None:
    for said in [*TEXTS, *(example.text for example in PROMPTS[::7])]:
        found = MODEL.probabilities(head, MODEL.logits(read(said).terms))
        assert list(found.values()) == pytest.approx(of_sklearn(said, head), abs=1e-6)
        assert list(found) == [str(name) for name in SKLEARN[head].classes_]


@given(st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(TEXTS), max_size=5).map("\n".join))
def test_any_text_gives_scikit_learns_probabilities(said: str) -> None:
    found = MODEL.probabilities("intent", MODEL.logits(read(said).terms))
    assert list(found.values()) == pytest.approx(of_sklearn(said, "intent"), abs=1e-6)


def test_training_twice_gives_the_same_weights() -> None:
    part = {head: load()[::9] for head, load in text.HEADS.items()}
    assert text.train(part) == text.train(part)


def test_the_prompts_are_many_diverse_and_told_apart() -> None:
    assert len({example.text for example in PROMPTS}) == len(PROMPTS) > 1000
    counts = Counter(example.label for example in PROMPTS)
    assert set(counts) == set(COMPLEXITY)
    assert min(counts.values()) >= 80


def test_probabilities_sum_to_one_without_any_known_term() -> None:
    for words in ([], ["xyzzy"], ["xyzzy"] * 1000):
        for head in MODEL.heads:
            assert sum(MODEL.probabilities(head, MODEL.logits(words)).values()) == pytest.approx(1)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one weight a category"):
        TextModel({"x": ["a", "b"]}, [0.0, 0.0], {"x": b"\0\0\0\0"})
    with pytest.raises(ValueError, match="two categories a head"):
        TextModel({"x": ["a"]}, [0.0], {})


def test_a_model_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="run aion train"):
        Model.from_json(b'{"version": 1}')


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
