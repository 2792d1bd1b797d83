"""What is remembered of conversations: tier, prompt cache, whether they ask again; and that workers agree on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.classify.classification import Thresholds
from aion_extproc.routing.decision import Warm
from aion_extproc.routing.sessions import (
    KEY_LENGTH,
    Rules,
    held,
)
from tests.support.sessions import EASY, HARD, THRESHOLDS, Conversation, turn, updates, watched

# --- the tier


@pytest.mark.parametrize(
    ("kept", "score", "expected"),
    [
        (1, 0.35, 1), (1, 0.40, 1), (1, 0.41, 2), (1, 0.71, 3), (2, 0.34, 2), (2, 0.30, 2), (2, 0.29, 1), (2, 0.75, 2),
        (2, 0.76, 3), (3, 0.66, 3), (3, 0.64, 2), (3, 0.2, 1),
    ],
)  # fmt: skip
def test_a_score_near_the_threshold_does_not_change_the_tier(kept: int, score: float, expected: int) -> None:
    assert held(kept, score, False, THRESHOLDS, 0.05) == expected


def test_what_is_plainly_asked_for_goes_up_at_once() -> None:
    assert held(1, 0.36, True, THRESHOLDS, 0.05) == 2
    assert held(2, 0.72, True, THRESHOLDS, 0.05) == 3
    assert held(3, 0.68, True, THRESHOLDS, 0.05) == 3


SCORES = st.integers(0, 10**6).map(lambda n: n / 10**6)  # as the classifier rounds them
KEPT = st.integers(1, 3)
MARGINS = st.integers(0, 500).map(lambda n: n / 1000)
LIMITS = st.tuples(SCORES, SCORES).map(lambda pair: Thresholds(min(pair), max(pair)))


@given(KEPT, SCORES, SCORES, st.booleans(), LIMITS, MARGINS)
def test_a_higher_score_never_has_a_lower_tier(
    kept: int, one: float, other: float, floored: bool, limits: Thresholds, margin: float
) -> None:
    low, high = sorted((one, other))
    assert held(kept, low, floored, limits, margin) <= held(kept, high, floored, limits, margin)


@given(KEPT, SCORES, st.booleans(), LIMITS, MARGINS)
def test_the_same_score_again_has_the_same_tier(
    kept: int, score: float, floored: bool, limits: Thresholds, margin: float
) -> None:
    once = held(kept, score, floored, limits, margin)
    assert held(once, score, floored, limits, margin) == once
    assert once in (kept, limits.tier(score))


@given(KEPT, SCORES, LIMITS, MARGINS, MARGINS)
def test_a_wider_hysteresis_keeps_at_least_as_much(
    kept: int, score: float, limits: Thresholds, one: float, other: float
) -> None:
    narrow, wide = sorted((one, other))
    if held(kept, score, False, limits, narrow) == kept:
        assert held(kept, score, False, limits, wide) == kept
    assert held(kept, score, False, limits, 0.0) == limits.tier(score)


@given(st.lists(st.floats(0.31, 0.39), max_size=20))
def test_scores_around_a_threshold_never_move_a_conversation(scores: list[float]) -> None:
    conversation = Conversation()
    conversation.turn("begin", EASY)
    assert {conversation.turn(f"turn {i}", score).tier for i, score in enumerate(scores)} <= {1}


def test_a_tier_that_is_kept_is_explained() -> None:
    conversation = Conversation()
    assert conversation.turn("a", EASY)[:2] == (1, "")
    assert conversation.turn("b", 0.38)[:2] == (1, "as before")
    assert conversation.turn("c", 0.38, floored=True)[:2] == (2, "")
    assert conversation.turn("d", 0.33)[:2] == (2, "as before")
    assert conversation.turn("e", EASY)[:2] == (1, "")


def test_a_request_that_was_not_classified_keeps_no_tier() -> None:
    conversation = Conversation()
    conversation.sessions.decided(turn("a"), None, "p", "named", 100, conversation.now)
    conversation.answer("a", tier=3)
    assert conversation.ask("b", 0.38)[:2] == (2, "")
    # Nor is it asked again of aion-auto, when it was asked of a model by its name.
    conversation.sessions.decided(turn("c"), None, "p", "named", 100, conversation.now)
    conversation.now += 1
    conversation.answer("c")
    assert conversation.ask("c")[:2] == (1, "")


# --- asked again


def test_the_same_turn_again_goes_a_tier_up_each_time_and_a_machine_gets_its_own() -> None:
    conversation = Conversation()
    tiers = []
    for _ in range(6):
        tiers.append(conversation.turn("hello")[:2])
        conversation.now += 10
    assert tiers == [(1, ""), (2, "asked again"), (3, "asked again"), (1, ""), (1, ""), (1, "")]
    assert conversation.turn("something else")[:2] == (1, "")
    assert conversation.turn("something else")[:2] == (2, "asked again")


def test_it_goes_up_from_the_model_that_served() -> None:
    conversation = Conversation()
    conversation.ask("hello")
    conversation.now += 1
    conversation.answer("hello", tier=2)  # tier 1 was down, or tier 2 had the prompt cache
    assert conversation.ask("hello")[:2] == (3, "asked again")


def test_there_is_nothing_above_tier_three() -> None:
    conversation = Conversation()
    assert conversation.turn("prove it", HARD)[:2] == (3, "")
    assert conversation.turn("prove it", HARD)[:2] == (3, "")


@pytest.mark.parametrize(("seconds", "tier"), [(59.9, 2), (60.0, 1)])
def test_it_counts_for_a_minute_after_the_answer(seconds: float, tier: int) -> None:
    conversation = Conversation()
    conversation.ask("hello")
    conversation.now += 500  # the answer was long
    conversation.answer("hello")
    conversation.now += seconds
    assert conversation.ask("hello").tier == tier


def test_a_pause_ends_the_count() -> None:
    conversation = Conversation()
    tiers = []
    for pause in (10, 10, 10, 100, 10, 10):
        tiers.append(conversation.turn("hello").tier)
        conversation.now += pause
    assert tiers == [1, 2, 3, 1, 1, 2]


def test_it_can_be_switched_off() -> None:
    conversation = Conversation(Rules(regeneration=0.0))
    conversation.ask("hello")
    conversation.answer("hello")
    assert conversation.ask("hello").tier == 1


def test_what_was_not_answered_is_not_asked_again() -> None:
    conversation = Conversation()
    assert [conversation.ask("hello").tier for _ in range(5)] == [1] * 5  # parallel duplicates
    conversation.now += 1
    conversation.answer("hello")
    assert conversation.ask("hello").tier == 2
    assert [conversation.ask("hello").tier for _ in range(5)] == [2] * 5  # parallel to that one, so where it went
    conversation.answer("another")
    assert conversation.ask("hello").tier == 2


def test_a_library_s_own_retry_is_not_asked_again() -> None:
    conversation = Conversation()
    conversation.turn("hello")
    assert conversation.ask("hello", retry=True)[:2] == (1, "")
    conversation.now += 1
    conversation.answer("hello")
    assert conversation.ask("hello")[:2] == (2, "asked again")
    conversation.now += 1
    conversation.answer("hello", tier=2)
    assert conversation.ask("hello", retry=True)[:2] == (2, "asked again")


def test_asking_again_does_not_move_the_conversation() -> None:
    conversation = Conversation()
    conversation.turn("hello")
    assert conversation.turn("hello").tier == 2
    assert conversation.turn("and now?", 0.38)[:2] == (1, "as before")


# --- the prompt cache


def test_it_is_with_the_one_who_served_last() -> None:
    conversation = Conversation()
    assert conversation.warm() is None
    conversation.ask("a", served_by="first choice")
    conversation.now += 1
    conversation.answer("a", model="understudy", tokens=90)
    assert conversation.warm() == Warm("p", "understudy", 90)


def test_a_turn_that_is_quicker_than_the_log_finds_it_with_the_one_who_was_asked() -> None:
    conversation = Conversation()
    conversation.ask("a", served_by="first choice")
    assert conversation.warm("b") == Warm("p", "first choice", 100)
    # But one that comes again has not been answered yet: a duplicate, or a retry after an error.
    assert conversation.warm("a") is None
    conversation.now += 1
    conversation.answer("a", model="understudy", tokens=90)
    conversation.now += 1
    conversation.ask("b", served_by="first choice")
    assert conversation.warm("b") == Warm("p", "understudy", 90)
    assert conversation.warm("c") == Warm("p", "first choice", 100)


def test_it_lasts_as_long_as_the_provider_keeps_it() -> None:
    conversation = Conversation()
    conversation.ask("a")
    conversation.now += 299
    assert conversation.warm() is not None
    conversation.now += 1
    assert conversation.warm() is None
    conversation.sessions.answered(turn("a").mark, "p", "m", 1, 50, 3000.0, conversation.now)
    conversation.now += 2999
    assert conversation.warm() == Warm("p", "m", 50)
    conversation.now += 1
    assert conversation.warm() is None


def test_what_nothing_was_cached_of_is_not_warm() -> None:
    conversation = Conversation()
    conversation.ask("a")
    conversation.answer("a", tokens=0)
    assert conversation.warm() is None
    off = Conversation(Rules(cache_lifetime=0.0))
    off.ask("a")
    assert off.warm() is None


# --- the memory


def test_a_conversation_is_forgotten_after_an_hour_of_silence() -> None:
    conversation = Conversation()
    conversation.turn("a", 0.5)
    conversation.now += 3599
    assert conversation.ask("b", 0.33)[:2] == (2, "as before")
    conversation.now += 3600
    assert conversation.ask("c", 0.33)[:2] == (1, "")
    assert conversation.sessions.look("f" * KEY_LENGTH, conversation.now) is None


def test_the_next_turn_may_come_to_another_worker() -> None:
    here, there = Conversation(), Conversation()
    watched(here.sessions)
    here.turn("hello", EASY)
    for update in updates(here.sessions):
        there.sessions.apply(update, there.now)
    there.now += 5
    assert there.ask("hello")[:2] == (2, "asked again")
    assert there.warm() == Warm("p", "tier 2", 100)


def test_a_worker_that_hears_only_of_the_answer_keeps_it_for_the_request() -> None:
    here, there = Conversation(), Conversation()
    watched(here.sessions)
    here.ask("hello")
    there.now += 1
    there.answer("hello")  # Envoy's log came here, before the word of the request
    for update in updates(here.sessions):
        there.sessions.apply(update, there.now)
    assert there.ask("hello").tier == 2
