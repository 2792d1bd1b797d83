"""A confirmation is as hard as what it confirms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.classify.classification import Classification, Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.confirmations import PHRASES, is_confirmation, normalise, proposal_weight
from aion_extproc.wire.conversation import Conversation, Turn

CLASSIFIER = Classifier.load()
SEED = CLASSIFIER.using("seed")
CODE = "\n```python\nx = 1\n```\n"
PLAN_WITH_CODE = f"Here is the plan:\n1. Move the tokens.{CODE}2. Add rotation.{CODE}3. Update callers."
REQUEST = "refactor the entire auth system with JWT refresh token rotation"


def answer(
    said: str, *proposal: str, between: tuple[Turn, ...] = (), by: Classifier = CLASSIFIER
) -> Classification:
    turns = (Turn("user", (REQUEST,)), Turn("assistant", proposal), *between, Turn("user", (said,)))
    return by.classify(Conversation(turns))


def tier(result: Classification) -> int:
    return Thresholds().tier(result.score)


def test_there_are_more_than_35_phrases() -> None:
    assert len(PHRASES) >= 35
    assert all(is_confirmation(phrase) for phrase in PHRASES)


@pytest.mark.parametrize(
    "said",
    [
        *("do it", "Do it!", "yes", "YES.", "Yes, please!", "please do", "go ahead", "ok, go ahead", "Okay — proceed"),
        *("let’s do it", "sounds good", "LGTM 👍", "👍", "yes do it please", "continue", "  yes\n", "sí", "oui", "ja"),
        *("好的", "да", "はい", "make it so", "ship it"),
    ],
)
def test_a_confirmation_of_a_plan_with_code_is_tier_3(said: str) -> None:
    result = answer(said, PLAN_WITH_CODE)
    assert answer(said, PLAN_WITH_CODE, by=SEED).score == pytest.approx(0.85)
    assert tier(result) == 3
    assert result.reason.startswith("confirms ")
    assert result.task == "code"


@pytest.mark.parametrize(
    "proposal",
    [
        *("Hi, how can I help?", "Hello! What would you like to do today?", "You're welcome!", "It is 4."),
        "Hi! I can implement, refactor and debug code. How can I help you today?",
    ],
)
def test_yes_after_small_talk_stays_tier_1(proposal: str) -> None:
    result = answer("yes", proposal)
    assert tier(result) == 1
    assert result.reason == "confirms small talk"


@pytest.mark.parametrize(
    ("proposal", "weight"),
    [
        *((CODE * 2, 0.85), (CODE * 7, 0.85), (CODE, 0.65), ("1. Read it.\n2. Change it.\n3. Test it." + CODE, 0.85)),
        *(("I would refactor the parser.", 0.75), ("I can implement that for you.", 0.75)),
        *(("1. Read it.\n2. Change it.", 0.70), ("**1.** Read it\n\n**2.** Change it", 0.70)),
        *(("Step 1: read. Step 2: write.", 0.70), ("I found the bug in the loop.", 0.55)),
        *(("word " * 700, 0.60), ("word " * 300, 0.40), ("word " * 100, 0.0), ("", 0.0)),
        ("It costs 1.5 or 2.5 dollars.", 0.0),
    ],
)
def test_the_proposal_decides(proposal: str, weight: float) -> None:
    assert proposal_weight(proposal)[0] == weight


def test_it_is_a_floor_and_not_the_score() -> None:
    many = tuple(Turn("assistant", ("x" * 20_000,)) for _ in range(20))
    turns = (*many, Turn("assistant", ("word " * 300,)), Turn("user", ("yes",)))
    assert SEED.classify(Conversation(turns)).score >= 0.40


def test_the_nearest_assistant_turn_with_text_counts() -> None:
    calls = (Turn("assistant", (), tool_calls=2), Turn("user", (), tool_results=2), Turn("assistant", (" ",)))
    assert tier(answer("do it", PLAN_WITH_CODE, between=calls)) == 3
    done = (Turn("assistant", ("All done, tests pass. Shall I commit?",)),)
    assert tier(answer("yes", PLAN_WITH_CODE, between=done)) == 1


def test_the_first_turn_confirms_nothing() -> None:
    assert tier(CLASSIFIER.classify(Conversation((Turn("user", ("do it",)),)))) == 1


@pytest.mark.parametrize(
    "said",
    [
        *("no", "stop", "yes but use tabs", "do it differently", "what?", "I said do it", "", "yes " * 30),
        "do it" + " " * 10 + "and then translate the whole thing into a much longer language",
    ],
)
def test_anything_else_is_no_confirmation(said: str) -> None:
    assert not is_confirmation(said)


def test_reminders_around_a_confirmation_do_not_hide_it() -> None:
    reminder = f"<system-reminder>{'be careful ' * 500}</system-reminder>"
    turns = (Turn("assistant", (PLAN_WITH_CODE,)), Turn("user", (reminder, "do it", reminder)))
    assert tier(CLASSIFIER.classify(Conversation(turns))) == 3


@given(st.text(st.characters(exclude_categories=())))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == " ".join(once.split())


# Nobody says please after a picture.
WORDS = sorted(phrase for phrase in PHRASES if any(letter.isalpha() for letter in phrase))


@given(st.sampled_from(WORDS), st.sampled_from(["", "!", " ...", ", please", " please.", "\n"]))
def test_case_and_punctuation_do_not_matter(phrase: str, after: str) -> None:
    said = phrase.upper() + after
    assert is_confirmation(said) or len(said) > 60 or phrase.upper().lower() != phrase
