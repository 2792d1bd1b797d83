"""A conversation stays where its prompt cache is, as long as that pays."""

from __future__ import annotations

from aion_extproc.accounting.usage import Usage
from aion_extproc.routing.decision import Decision, Warm
from tests.support.routing import PAIR, THREE, ask, cached, chosen, model, reason, tried


def test_a_conversation_stays_where_its_prompt_cache_is_while_that_is_cheaper() -> None:
    # 10,000 tokens: 105,000 at the cheap one; at the dear one 30,000 with 10,000 of them cached.
    answer = ask(PAIR, tokens=10_000, warm=Warm("p", "dear", 10_000))
    assert tried(answer) == ["dear", "cheap"]
    assert reason(answer) == "tier 1, kept for its prompt cache"
    # A short one is not worth it, nor one of which little is cached.
    assert tried(ask(PAIR, tokens=100, warm=Warm("p", "dear", 100))) == ["cheap", "dear"]
    assert tried(ask(PAIR, tokens=10_000, warm=Warm("p", "dear", 500))) == ["cheap", "dear"]
    assert reason(ask(PAIR, tokens=10_000, warm=Warm("p", "cheap", 10_000))) == "tier 1"


def test_the_expected_cost_counts_what_is_cached() -> None:
    answer = ask(PAIR, tokens=10_000, max_tokens=100, warm=Warm("p", "dear", 9_500))
    assert isinstance(answer, Decision)
    assert answer.expected == Usage(input_tokens=10_000, output_tokens=100, cache_read_tokens=9_500)
    # In pico-dollars 9,500 × 2 + 500 × 20 + 100 × 20 = 31,000; the other one reads all of it anew.
    assert [attempt.expected_cost_nano for attempt in answer.attempts] == [31, 101]
    # No more can be cached than is sent.
    answer = ask(PAIR, tokens=1_000, warm=Warm("p", "cheap", 8_000))
    assert isinstance(answer, Decision)
    assert answer.expected.cache_read_tokens == 1_000


def test_a_model_that_is_dearer_now_and_cheaper_soon_is_gone_to() -> None:
    # 58,000 at the dear one and 101,000 at the cheap one, but then 29,000: less from the third request on.
    assert tried(ask(PAIR, tokens=10_000, max_tokens=100, warm=Warm("p", "dear", 8_000))) == ["cheap", "dear"]


def test_a_conversation_leaves_a_model_that_is_ill_cannot_serve_or_is_gone() -> None:
    for ill in ({"down": ["dear"]}, {"slow": {"dear": 30.0}}, {"excluded": ["dear"]}):
        assert chosen(ask(PAIR, tokens=10_000, warm=Warm("p", "dear", 10_000), **ill)) == "cheap"
    assert chosen(ask(PAIR, tokens=10_000, warm=Warm("p", "gone", 10_000))) == "cheap"
    assert chosen(ask(PAIR, tokens=10_000, warm=Warm("other", "dear", 10_000))) == "cheap"


def test_an_easier_turn_goes_down_only_where_that_pays() -> None:
    models = [cached("small", 1, 10, 2), cached("large", 3, 30, 3)]
    answer = ask(models, tokens=100_000, warm=Warm("p", "large", 99_000))
    assert tried(answer) == ["large", "small"]
    assert reason(answer) == "tier 1, tier 3 kept for its prompt cache"
    assert isinstance(answer, Decision)
    assert (answer.tier, answer.wanted_tier) == (3, 1)
    assert chosen(ask(models, tokens=100, warm=Warm("p", "large", 100))) == "small"


def test_a_harder_turn_goes_up_whatever_is_cached() -> None:
    models = [cached("small", 1, 10, 0), cached("large", 3, 30, 3)]
    assert chosen(ask(models, tier=3, tokens=100_000, warm=Warm("p", "small", 99_000))) == "large"


def test_where_nothing_is_cheaper_a_conversation_stays_in_its_tier_but_not_above() -> None:
    local = [model("mine", 1, local=True), model("other", 1, local=True), model("big", 3, local=True)]
    assert chosen(ask(local, warm=Warm("p", "other", 100))) == "other"
    assert chosen(ask(local, warm=Warm("p", "big", 100))) == "mine"
    unknown = [model("a", 1, None), model("b", 1, None), model("c", 2, None)]
    assert chosen(ask(unknown, warm=Warm("p", "b", 100))) == "b"
    assert chosen(ask(unknown, warm=Warm("p", "c", 100))) == "a"
    assert chosen(ask([model("mine", 1, local=True), *PAIR], tokens=10_000, warm=Warm("p", "dear", 10_000))) == "mine"


def test_a_named_model_stays_at_the_provider_that_has_it_cached() -> None:
    models = [cached("m", 1, 10, 1, provider="cheap"), cached("m", 1, 20, 2, provider="dear")]
    for tokens, provider in ((10_000, "dear"), (100, "cheap")):
        answer = ask(models, "m", tokens=tokens, warm=Warm("dear", "m", tokens))
        assert isinstance(answer, Decision)
        assert answer.model.provider == provider


def test_the_cache_of_another_model_means_nothing_to_one_that_was_named() -> None:
    answer = ask(PAIR, "cheap", tokens=10_000, warm=Warm("p", "dear", 10_000))
    assert (tried(answer), reason(answer)) == (["cheap"], "model named by the client")


def test_why_a_tier_is_not_the_score_s_is_said() -> None:
    assert reason(ask(THREE, tier=2, why="asked again")) == "tier 2, asked again"
    up = ask(THREE, tier=2, why="asked again", down=["middle"])
    assert reason(up) == "tier 2, asked again, none healthy, so tier 3"
