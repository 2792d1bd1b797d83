"""Pinned chains and sessions as they stand in aion.yaml: what is said of mistakes, and what routing gets of it."""

from __future__ import annotations

import pytest

from aion_extproc.catalog.build import build
from aion_extproc.config.load import loads
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.policy import Policy, make_policy
from aion_extproc.routing.decision import Decision, Wanted
from aion_extproc.routing.route import route
from aion_extproc.routing.sessions import Rules
from aion_extproc.wire.endpoint import Endpoint
from tests.support.exchanges import CLASSIFIER
from tests.unit.test_config_errors import errors

PROVIDERS = """
providers:
  openai:
    api_key: k
    models: [{id: gpt-small, tier: 1}, {id: gpt-large, tier: 3}, {id: embed, mode: embedding}]
  other: {kind: openai, api_key: k, base_url: 'https://x.example', models: [{id: gpt-large, tier: 3}]}
  off: {kind: openai, enabled: false, models: [{id: switched-off, tier: 2}]}
  cloud: {kind: vertex, project: p, region: global, models: [{id: claude, tier: 1}]}
routing:
"""
CHAIN = PROVIDERS + "  chains:\n    - match: {MATCH}\n      steps: [STEPS]\n"


def chain(match: str = "tier: 1", steps: str = "{model: gpt-small}") -> str:
    return CHAIN.replace("MATCH", match).replace("STEPS", steps)


def policy_of(text: str) -> Policy:
    """From settings that have been JSON in between, as a worker's have."""
    settings = loads(text, "x", {})
    again = Settings.model_validate(settings.model_dump(mode="json", exclude_defaults=True))
    assert again.routing == settings.routing
    return make_policy(again, build(again), CLASSIFIER)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (
            chain(steps="{model: gpt-smal}"),
            "steps[0].model",
            'no model is called "gpt-smal"; did you mean "gpt-small"?',
        ),
        (
            chain(steps="{model: gpt-small}, {model: gpt-small, provider: other}"),
            "steps[1].model",
            'no model of other is called "gpt-small"; did you mean "gpt-large"?',
        ),
        (
            chain(steps="{model: gpt-small, provider: opnai}"),
            "steps[0].provider",
            'no provider is called "opnai"; did you mean "openai"?',
        ),
        (chain(steps="{model: embed}"), "steps[0].model", "only chat models stand in for one another"),
        (chain(steps="{model: aion-auto}"), "steps[0].model", 'no model is called "aion-auto"; there are gpt-small, '),
        (chain("model: aion-aut"), "match.model", 'no model is called "aion-aut"; did you mean "aion-auto"?'),
        (chain("model: qqq"), "match.model", 'no model is called "qqq"; there are aion-auto, '),
        (chain(""), "match", "needs a model, a tier or both"),
        (
            chain("model: gpt-small, tier: 1"),
            "match.tier",
            "only requests for aion-auto have a tier of their own; remove it",
        ),
        (chain("tier: 4"), "match.tier", "must be less than or equal to 3"),
        (chain(steps=""), "steps", "must have 1 to 4 steps"),
        (chain(steps=", ".join(["{model: gpt-small}"] * 5)), "steps", "must have 1 to 4 steps"),
        (chain(steps="{model: gpt-small}, {model: gpt-small}"), "steps[1].model", "this step is there twice; drop one"),
        (chain(steps="{model: gpt-small, max_cost: 1}"), "steps[0].max_cost", 'did you mean "max_cost_usd"?'),
        (chain(steps="{model: gpt-small, max_cost_usd: 0}"), "steps[0].max_cost_usd", "must be more than zero"),
        (chain(steps="{model: gpt-small, max_cost_usd: cheap}"), "steps[0].max_cost_usd", "must be an amount in USD"),
        (
            chain(steps="{model: gpt-small, max_cost_usd: 0.0000000001}"),
            "steps[0].max_cost_usd",
            "has more than 9 decimals",
        ),
        (chain(steps="{model: gpt-small, max_first_byte: fast}"), "steps[0].max_first_byte", "must be a duration"),
    ],
)
def test_a_chain_that_cannot_be_is_refused(text: str, place: str, message: str) -> None:
    (error,) = errors(text)
    assert f": routing.chains[0].{place}: " in error
    assert message in error


