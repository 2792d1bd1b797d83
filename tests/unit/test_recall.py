"""A conversation over several requests: what the gateway recalls of it for the next one, with real classifications."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from aion_extproc.accounting.row import LedgerRow, Outcome
from aion_extproc.accounting.usage import Usage
from aion_extproc.extproc.callers import ANYBODY
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.recall import Recalled, recall, remember_answer, remember_decision
from aion_extproc.routing.decision import Decision, Wanted, Warm
from aion_extproc.routing.route import route
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.reading import conversation, estimate_input_tokens
from aion_extproc.wire.request import Request, parse
from tests.support.exchanges import policy

HARD = "refactor this package to use asyncpg"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


class Talk:
    """One client at one worker."""

    def __init__(self, tasks: dict[str, Any] | None = None, **sessions: Any) -> None:
        rules = {"regeneration": "60s", "cache_lifetime": "5m", **sessions}
        self.policy: Policy = policy(routing={"sessions": rules, "tasks": tasks or {}})
        self.now = 1000.0

    def ask(
        self, *messages: dict[str, str], endpoint: Endpoint = Endpoint.CHAT, model: str = "aion-auto"
    ) -> tuple[Recalled, Decision]:
        """What the exchange does with a request, but for sending it."""
        self.now += 1
        body = {"model": model, "messages": messages, "max_tokens": 100}
        request: Request = parse(orjson.dumps(body), endpoint)
        policy, tokens = self.policy, estimate_input_tokens(request)
        classification = policy.classifier.classify(conversation(request)) if model == "aion-auto" else None
        known = recall(policy, {}, request, ANYBODY, classification, self.now)
        wanted = Wanted(model, endpoint, known.tier, tokens, 100, why=known.why, warm=known.warm)
        decision = route(policy.tables, wanted, policy.health, self.now, policy.strategy)
        assert isinstance(decision, Decision)
        remember_decision(policy, known, decision.model, tokens, self.now)
        return known, decision

    def answer(
        self,
        known: Recalled,
        usage: Usage,
        provider: str = "openai",
        model: str = "gpt-small",
        outcome: Outcome = "served",
        ttl: str = "",
    ) -> None:
        self.now += 1
        row = LedgerRow("id", 1, outcome, 200, provider=provider, model=model, usage=usage)
        remember_answer(self.policy, known.mark, ttl, row, self.now)


def test_a_conversation_of_classified_turns() -> None:
    talk = Talk()
    known, decision = talk.ask(user("hello"))
    assert (decision.model.id, known.why, known.warm) == ("gpt-small", "", None)
    talk.answer(known, Usage(input_tokens=50))
    known, decision = talk.ask(user("hello"))
    assert (decision.model.id, decision.reason) == ("gpt-mid", "tier 2, asked again")
    # "refactor this package" is a floor just above the threshold: no hysteresis holds it back.
    known, decision = talk.ask(user("hello"), said("Hello!"), user(HARD))
    assert (known.tier, known.why, decision.model.tier) == (3, "", 3)


def test_a_task_has_the_tiers_that_it_may_have() -> None:
    talk = Talk({"chat": {"min_tier": 2}, "reasoning": {"max_tier": 1}})
    known, decision = talk.ask(user("hello"))
    assert (decision.model.tier, decision.reason) == (2, "tier 2, chat has at least tier 2")
    known, decision = talk.ask(user("prove that there are infinitely many primes"))
    assert (decision.model.tier, decision.reason) == (1, "tier 1, reasoning has at most tier 1")
    talk.answer(known, Usage(input_tokens=50))
    known, decision = talk.ask(user("prove that there are infinitely many primes"))
    assert (decision.model.tier, known.why) == (2, "asked again")


@pytest.mark.parametrize("outcome", ["cut", "failed", "refused"])
def test_only_a_whole_answer_is_an_answer(outcome: Outcome) -> None:
    talk = Talk()
    known, _ = talk.ask(user("hello"))
    talk.answer(known, Usage(input_tokens=50), outcome=outcome)
    known, _ = talk.ask(user("hello"))
    assert (known.tier, known.warm) == (1, None)


def test_the_one_who_served_counts_not_the_one_who_was_chosen() -> None:
    talk = Talk()
    known, _ = talk.ask(user("hello"))
    talk.answer(known, Usage(input_tokens=70), "openai", "gpt-mid")
    known, _ = talk.ask(user("hello"), said("Hello!"), user("thanks"))
    assert known.warm == Warm("openai", "gpt-mid", 70)


@pytest.mark.parametrize(
    ("provider", "model", "usage", "tokens"),
    [
        ("anthropic", "claude-small", Usage(1000, cache_read_tokens=700, cache_write_tokens=200), 900),
        ("anthropic", "claude-small", Usage(1000), None),  # the client has marked nothing
        ("openai", "gpt-small", Usage(1000, cache_read_tokens=700), 1000),
        ("openai", "gpt-small", Usage(1000), 1000),
    ],
)
def test_what_is_cached_is_what_the_provider_says(provider: str, model: str, usage: Usage, tokens: int | None) -> None:
    talk = Talk()
    known, _ = talk.ask(user("hello"))
    talk.answer(known, usage, provider, model)
    known, _ = talk.ask(user("hello"), said("Hello!"), user("thanks"))
    assert known.warm == (None if tokens is None else Warm(provider, model, tokens))


@pytest.mark.parametrize(
    ("ttl", "lifetime", "seconds"), [("", "5m", 300), ("mixed", "5m", 300), ("1h", "5m", 3600), ("1h", 0, 0)]
)
def test_a_cache_lasts_as_long_as_the_request_has_asked_for(ttl: str, lifetime: str | int, seconds: int) -> None:
    talk = Talk(cache_lifetime=lifetime, expire_after="2h")
    known, _ = talk.ask(user("hello"))
    talk.answer(known, Usage(input_tokens=1000, cache_read_tokens=900), ttl=ttl)
    answered = talk.now
    for seconds_later, there in ((seconds - 2, True), (seconds, False)):
        if seconds_later < 0:
            continue
        talk.now = answered + seconds_later
        known, _ = talk.ask(user("hello"))  # the same turn, so that nothing but the answer counts
        assert (known.warm is not None) is there


def test_counting_tokens_is_no_turn() -> None:
    talk = Talk()
    known, _ = talk.ask(user("hello"), endpoint=Endpoint.MESSAGES)
    talk.answer(known, Usage(input_tokens=50), "anthropic", "claude-small")
    for _ in range(5):
        known, decision = talk.ask(user("hello"), endpoint=Endpoint.COUNT_TOKENS)
        assert known.mark == ""
        assert decision.tier == 2  # where the request itself would go now
    known, _ = talk.ask(user("hello"), endpoint=Endpoint.MESSAGES)
    assert (known.tier, known.judged and known.judged.sent) == (2, 2)


def test_a_model_by_its_name_is_remembered_and_never_raised() -> None:
    talk = Talk()
    for _ in range(3):
        known, decision = talk.ask(user("hello"), model="gpt-small")
        assert decision.model.id == "gpt-small"
        talk.answer(known, Usage(input_tokens=50))
    assert known.warm == Warm("openai", "gpt-small", 50)


def test_an_answer_of_a_model_that_is_gone_is_passed_over() -> None:
    talk = Talk()
    known, _ = talk.ask(user("hello"))
    talk.answer(known, Usage(input_tokens=50), "openai", "gone")
    assert talk.ask(user("hello"))[0].warm is None


def test_without_a_conversation_nothing_is_remembered() -> None:
    talk = Talk()
    request = parse(orjson.dumps({"model": "e", "input": "hello"}), Endpoint.EMBEDDINGS)
    known = recall(talk.policy, {}, request, ANYBODY, None, 1.0)
    assert (known.tier, known.mark) == (1, "")
    remember_decision(talk.policy, known, talk.policy.catalog.models[0], 1, 1.0)
    talk.answer(known, Usage(input_tokens=1))
    assert len(talk.policy.sessions) == 0
