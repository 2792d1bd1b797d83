"""Questions with options and word problems: how they are read, and what the gain model says of them."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.gain import GainModel, worth
from aion_extproc.classify.model import NAME
from aion_extproc.classify.questions import FEATURES, choice_question, features, word_problem
from aion_extproc.classify.training import gain as training
from aion_extproc.wire.conversation import Conversation, Turn

RAW = json.loads(files("aion_extproc.classify").joinpath(NAME).read_bytes())["gain"]
MODEL = GainModel.of(RAW)
STEM = "Which gas do plants take in?"
OPTIONS = ("Oxygen", "Carbon dioxide", "Nitrogen", "Helium")
LETTERS = "ABCD"


def written(mark: str, stem: str = STEM, end: str = "\nAnswer:") -> str:
    return (
        stem + "".join(f"\n{mark.format(letter)} {text}" for letter, text in zip(LETTERS, OPTIONS, strict=True)) + end
    )


@pytest.mark.parametrize("mark", ["{}.", "{})", "({})", "{}:", "  {}."])
@pytest.mark.parametrize("end", ["", "\nAnswer:", "\nAnswer: Let's think."])
def test_a_question_is_read_however_its_options_are_marked(mark: str, end: str) -> None:
    question = choice_question(written(mark, end=end))
    assert question is not None
    assert (question.stem, question.options) == (STEM, OPTIONS)


def test_examples_before_it_are_no_part_of_its_options() -> None:
    question = choice_question(written("{}.", end="\nAnswer: B\n\n") + written("{}.", stem="Which gas burns?"))
    assert question is not None
    assert question.options == OPTIONS
    assert question.stem.endswith("Which gas burns?")


@pytest.mark.parametrize(
    "text",
    [
        *("hello", "", STEM, "A. one", "A. one\nB. two", "B. one\nC. two\nD. three", "A. one\nC. two\nD. three"),
        "Plan A. We go.\nPlan B. We stay.",
    ],
)
def test_other_texts_are_no_question_with_options(text: str) -> None:
    assert choice_question(text) is None


@given(st.text(max_size=300), st.lists(st.text(max_size=60), min_size=3, max_size=6))
def test_any_question_has_its_features_and_a_gain(stem: str, options: list[str]) -> None:
    text = stem + "".join(f"\n{letter}. x{option}" for letter, option in zip("ABCDEF", options, strict=False))
    question = choice_question(text)
    if question is not None:
        found = features(question)
        assert len(found) == len(FEATURES)
        assert np.isfinite(found).all()
        assert -1 < MODEL.gain(found) < 1


def test_the_trees_say_what_scikit_learn_says() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, len(FEATURES)))
    y = np.sign(x[:, 0]) * x[:, 1] + rng.normal(size=2_000)
    model = training.fit(x, y)
    ours = GainModel.of(training.trees_of(model))
    assert [ours.gain(list(row)) for row in x[:200]] == pytest.approx(model.predict(x[:200]), abs=1e-4)


@given(st.floats(-0.09, 0.59), st.floats(1e-6, 0.3))
def test_more_gain_is_worth_more(gain: float, more: float) -> None:
    assert 0 <= worth(gain) < worth(min(0.599999, gain + more)) + 1e-12 <= 1 + 1e-12


def problem(steps: int) -> str:
    told = " ".join(f"Then Ana buys {n + 2} more bags with {n + 3} apples each." for n in range(steps))
    return f"Ana has 12 apples and gives 3 of them to Ben. {told} How many apples does Ana have in the end?"


def test_a_longer_problem_needs_more_and_is_no_small_talk() -> None:
    classifier = Classifier.load()
    found = [classifier.classify(Conversation((Turn("user", (problem(steps),)),))) for steps in range(6)]
    scores = [result.score for result in found]
    assert scores == sorted(set(scores))
    assert {result.reason for result in found} == {"word problem"}


@pytest.mark.parametrize(
    "text",
    [
        'How much is to be paid, and by when? "Please transfer 1,284.50 EUR by 3 June, ref. 77812, in two rates."',
        "Every night at 3:10 the p99 of checkout goes to 9 s for 4 minutes. Go through all twelve services, find the"
        " cause and redesign the whole architecture behind it. How many weeks will it take?",
    ],
)
def test_numbers_and_how_much_are_not_enough(text: str) -> None:
    said = Conversation((Turn("user", (text,)),))
    assert word_problem(text) is not None
    assert Classifier.load().classify(said).reason != "word problem"


@pytest.mark.parametrize(
    "text",
    ["what is 2+2?", "hello", "fix line 42 in a.py, what is wrong? if (x == 3) { y = 4; }", "add 2 tests and 3 docs"],
)
def test_sums_and_work_are_no_word_problems(text: str) -> None:
    assert word_problem(text) is None