@pytest.mark.parametrize(
    ("written", "place", "message"),
    [
        ("hysteresis: 0.6", "hysteresis", "must be less than or equal to 0.5"),
        ("cache_lifetime: -1s", "cache_lifetime", "must be a duration"),
        ("regeneration: -5", "regeneration", "must be shorter than a year, and not negative"),
        ("expire_after: 0", "expire_after", "must be longer than zero and shorter than a year"),
        ("histeresis: 0.1", "histeresis", 'did you mean "hysteresis"?'),
    ],
)
def test_sessions_that_cannot_be_are_refused(written: str, place: str, message: str) -> None:
    (error,) = errors(f"routing:\n  sessions: {{{written}}}\n")
    assert f": routing.sessions.{place}: " in error
    assert message in error


@pytest.mark.parametrize(
    ("written", "place", "message"),
    [
        ("extracton: {max_tier: 1}", "extracton", 'no task is called "extracton"; did you mean "extraction"?'),
        ("chat: {max_tier: 4}", "chat.max_tier", "must be less than or equal to 3"),
        ("code: {min_tier: 3, max_tier: 2}", "code.min_tier", "must not be above max_tier"),
        ("code: {least: 3}", "code.least", "unknown key"),
    ],
)
def test_tiers_of_tasks_that_cannot_be_are_refused(written: str, place: str, message: str) -> None:
    (error,) = errors(f"routing:\n  tasks: {{{written}}}\n")
    assert f": routing.tasks.{place}: " in error
    assert message in error


def test_a_chain_may_name_what_is_switched_off_and_what_a_client_may_write() -> None:
    policy = policy_of(chain("model: other/gpt-large", "{model: switched-off}, {model: gpt-small, max_cost_usd: 0.5}"))
    (pinned,) = policy.tables.chains
    assert (pinned.asked, pinned.tier) == ("other/gpt-large", None)
    assert [[model.id for model in step.models] for step in pinned.steps] == [[], ["gpt-small"]]
    assert pinned.steps[1].max_cost_nano == 500_000_000


def attempts(policy: Policy, tier: int) -> list[tuple[str, str]]:
    wanted = Wanted("aion-auto", Endpoint.CHAT, tier, 100)
    decision = route(policy.tables, wanted, policy.health, 1.0, policy.strategy)
    assert isinstance(decision, Decision)
    return [(attempt.model.provider, attempt.model.id) for attempt in decision.attempts]


def test_a_chain_decides_where_its_requests_go() -> None:
    both = "{model: gpt-large, provider: other, max_first_byte: 2s}, {model: gpt-large}"
    policy = policy_of(chain("model: aion-auto, tier: 1", both))
    assert attempts(policy, 1) == [("other", "gpt-large"), ("openai", "gpt-large")]
    assert attempts(policy, 2) == [("openai", "gpt-large"), ("other", "gpt-large")]


def test_a_keyless_vertex_does_not_stand_by() -> None:
    config = PROVIDERS.replace("tier: 1}, {id: gpt-large", "tier: 2}, {id: gpt-large")
    assert attempts(policy_of(config + "  strategy: cheapest\n"), 1)[0] == ("cloud", "claude")
    pinned = chain("tier: 2", "{model: gpt-small}, {model: claude}")
    assert attempts(policy_of(pinned), 2) == [("openai", "gpt-small")]
    keyed = pinned.replace("kind: vertex,", "kind: vertex, api_key: t,")
    assert attempts(policy_of(keyed), 2) == [("openai", "gpt-small"), ("cloud", "claude")]


def test_the_rules_of_sessions() -> None:
    written = "  sessions: {hysteresis: 0.1, cache_lifetime: 0, regeneration: 2m, expire_after: 30s}\n"
    policy = policy_of(PROVIDERS + written)
    assert policy.session_rules == Rules(0.1, 0.0, 120.0)
    assert policy.sessions.expire_after == 30.0
    assert policy_of(PROVIDERS + "  strategy: cheapest\n").session_rules == Rules()
    assert loads("{}", "x", {}) == Settings()
