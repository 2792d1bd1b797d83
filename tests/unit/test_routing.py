"""Which model gets a request, who stands by for it, and what is said when none can."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import Model, Prices, Rate
from aion_extproc.routing.candidates import Tables, is_native, serves
from aion_extproc.routing.decision import MAX_ATTEMPTS, Decision, NoRoute, Wanted, Warm
from aion_extproc.routing.health import Health, Observation
from aion_extproc.routing.route import route
from aion_extproc.routing.strategies import STRATEGIES
from aion_extproc.wire.endpoint import Endpoint
from tests.support.routing import BOTH, CHAT, MESSAGES, THREE, ask, chosen, fail, model, refused, tried


@pytest.mark.parametrize(("tier", "expected"), [(1, "small"), (2, "middle"), (3, "large")])
def test_a_tier_is_served_by_its_model(tier: int, expected: str) -> None:
    answer = ask(THREE, tier=tier)
    assert chosen(answer) == expected
    assert isinstance(answer, Decision)
    assert (answer.tier, answer.wanted_tier, answer.reason) == (tier, tier, f"tier {tier}")


def test_cheapest_takes_local_then_price_then_the_unknown() -> None:
    models = [model("unknown", 1, None), model("dear", 1, 9), model("cheap", 1, 2), model("mine", 1, local=True)]
    answer = ask(models)
    assert isinstance(answer, Decision)
    assert [attempt.model.id for attempt in answer.attempts] == ["mine", "cheap", "dear", "unknown"]


def test_cheapest_means_for_this_request() -> None:
    reads = Model("reads-cheap", "p", 1, Prices(Rate(1), Rate(100)), None, False, frozenset(), endpoints=BOTH)
    writes = Model("writes-cheap", "p", 1, Prices(Rate(10), Rate(1)), None, False, frozenset(), endpoints=BOTH)
    assert chosen(ask([reads, writes], tokens=100_000, max_tokens=10)) == "reads-cheap"
    assert chosen(ask([reads, writes], tokens=10, max_tokens=400)) == "writes-cheap"


def test_ties_go_to_the_first_in_the_file() -> None:
    assert chosen(ask([model("b", 1, 5), model("a", 1, 5)])) == "b"


def test_fallback_is_the_order_of_the_file() -> None:
    models = [model("dear", 1, 9), model("cheap", 1, 1), model("mine", 1, local=True)]
    assert chosen(ask(models, strategy="fallback")) == "dear"
    assert chosen(ask(models, strategy="fallback", down=["dear"])) == "cheap"


def test_a_tier_that_is_down_goes_up_and_says_so() -> None:
    answer = ask(THREE, down=["small"])
    assert chosen(answer) == "middle"
    assert isinstance(answer, Decision)
    assert (answer.tier, answer.reason) == (2, "tier 1, none healthy, so tier 2")


def test_a_tier_that_is_down_does_not_go_up_where_that_is_off() -> None:
    assert refused(ask(THREE, down=["small"], fallback=False)) == (503, "no_healthy_model")


def test_a_tier_that_is_down_never_goes_down() -> None:
    answer = ask(THREE, tier=3, down=["large"])
    assert refused(answer) == (503, "no_healthy_model")
    assert isinstance(answer, NoRoute)
    assert answer.retry_after == 20
    assert "p/large" in answer.message


@pytest.mark.parametrize("fallback", [True, False])
def test_an_empty_tier_goes_up(fallback: bool) -> None:
    answer = ask([model("middle", 2), model("large", 3)], tier=1, fallback=fallback)
    assert chosen(answer) == "middle"
    assert isinstance(answer, Decision)
    assert answer.reason == "tier 1 has no model for it, so tier 2"


def test_a_laptop_with_one_model_serves_everything() -> None:
    mine = model("mine", 1, local=True)
    for asked, tier in product(("aion-auto", "aion-local", "mine"), (1, 2, 3)):
        assert chosen(ask([mine], asked, tier)) == "mine"
    answer = ask([mine], tier=3)
    assert isinstance(answer, Decision)
    assert answer.reason == "tier 3 and above have no model for it, so tier 1"


def test_aion_local_is_local_of_any_tier_lowest_first() -> None:
    models = [model("paid", 1), model("big", 3, local=True), model("mid", 2, local=True)]
    assert chosen(ask(models, "aion-local", tier=3)) == "mid"
    assert chosen(ask(models, "aion-local", down=["mid"])) == "big"
    assert refused(ask(models, "aion-local", down=["mid", "big"])) == (503, "no_healthy_model")
    assert refused(ask([model("paid", 1)], "aion-local")) == (404, "no_local_model")


def test_aion_escalate_is_tier_three_or_nothing() -> None:
    assert chosen(ask(THREE, "aion-escalate", tier=1)) == "large"
    assert refused(ask(THREE[:2], "aion-escalate")) == (404, "no_tier3_model")
    assert refused(ask(THREE, "aion-escalate", down=["large"])) == (503, "no_healthy_model")


def test_a_named_model_is_used_whatever_the_tier() -> None:
    answer = ask(THREE, "large", tier=1)
    assert chosen(answer) == "large"
    assert isinstance(answer, Decision)
    assert (answer.tier, answer.wanted_tier, answer.reason) == (3, None, "model named by the client")


def test_a_named_model_is_asked_even_when_it_is_down() -> None:
    answer = ask(THREE, "large", down=["large"])
    assert not isinstance(answer, NoRoute)
    assert answer.model.id == "large"


def test_a_named_model_at_two_providers_goes_to_the_cheaper_healthy_one() -> None:
    models = [model("m", 1, 9, provider="dear"), model("m", 1, 3, provider="cheap")]
    answer = ask(models, "m")
    assert isinstance(answer, Decision)
    assert [attempt.model.provider for attempt in answer.attempts] == ["cheap", "dear"]
    answer = ask(models, "dear/m")
    assert isinstance(answer, Decision)
    assert answer.model.provider == "dear"


def test_an_unknown_model_gets_names_like_it() -> None:
    answer = ask(THREE, "smal")
    assert refused(answer) == (404, "model_not_found")
    assert isinstance(answer, NoRoute)
    assert answer.near[0] == "small"
    assert "did you mean small" in answer.message
    long = ask(THREE, "\n" + "x" * 100_000)
    assert isinstance(long, NoRoute)
    assert len(long.message) < 200
    assert "\n" not in long.message


def test_within_a_tier_the_client_s_own_api_comes_first() -> None:
    models = [model("chat", 1, 1, endpoints=[CHAT]), model("messages", 1, 5, endpoints=[MESSAGES])]
    answer = ask(models, endpoint=MESSAGES)
    assert isinstance(answer, Decision)
    assert [attempt.model.id for attempt in answer.attempts] == ["messages", "chat"]
    assert chosen(ask(models, endpoint=CHAT)) == "chat"
    assert chosen(ask(models, endpoint=MESSAGES, prefer_native=False)) == "chat"
    assert chosen(ask(models, endpoint=MESSAGES, down=["messages"])) == "chat"
    # Tokens are counted by the model that the request itself will go to.
    assert chosen(ask(models, endpoint=Endpoint.COUNT_TOKENS)) == "messages"


def test_a_tier_of_the_other_api_is_no_reason_to_go_up() -> None:
    models = [model("chat", 1, 1, endpoints=[CHAT]), model("messages", 2, 5, endpoints=[MESSAGES])]
    assert chosen(ask(models, endpoint=MESSAGES)) == "chat"


def test_a_model_that_cannot_take_the_request_is_passed_over() -> None:
    assert chosen(ask(THREE, excluded=["small"])) == "middle"
    assert refused(ask(THREE, "small", excluded=["small"]))[0] == 400


@pytest.mark.parametrize("asked", ["aion-auto", "aion-escalate", "o"])
def test_an_endpoint_that_nobody_has(asked: str) -> None:
    answer = ask([model("o", 3)], asked, endpoint=Endpoint.RESPONSES)
    assert refused(answer) == (400, "endpoint_not_available")
    assert isinstance(answer, NoRoute)
    assert "p/o" in answer.message
    assert "responses" in answer.message


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.COMPLETIONS])
def test_models_that_do_not_stand_for_one_another_must_be_named(endpoint: Endpoint) -> None:
    models = [model("e", 1, endpoints=[endpoint])]
    assert refused(ask(models, "aion-auto", endpoint=endpoint)) == (400, "model_required")
    answer = ask(models, "e", endpoint=endpoint)
    assert chosen(answer) == "e"
    assert isinstance(answer, Decision)
    assert (answer.expected.output_tokens == 0) == (endpoint is Endpoint.EMBEDDINGS)


def test_the_window_must_hold_input_and_answer() -> None:
    models = [model("narrow", 1, 1, window=1000), model("wide", 1, 5, window=2000)]
    assert chosen(ask(models, tokens=500, max_tokens=500)) == "narrow"
    assert chosen(ask(models, tokens=501, max_tokens=500)) == "wide"
    assert chosen(ask([*models, model("unknown", 1, 9)], tokens=10**6)) == "unknown"


def test_too_long_for_a_tier_goes_elsewhere_too_long_for_all_is_said() -> None:
    models = [model("small", 1, window=9000), model("large", 3, window=1000)]
    assert chosen(ask(models, tier=3, tokens=5000)) == "small"
    for asked in ("aion-auto", "small"):
        answer = ask(models, asked, tokens=9001)
        assert refused(answer) == (400, "context_length_exceeded")
        assert isinstance(answer, NoRoute)
        assert "9001" in answer.message
        assert "9000" in answer.message
    assert refused(ask(models, "aion-escalate", tokens=5000)) == (400, "context_length_exceeded")


def test_with_no_models_at_all() -> None:
    assert refused(ask([])) == (503, "no_models")


def test_expected_cost_and_savings() -> None:
    models = [model("small", 1, 1000), model("large", 3, 20_000), model("unknown", 2, None)]
    answer = ask(models, tokens=300, max_tokens=4096)
    assert isinstance(answer, Decision)
    assert answer.expected == Usage(input_tokens=300, output_tokens=500)
    assert (answer.expected_cost_nano, answer.baseline_nano, answer.baseline_model) == (800, 16_000, "large")
    assert answer.expected_savings_nano == 15_200
    answer = ask(models, tokens=300, max_tokens=20)
    assert isinstance(answer, Decision)
    assert answer.expected.output_tokens == 20
    answer = ask(models, "unknown")
    assert isinstance(answer, Decision)
    assert (answer.expected_cost_nano, answer.expected_savings_nano) == (None, None)


def test_one_request_at_a_time_tries_a_model_that_comes_back() -> None:
    tables, health = Tables(Catalog(THREE)), Health()
    fail(health, "p", "small")
    wanted = Wanted("aion-auto", CHAT, 1, 10)

    def go(now: float) -> str:
        name = chosen(route(tables, wanted, health, now, STRATEGIES["cheapest"]))
        health.begin("p", name, now)
        return name

    assert [go(29.0), go(30.0), go(30.1)] == ["middle", "small", "middle"]
    health.report(Observation("p", "small", True), 31.0)
    assert [go(31.1), go(31.2)] == ["small", "small"]


# --- who stands by


def test_the_chain_is_the_tier_and_then_the_tiers_above() -> None:
    models = [model("large", 3, 20), model("dear", 1, 9), model("middle", 2, 5), model("cheap", 1, 2)]
    assert tried(ask(models)) == ["cheap", "dear", "middle", "large"]
    assert tried(ask(models, tier=2)) == ["middle", "large"]
    assert tried(ask(models, down=["dear"])) == ["cheap", "middle", "large"]
    assert tried(ask([*models, model("fifth", 3, 30)])) == ["cheap", "dear", "middle", "large"]


def test_without_fallback_there_is_one_attempt() -> None:
    models = [model("cheap", 1, 2), model("dear", 1, 9), model("m", 2, provider="a"), model("m", 2, provider="b")]
    for asked in ("aion-auto", "m"):
        answer = ask(models, asked, fallback=False)
        assert isinstance(answer, Decision)
        assert len(answer.attempts) == 1


def test_nobody_below_tier_three_stands_by_for_it() -> None:
    models = [*THREE, model("other", 3, 30)]
    assert tried(ask(models, "aion-escalate")) == ["large", "other"]


def test_another_provider_stands_by_for_a_named_model_and_no_other_model() -> None:
    models = [model("m", 1, 3, provider="a"), model("m", 1, 4, provider="b"), model("n", 1, 1, provider="a")]
    answer = ask(models, "m")
    assert isinstance(answer, Decision)
    assert [attempt.model.provider for attempt in answer.attempts] == ["a", "b"]
    assert tried(answer) == ["m", "m"]


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.COMPLETIONS])
def test_another_provider_of_the_same_model_stands_by_for_vectors(endpoint: Endpoint) -> None:
    models = [model("e", 0, 3, provider=name, endpoints=[endpoint]) for name in "ab"]
    assert tried(ask([*models, model("f", 0, endpoints=[endpoint])], "e", endpoint=endpoint)) == ["e", "e"]


def test_who_answers_badly_comes_last_in_its_tier_and_before_the_next() -> None:
    models = [model("cheap", 1, 1), model("dear", 1, 9), model("middle", 2, 5)]
    assert tried(ask(models, slow={"cheap": 30.0})) == ["dear", "cheap", "middle"]
    # Even before what must be translated: a translation that answers is better than none.
    models = [model("native", 1, 1, endpoints=[CHAT]), model("foreign", 1, 9, endpoints=[MESSAGES])]
    assert tried(ask(models, slow={"native": 30.0})) == ["foreign", "native"]
    assert tried(ask(models, slow={"native": 30.0, "foreign": 30.0})) == ["native", "foreign"]


def test_who_cannot_stand_by_may_still_be_first() -> None:
    models = [model("cheap", 1, 1, provider="vertex"), model("dear", 1, 9), model("dearest", 1, 10, provider="vertex")]
    assert tried(ask(models, only_first=["vertex"])) == ["cheap", "dear"]
    assert tried(ask(models, only_first=["vertex"], down=["cheap"])) == ["dear"]
    # It takes no place in the chain either.
    many = [model("first", 1, 1), *(model(f"v{i}", 1, 2, provider="vertex") for i in range(9)), *THREE]
    assert tried(ask(many, only_first=["vertex"])) == ["first", "small", "middle", "large"]


def test_each_attempt_has_its_own_cost_and_savings() -> None:
    models = [model("small", 1, 1000), model("unknown", 1, None), model("large", 3, 20_000)]
    answer = ask(models, tokens=300)
    assert isinstance(answer, Decision)
    assert [(a.model.id, a.expected_cost_nano, a.expected_savings_nano) for a in answer.attempts] == [
        ("small", 800, 15_200),
        ("unknown", None, None),
        ("large", 16_000, 0),
    ]


SOME = st.lists(
    st.builds(
        model,
        st.sampled_from(["a", "b", "c", "d", "e", "f"]),
        st.integers(1, 3),
        st.none() | st.integers(0, 50),
        local=st.booleans(),
        window=st.none() | st.integers(1, 400),
        endpoints=st.sampled_from([[CHAT], [MESSAGES], BOTH, [CHAT, Endpoint.RESPONSES], [Endpoint.EMBEDDINGS]]),
    ),
    max_size=6,
    unique_by=lambda m: m.id,
)


@settings(deadline=None)
@given(
    SOME,
    st.integers(1, 3),
    st.sampled_from([CHAT, MESSAGES, Endpoint.COUNT_TOKENS, Endpoint.RESPONSES]),
    st.integers(0, 300),
    st.none() | st.integers(1, 300),
    st.booleans(),
    st.sampled_from(sorted(STRATEGIES)),
    st.none() | st.builds(Warm, st.just("p"), st.sampled_from(["a", "b", "c", "z"]), st.integers(1, 500)),
    st.data(),
)
def test_whatever_is_configured_the_choice_can_serve(
    models: list[Model],
    tier: int,
    endpoint: Endpoint,
    tokens: int,
    limit: int | None,
    fallback: bool,
    strategy: str,
    warm: Warm | None,
    data: st.DataObject,
) -> None:
    ids = [m.id for m in models]
    down = data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
    asked = data.draw(st.sampled_from(["aion-auto", "aion-local", "aion-escalate", *ids]))
    answer = ask(
        models, asked, tier, endpoint=endpoint, tokens=tokens, max_tokens=limit, down=down, strategy=strategy,
        fallback=fallback, warm=warm,
    )  # fmt: skip

    def can(m: Model) -> bool:
        return serves(m, endpoint) and (m.context_window is None or tokens + (limit or 0) <= m.context_window)

    able = [
        m
        for m in models
        if can(m)
        and (
            asked in ("aion-auto", m.id)
            or (m.local if asked == "aion-local" else asked == "aion-escalate" and m.tier == 3)
        )
    ]
    if isinstance(answer, NoRoute):
        assert answer.status == (503 if able or not models else answer.status)
        assert not able or answer.code == "no_healthy_model"
        assert (answer.retry_after is not None) == (answer.code == "no_healthy_model")
        return
    assert 1 <= len(answer.attempts) <= (MAX_ATTEMPTS if fallback else 1)
    assert len({attempt.model for attempt in answer.attempts}) == len(answer.attempts)
    for attempt in answer.attempts:
        assert attempt.model in able
        # One asked for by name is tried even when it is down: nobody else can stand in for it.
        assert attempt.model.id not in down or (asked in ids and all(m.id in down for m in able))
    assert answer.reason.isascii()
    if warm is not None and "kept" in answer.reason:
        assert answer.model.id == warm.model
        assert asked != "aion-auto" or answer.tier >= min(tier, max(m.tier for m in able))
        return
    if asked == "aion-auto":
        if answer.tier >= tier:  # within a chain only up, but for a laptop's one model
            tiers = [attempt.model.tier for attempt in answer.attempts]
            assert tiers == sorted(tiers)
        up_here = [m for m in able if m.tier == tier and m.id not in down]
        assert not up_here or answer.tier == tier
        # Down only where nobody who can is at the tier or above.
        assert answer.tier >= tier or not any(m.tier >= tier for m in able)
        here = [m for m in able if m.tier == answer.tier and m.id not in down]
        native = [m for m in here if is_native(m, endpoint)]
        assert not native or answer.model in native
        if strategy == "cheapest" and any(m.local for m in native or here):
            assert answer.model.local
