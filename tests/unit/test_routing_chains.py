"""Chains that the configuration pins."""

from __future__ import annotations

from collections.abc import Iterable

from aion_extproc.catalog.model import Model
from aion_extproc.routing.chains import PinnedChain, PinnedStep
from aion_extproc.routing.decision import Decision, Warm
from aion_extproc.wire.endpoint import Endpoint
from tests.support.routing import PAIR, THREE, ask, cached, model, reason, refused, tried


def chain(*steps: PinnedStep, asked: str | None = "aion-auto", tier: int | None = None) -> PinnedChain:
    return PinnedChain(1, asked, tier, steps)


SMALL, MIDDLE, LARGE = THREE


def step(*models: Model, cost: int | None = None, first_byte: float | None = None) -> PinnedStep:
    return PinnedStep(models, cost, first_byte)


def test_a_pinned_chain_is_tried_as_written() -> None:
    pinned = chain(step(LARGE), step(SMALL), tier=1)
    answer = ask(THREE, chains=[pinned])
    assert (tried(answer), reason(answer)) == (["large", "small"], "tier 1, chain 1")
    assert isinstance(answer, Decision)
    assert (answer.tier, answer.wanted_tier, answer.first_byte_timeout) == (3, 1, None)
    assert tried(ask(THREE, tier=2, chains=[pinned])) == ["middle", "large"]
    assert tried(ask(THREE, "aion-escalate", chains=[pinned])) == ["large"]
    assert tried(ask(THREE, chains=[pinned], fallback=False)) == ["large"]
    assert tried(ask(THREE, chains=[pinned], warm=Warm("p", "small", 90))) == ["large", "small"]


def test_the_first_chain_that_fits_counts() -> None:
    first = PinnedChain(1, "aion-auto", 3, (step(SMALL),))
    second = PinnedChain(2, None, 3, (step(MIDDLE),))
    third = PinnedChain(3, "large", None, (step(MIDDLE), step(LARGE)))
    chains = [first, second, third]
    assert tried(ask(THREE, tier=3, chains=chains)) == ["small"]
    assert tried(ask(THREE, "aion-escalate", chains=chains)) == ["middle"]
    answer = ask(THREE, "large", tier=3, chains=chains)
    assert (tried(answer), reason(answer)) == (["middle", "large"], "model named by the client, chain 3")
    assert refused(ask(THREE, "aion-local", tier=3, chains=chains)) == (404, "no_local_model")
    assert tried(ask(THREE, "small", tier=3, chains=chains)) == ["small"]


def test_a_step_that_cannot_serve_or_is_ill_is_left_out() -> None:
    other = model("other", 1, endpoints=[Endpoint.EMBEDDINGS])
    narrow = model("narrow", 1, window=10)
    pinned = chain(step(other), step(narrow), step(), step(LARGE), step(SMALL))
    models = [*THREE, other, narrow]
    assert tried(ask(models, chains=[pinned])) == ["large", "small"]
    assert tried(ask(models, chains=[pinned], down=["large"])) == ["small"]
    assert tried(ask(models, chains=[pinned], excluded=["large"])) == ["small"]


def test_where_no_step_is_left_the_usual_happens_and_it_is_said() -> None:
    answer = ask(THREE, chains=[chain(step(LARGE))], down=["large"])
    assert (tried(answer), reason(answer)) == (["small", "middle"], "tier 1, no step of chain 1 will do")
    answer = ask(THREE, "small", chains=[chain(step(LARGE), asked="small")], down=["large"])
    assert (tried(answer), reason(answer)) == (
        ["small"],
        "model named by the client, no step of chain 1 will do",
    )


def test_a_step_is_left_out_where_the_request_would_cost_more_than_it_may() -> None:
    models = [model("small", 1, 1000), model("large", 3, 20_000), model("unknown", 1, None)]
    # 300 + 500 tokens: 16,000 nano-dollars at the large one.
    for cost, expected in ((16_000, ["large", "small"]), (15_999, ["small"])):
        pinned = chain(step(models[1], cost=cost), step(models[2], cost=10**9), step(models[0]))
        assert tried(ask(models, tokens=300, chains=[pinned])) == expected
    pinned = chain(step(cached("dear", 1, 20, 2), cost=60), step(PAIR[0]))
    assert tried(ask(PAIR, tokens=10_000, max_tokens=100, chains=[pinned])) == ["cheap"]
    kept = ask(PAIR, tokens=10_000, max_tokens=100, chains=[pinned], warm=Warm("p", "dear", 8_000))
    assert tried(kept) == ["dear", "cheap"]


def test_a_step_is_left_out_where_its_first_byte_takes_longer_than_it_may() -> None:
    pinned = chain(step(SMALL, first_byte=2.0), step(LARGE))
    assert tried(ask(THREE, chains=[pinned])) == ["small", "large"]
    assert tried(ask(THREE, chains=[pinned], slow={"small": 1.0})) == ["small", "large"]
    assert tried(ask(THREE, chains=[pinned], slow={"small": 5.0})) == ["large"]


def test_the_wait_for_the_first_byte_is_the_longest_of_the_steps_if_each_has_one() -> None:
    def wait(*limits: float | None, down: Iterable[str] = (), fallback: bool = True) -> float | None:
        steps = [step(m, first_byte=limit) for m, limit in zip(THREE, limits, strict=True)]
        answer = ask(THREE, chains=[chain(*steps)], down=down, fallback=fallback)
        assert isinstance(answer, Decision)
        return answer.first_byte_timeout

    assert wait(1.0, 4.0, 2.0) == 4.0
    assert wait(1.0, None, 2.0) is None
    assert wait(1.0, None, 2.0, down=["middle"]) == 2.0
    assert wait(1.0, 4.0, None, fallback=False) == 1.0


def test_a_step_without_a_provider_takes_the_best_that_is_left() -> None:
    a, b = model("m", 1, 9, provider="a"), model("m", 1, 3, provider="b")
    for asked in ("aion-auto", "m"):
        answer = ask([a, b, *THREE], asked, chains=[chain(step(a, b), step(a, b), step(b), asked=asked)])
        assert isinstance(answer, Decision)
        assert [attempt.model.provider for attempt in answer.attempts] == ["b", "a"]


def test_a_provider_that_cannot_stand_by_is_only_the_first_step() -> None:
    vertex = model("v", 1, provider="vertex")
    models = [*THREE, vertex]
    assert tried(ask(models, chains=[chain(step(vertex), step(SMALL))], only_first=["vertex"])) == ["v", "small"]
    assert tried(ask(models, chains=[chain(step(SMALL), step(vertex))], only_first=["vertex"])) == ["small"]
    second = chain(step(SMALL), step(vertex), step(LARGE))
    assert tried(ask(models, chains=[second], only_first=["vertex"], down=["small"])) == ["v", "large"]


def test_a_chain_does_not_bring_vectors_of_another_model() -> None:
    embeds = [model(name, 0, endpoints=[Endpoint.EMBEDDINGS]) for name in "ab"]
    pinned = chain(step(embeds[1]), asked="a")
    assert tried(ask(embeds, "a", endpoint=Endpoint.EMBEDDINGS, chains=[pinned])) == ["a"]
