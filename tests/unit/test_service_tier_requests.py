"""A service tier on its way: from the request to what is reserved, and from the answer to its price."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from aion_extproc.accounting.cost import cost_nano, upper_nano, usd
from aion_extproc.accounting.facts import decode, decode_usage
from aion_extproc.accounting.usage import Usage
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import Proceed, Refuse, Reserve
from aion_extproc.extproc.response_exchange import ResponseExchange
from tests.support.exchanges import MESSAGES_PATH, body, exchange, facts_of, headers, policy_of, proceeds, providers
from tests.unit.test_attempt_exchange import later, served_of

JSON_ANSWER = {":status": "200", "content-type": "application/json"}
TIERS = {
    "flex": {"input_price_per_1m": "0.1", "output_price_per_1m": "0.2"},
    "priority": {"input_price_per_1m": "100", "output_price_per_1m": "200"},
}
KEY = {"key": "secret", "name": "ci", "budget": {"daily_limit_usd": "1000"}}


def configured(**sections: Any) -> Policy:
    config = providers(**sections)
    (small, *_) = config["providers"]["openai"]["models"]
    small["service_tiers"] = TIERS
    return policy_of(config)


POLICY = configured()
BUDGETED = configured(auth={"keys": [KEY]})
SMALL = "gpt-small"


@pytest.mark.parametrize(
    ("path", "asked", "tier"),
    [
        ("/v1/chat/completions", {"service_tier": "flex"}, "flex"),
        ("/v1/chat/completions", {"service_tier": "default"}, ""),
        ("/v1/chat/completions", {}, ""),
        (MESSAGES_PATH, {"service_tier": "auto", "max_tokens": 5}, ""),
        (MESSAGES_PATH, {"speed": "fast", "max_tokens": 5}, ""),  # nothing of it reaches this model
    ],
)
def test_a_request_takes_its_tier_along(path: str, asked: dict[str, Any], tier: str) -> None:
    assert facts_of(proceeds(POLICY, headers(path), body(model=SMALL, **asked))).service_tier == tier
    claude = proceeds(POLICY, headers(), body(model="claude-small", service_tier="flex"))
    assert facts_of(claude).service_tier == ""


@pytest.mark.parametrize(
    ("asked", "said", "billed"),
    [("flex", "flex", "flex"), ("priority", "default", ""), ("flex", None, "flex"), ("auto", "priority", "priority")],
)
def test_the_header_has_the_price_of_the_tier_that_served_it(asked: str, said: str | None, billed: str) -> None:
    facts = facts_of(proceeds(POLICY, headers(), body(model=SMALL, service_tier=asked)))
    script = ResponseExchange(POLICY, facts)
    script.headers(JSON_ANSWER, False)
    answer = {"usage": {"prompt_tokens": 1000, "completion_tokens": 10}, "service_tier": said}
    amend = script.body(orjson.dumps(answer), True)
    model = POLICY.catalog.model("openai", SMALL)
    assert model is not None
    prices = model.prices_at(billed)
    assert prices is not None
    assert dict(amend.set_headers)["x-aion-cost-usd"] == usd(cost_nano(prices, Usage(1000, 10)))
    assert decode_usage(amend.metadata["usage"]).service_tier == (None if said is None else billed)


def test_each_attempt_has_the_tier_that_its_own_request_asks_for() -> None:
    sent = headers()
    first = proceeds(POLICY, sent, body("hello", service_tier="flex"))
    tiers = {facts_of(first).model: facts_of(first).service_tier}
    for number in (2, 3):
        reply = later(POLICY, first, sent, number)
        assert isinstance(reply, Proceed)
        facts = decode(served_of(reply)["facts"])
        tiers[facts.model] = facts.service_tier
    assert tiers == {"gpt-small": "flex", "claude-small": "", "gpt-mid": "flex"}


def reply_to(**more: Any) -> object:
    script = exchange(BUDGETED)
    assert script.headers(headers(authorization="Bearer secret"), False) is None
    return script.body(body(max_tokens=100, **more), True)


def test_a_budget_holds_the_dearer_of_the_tier_and_the_usual_one() -> None:
    model = BUDGETED.catalog.model("openai", SMALL)
    assert model is not None
    assert model.prices is not None
    held = {}
    for tier in ("default", "flex", "priority"):
        reply = reply_to(model=SMALL, service_tier=tier)
        assert isinstance(reply, Reserve)
        held[tier] = reply.hold.budgets[0].amount_nano
    dear = model.prices_at("priority")
    assert dear is not None
    assert held["flex"] == held["default"] >= upper_nano(model.prices, 1, 100)
    assert held["priority"] >= upper_nano(dear, 1, 100) > held["default"]


def test_no_budget_holds_a_tier_without_a_price() -> None:
    refused = reply_to(model=SMALL, service_tier="ultrafast")
    assert isinstance(refused, Refuse)
    assert refused.status == 403
    assert b"model_without_price" in refused.body
    # Of the models that may be chosen, one is left whose request will ask for no tier.
    other = reply_to(model="aion-auto", service_tier="ultrafast")
    assert isinstance(other, Reserve)
    script = exchange(POLICY)  # without a budget it goes on; its cost will be unknown
    script.headers(headers(), False)
    assert not isinstance(script.body(body(model=SMALL, service_tier="ultrafast"), True), Refuse)
