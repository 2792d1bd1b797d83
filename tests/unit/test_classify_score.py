"""Scores and tiers: the seed's examples, the seven signals, the floors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.classify.classification import Classification, Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.signals import WEIGHTS, intent
from aion_extproc.classify.tasks import TASKS
from aion_extproc.classify.terms import terms
from aion_extproc.wire.conversation import Conversation, Preferences, Role, Turn

CLASSIFIER = Classifier.load()
SEED = CLASSIFIER.using("seed")


def ask(
    *texts: str,
    system: tuple[str, ...] = (),
    tools: int = 0,
    preferences: Preferences | None = None,
    before: tuple[Turn, ...] = (),
    by: Classifier = CLASSIFIER,
) -> Classification:
    turns = (*before, Turn("user", texts))
    return by.classify(Conversation(turns, system, tools, preferences or Preferences()))


def tier(text: str) -> int:
    return Thresholds().tier(ask(text).score)


def test_hello_has_the_score_of_the_seed() -> None:
    assert ask("hello", by=SEED).score == pytest.approx(0.078, abs=0.001)


@pytest.mark.parametrize(
    "text",
    [
        *("hello", "Hello!", "good morning :)", "thanks, that helped", "What is 2+2?", "fix this typo"),
        *("Fix this typo please", "fix the typo on line 3", "run the tests", "read src/app.ts", "git status"),
        *("rename foo to bar", "fix the lint errors", "what is the capital of Peru?", "bump the version to 2.1"),
        *("translate 'good night' to French", "summarize this article in one sentence", "remove the unused import"),
        *("fix all typos in the whole project", "rewrite this email to our whole team about the project"),
    ],
)
def test_trivial_turns_are_tier_1(text: str) -> None:
    assert tier(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("add a null check on line 42", "Add a null check on line 7 of parser.go", "add a nil check before the call"),
        *("return an error when the file is missing", "add a bounds check to this loop", "add a timeout to the call"),
        *("write a function that parses a date", "explain how DNS works", "why does this test fail with a KeyError?"),
        *("refactor this function to use early returns", "compare Redis and Memcached for sessions"),
        "don't refactor the package, just add a null check",
    ],
)
def test_concrete_work_is_tier_2(text: str) -> None:
    assert tier(text) == 2


@pytest.mark.parametrize(
    "text",
    [
        *(f"refactor this package to use {x}" for x in ("X", "zap", "generics", "dependency injection", "the new API")),
        *("refactor the entire auth system with JWT refresh token rotation", "migrate this service from REST to gRPC"),
        *("design a multi-tenant architecture for our billing platform", "rewrite the backend in Rust"),
        *("prove that there are infinitely many primes", "replace the logger across the whole codebase"),
    ],
)
def test_wide_changes_and_proofs_are_tier_3(text: str) -> None:
    assert tier(text) == 3


@pytest.mark.parametrize("text", ["hello", "fix this typo", "run the tests", "read src/app.ts", "git status", "thanks"])
def test_trivial_turns_stay_tier_1_deep_in_an_agents_session(text: str) -> None:
    """Volume, depth and tools are at their maximum there, and must not carry a turn over the threshold alone."""
    step = (
        Turn("assistant", ("I will read it.",), tool_calls=1),
        Turn("user", (), tool_results=1, tool_result_chars=900),
    )
    result = ask(text, before=(Turn("user", ("refactor this package to use X",)), *step * 100), tools=30)
    assert Thresholds().tier(result.score) == 1


def test_the_score_is_the_weighted_sum_where_no_floor_applies() -> None:
    result = ask("explain what this does", system=("Think step by step.",), tools=2, by=SEED)
    assert result.score == pytest.approx(sum(WEIGHTS[name] * value for name, value in result.signals.items()), abs=1e-6)
    assert list(result.signals) == list(WEIGHTS)
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


def test_keywords_add_up_and_stop_at_one() -> None:
    def keywords(text: str) -> float:
        return ask(text).signals["content_keywords"]

    assert keywords("good morning") == 0
    assert keywords("improve the sound") == 0  # "prove" inside a word is no keyword
    assert keywords("Explain and compare") == pytest.approx(0.4)
    assert keywords("optimise, optimize") == pytest.approx(0.2)
    assert keywords("why\n```\nx\n```") == pytest.approx(0.2)
    assert keywords("{x} costs $5") == pytest.approx(0.25)
    assert keywords("analyze explain compare prove derive implement architect design") == 1


def test_volume_counts_tool_results_but_no_system_text() -> None:
    def volume(*turns: Turn) -> float:
        return CLASSIFIER.classify(Conversation((*turns, Turn("user", ("hi",))))).signals["token_volume"]

    assert volume(Turn("user", ("x" * 7998,))) == pytest.approx(0.5)
    assert volume(Turn("user", (), tool_results=1, tool_result_chars=3998)) == pytest.approx(0.25)
    assert volume(Turn("user", ("x" * 1_000_000,))) == 1
    assert volume(Turn("user", ("<system-reminder>" + "x" * 50_000 + "</system-reminder>\n",))) < 0.001
    assert ask("hi", system=("x" * 100_000,)).signals["token_volume"] < 0.001


def test_depth_tools_and_system_prompt() -> None:
    turns = (Turn("user", ("hi",)), Turn("assistant", ("hello",))) * 5
    assert ask("hi", before=turns).signals["message_count"] == pytest.approx(11 / 20)
    assert ask("hi", before=turns * 10).signals["message_count"] == 1
    assert ask("hi", tools=30).signals["tools"] == pytest.approx(0.3)
    assert ask("hi", system=("x" * 50_000,)).signals["system_prompt"] == 0
    strong = "Think Step-by-Step. Give a formal proof, mathematical and with chain of thought."
    assert ask("hi", system=("Be kind.", strong)).signals["system_prompt"] == 1
    assert ask("hi", system=("think step by step",)).signals["system_prompt"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("preferences", "value"),
    [
        *((Preferences(tier=1), 0.0), (Preferences(tier=2), 0.5), (Preferences(tier=3), 1.0)),
        *((Preferences(prefer_quality=True), 0.8), (Preferences(prefer_speed=True), 0.1), (Preferences(), 0.5)),
    ],
)
def test_hints(preferences: Preferences, value: float) -> None:
    assert ask("hi", preferences=preferences).signals["hints"] == pytest.approx(value)


def test_a_hint_of_speed_lowers_what_a_floor_raised() -> None:
    wide = "refactor this package to use X"
    assert Thresholds().tier(ask(wide, preferences=Preferences(prefer_speed=True), by=SEED).score) == 2
    assert ask(wide, preferences=Preferences(prefer_speed=True)).score < ask(wide).score
    assert ask(wide, preferences=Preferences(tier=3)).score > ask(wide).score


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("go", 0.2), ("fix it", 0.2), ("fix, explain it", 0.35), ("add, fix, explain", 0.5)),
        *(("add, fix, write, explain", 0.5), ("go if you can", 0.3), ("1. go 2. stop", 0.3)),
        *(("first go, then stop", 0.3), ("1) go 2) stop", 0.3), ("first go, when ready", 0.3)),
        *(("go:\n- here\n- there", 0.3), ("how", 0.24), ("how and why", 0.28), ("what if it rains, and why", 0.42)),
    ],
)
def test_further_verbs_conditions_lists_and_questions_raise_the_intent(text: str, value: float) -> None:
    assert intent(0.2, text, frozenset(terms(text))) == pytest.approx(value)


def test_reminders_are_not_the_users_words() -> None:
    reminder = "<system-reminder>Refactor this package. Prove the theorem.</system-reminder>"
    bare = ask("hello")
    for texts in (
        *((reminder, "hello"), (reminder + "hello",), ("hello" + reminder,), ("hello", reminder)),
        *((reminder, reminder, "hello", "<system-reminder>unterminated refactor this package"),),
    ):
        result = ask(*texts)
        assert result.signals["intent"] == bare.signals["intent"]
        assert result.signals["content_keywords"] == 0
        assert Thresholds().tier(result.score) == 1


def test_turns_of_tool_results_and_of_reminders_are_passed_over() -> None:
    turns = (
        Turn("user", ("refactor this package to use X",)),
        Turn("assistant", (), tool_calls=1),
        Turn("user", (), tool_results=1, tool_result_chars=20),
        Turn("user", ("<system-reminder>Run the tests.</system-reminder>", "  \n"), tool_results=1),
    )
    result = CLASSIFIER.classify(Conversation(turns))
    assert Thresholds().tier(result.score) == 3
    assert result.task == "agentic"


def test_nothing_said_is_small_talk() -> None:
    for turns in ((), (Turn("user", ()),), (Turn("assistant", ("hi",)),), (Turn("user", ("",)),)):
        result = CLASSIFIER.classify(Conversation(turns))
        assert Thresholds().tier(result.score) == 1
        assert result.task == "chat"


def test_the_reason_names_the_floor_and_never_the_text() -> None:
    result = ask("refactor this zanzibar package to use X")
    assert result.reason == "design"
    assert ask("refactor this zanzibar package to use X", by=SEED).reason == "design, hard intent"
    assert ask("hello").reason == "small talk"


def test_words_and_likelihood_together_make_a_wide_change() -> None:
    result = ask("port our library to the new platform, it has 12 modules, whatever it takes this week", by=SEED)
    assert Thresholds().tier(result.score) == 3
    assert "wide change" in result.reason or "hard intent" in result.reason


ROLES: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant", "tool"])
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=80) | st.sampled_from(
    ["yes", "<system-reminder>", "</system-reminder>", "```", "\0", "\ud800", "1. a 2. b", "İ", "ß" * 30]
)
TURNS = st.lists(
    st.builds(
        Turn,
        role=ROLES,
        texts=st.lists(ANY_TEXT, max_size=4).map(tuple),
        tool_calls=st.integers(0, 2),
        tool_results=st.integers(0, 2),
        tool_result_chars=st.integers(0, 100_000),
    ),
    max_size=6,
).map(tuple)


@given(TURNS, st.lists(ANY_TEXT, max_size=2).map(tuple), st.integers(0, 40))
def test_any_conversation_has_a_score(turns: tuple[Turn, ...], system: tuple[str, ...], tools: int) -> None:
    conversation = Conversation(turns, system, tools)
    result = CLASSIFIER.classify(conversation)
    assert 0 <= result.score <= 1
    assert result.score == round(result.score, 6)
    assert all(0 <= value <= 1 for value in result.signals.values())
    assert result.task in TASKS
    assert result.reason.isascii()
    assert CLASSIFIER.classify(conversation) == result
