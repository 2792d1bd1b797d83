"""The request exchange between its decision and the shared state's answer."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from aion_extproc.accounting.holds import MINUTE_US, Hold, Verdict
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.build import build
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.budget_events import BudgetEvents
from aion_extproc.extproc.callers import Keyring
from aion_extproc.extproc.policy import Policy, make_policy
from aion_extproc.extproc.replies import Proceed, Refuse, Reserve
from aion_extproc.extproc.request_exchange import RequestExchange
from aion_extproc.extproc.settling import settlement_of
from aion_extproc.routing.health import Observation
from tests.support.exchanges import (
    CLASSIFIER,
    MESSAGES_PATH,
    UTC,
    body,
    exchange,
    facts_of,
    headers,
    policy,
    policy_of,
    providers,
)

KEY = "sk-dev-0123456789"
LIMIT = 1_000_000_000


def keyed(budget: dict[str, Any] | None = None, **rules: Any) -> Policy:
    if budget is not None:
        rules["budget"] = {"daily_limit_usd": "1", **budget}
    return policy(auth={"keys": [{"key": KEY, "name": "dev", **rules}]})


def asked(found: Policy, raw: bytes, path: str = "/v1/chat/completions") -> tuple[RequestExchange, Hold]:
    script = exchange(found)
    assert script.headers(headers(path, authorization=f"Bearer {KEY}"), False) is None
    reply = script.body(raw, True)
    assert isinstance(reply, Reserve), reply
    return script, reply.hold


def denied(hold: Hold, used: int = LIMIT) -> Verdict:
    return Verdict(False, (used,) * len(hold.budgets), (0,) * len(hold.buckets), (0,) * len(hold.slots))


def granted(hold: Hold) -> Verdict:
    return Verdict(True, (0,) * len(hold.budgets), (0,) * len(hold.buckets), (0,) * len(hold.slots))


def test_the_amount_is_the_dearest_of_the_chain_with_all_that_it_may_say() -> None:
    """gpt-large (10 and 40 dollars per million, cache writes at 20) and claude-large (15, 60, 30)."""
    _, hold = asked(keyed({}), body("x" * 3000, model="aion-escalate", max_tokens=1000))
    (held,) = hold.budgets
    assert held.account == "key:dev:20261122"
    most_input = 750 + 750 // 3 + 5  # a token for three characters, and what is around them
    assert held.amount_nano == pytest.approx(most_input * 30_000 + 1000 * 60_000, rel=0.02)
    assert held.amount_nano >= 1000 * 30_000 + 1000 * 60_000
    assert hold.id == "id-1"


@pytest.mark.parametrize(("extra", "outputs"), [({}, 4096), ({"n": 3}, 3 * 4096), ({"n": 2, "max_tokens": 10}, 20)])
def test_answers_without_a_limit_are_assumed_to_be_long(extra: dict[str, Any], outputs: int) -> None:
    _, hold = asked(keyed({}), body("hi", model="gpt-spare", **extra))
    assert hold.budgets[0].amount_nano == pytest.approx(outputs * 48_000, rel=0.25)


@pytest.mark.parametrize("budget", [None, {}])
def test_tokens_are_counted_before_they_are_used_with_and_without_a_budget(budget: dict[str, Any] | None) -> None:
    _, hold = asked(keyed(budget, limits={"tokens_per_minute": 10_000}), body("x" * 3000, model="gpt-mid"))
    (bucket,) = hold.buckets
    assert bucket.amount == pytest.approx(750, rel=0.02)


def test_how_a_client_writes_its_characters_does_not_lower_what_is_held() -> None:
    """Of a thousand Chinese characters each is about a token."""
    said = {"model": "gpt-spare", "max_tokens": 1, "messages": [{"role": "user", "content": "你好世界" * 250}]}
    amounts = []
    for raw in (orjson.dumps(said), json.dumps(said).encode()):
        _, hold = asked(keyed({}), raw)
        amounts.append(hold.budgets[0].amount_nano)
    assert amounts[0] >= 1000 * 12_000
    assert amounts[1] >= amounts[0]


def test_a_schema_is_part_of_what_is_said() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"description": "word " * 4000}}}
    _, hold = asked(keyed({}), body("hi", model="gpt-spare", max_tokens=1, response_format=schema))
    assert hold.budgets[0].amount_nano >= 4000 * 12_000


@pytest.mark.parametrize(("prompt", "answers"), [("x", 1), (["x"] * 7, 14), ([1, 2, 3], 2), ([[1, 2], [3]], 4)])
def test_each_of_many_prompts_is_answered(prompt: Any, answers: int) -> None:
    config = providers(auth={"keys": [{"key": KEY, "name": "dev", "budget": {"daily_limit_usd": "1"}}]})
    prices = {"input_price_per_1m": 0, "output_price_per_1m": 10}
    config["providers"]["openai"]["models"] = [{"id": "babbage", "mode": "completion", **prices}]
    raw = orjson.dumps({"model": "babbage", "prompt": prompt, "max_tokens": 100} | ({"n": 2} if answers > 1 else {}))
    _, hold = asked(policy_of(config), raw, "/v1/completions")
    assert hold.budgets[0].amount_nano == answers * 100 * 10_000


def test_what_is_granted_is_sent_as_if_nobody_had_been_asked() -> None:
    script, hold = asked(keyed({}), body("hi", model="gpt-mid"))
    reply = script.reserved(granted(hold))
    assert isinstance(reply, Proceed)
    assert facts_of(reply).model == "gpt-mid"
    assert not any(name.startswith("ratelimit") for name in reply.metadata)


def test_a_refusal_is_in_the_clients_shape_and_says_when() -> None:
    for path, kind in (("/v1/chat/completions", None), (MESSAGES_PATH, "error")):
        script, hold = asked(keyed({}), body("hi", model="gpt-mid", max_tokens=5), path)
        reply = script.reserved(denied(hold))
        assert isinstance(reply, Refuse)
        assert reply.status == 429
        assert dict(reply.headers)["retry-after"] == "86400"
        told = orjson.loads(reply.body)
        assert told.get("type") == kind
        assert told["error"]["type"] == "rate_limit_error"
        assert "The daily budget of key dev is $1.000000" in told["error"]["message"]
        assert facts_of(reply).error == "budget_exceeded"


def test_a_downgrade_asks_again_for_what_fits() -> None:
    script, hold = asked(keyed({"on_limit": "downgrade"}), body("hi", model="claude-large", max_tokens=1000))
    left = 5_000_000  # of a thousand tokens gpt-mid's cost 8 million, gpt-small's two, claude-small's four
    again = script.reserved(denied(hold, LIMIT - left))
    assert isinstance(again, Reserve)
    assert again.hold.id == hold.id
    assert again.hold.budgets[0].amount_nano <= left
    reply = script.reserved(granted(again.hold))
    assert isinstance(reply, Proceed)
    facts = facts_of(reply)
    assert facts.model in ("gpt-small", "claude-small")
    assert (facts.asked_model, facts.downgraded) == ("claude-large", True)
    assert "downgraded by the daily budget of key dev" in facts.reason
    # All of the chain fits.
    chain = orjson.loads(reply.metadata["chain"])["steps"] if "chain" in reply.metadata else []
    assert {step["model"] for step in chain} <= {"gpt-small", "claude-small"}


def test_a_downgrade_to_nothing_is_a_refusal() -> None:
    script, hold = asked(keyed({"on_limit": "downgrade"}), body("hi", model="claude-large", max_tokens=1000))
    reply = script.reserved(denied(hold))
    assert isinstance(reply, Refuse)
    assert (reply.status, facts_of(reply).error) == (429, "budget_exceeded")


def test_others_may_take_what_is_left_meanwhile() -> None:
    script, hold = asked(keyed({"on_limit": "downgrade"}), body("hi", model="claude-large", max_tokens=1000))
    again = script.reserved(denied(hold, LIMIT - 5_000_000))
    assert isinstance(again, Reserve)
    reply = script.reserved(denied(again.hold, LIMIT))
    assert isinstance(reply, Refuse)
    assert reply.status == 429


def test_a_request_downgraded_is_made_to_fit_its_model() -> None:
    """What gpt-large takes and claude-small does not would come back as a 400 that the client cannot understand."""
    raw = body("hi", model="gpt-large", max_tokens=1000, temperature=1.9)
    script, hold = asked(keyed({"on_limit": "downgrade"}, models=["gpt-large", "claude-small"]), raw)
    again = script.reserved(denied(hold, LIMIT - 5_000_000))
    assert isinstance(again, Reserve)
    reply = script.reserved(granted(again.hold))
    assert isinstance(reply, Proceed)
    assert facts_of(reply).model == "claude-small"
    assert reply.metadata["dropped"] or orjson.loads(reply.body).get("temperature", 0) <= 1


def test_an_unpriced_model_and_a_budget_do_not_go_together() -> None:
    config = providers(auth={"keys": [{"key": KEY, "name": "dev", "budget": {"daily_limit_usd": "1"}}]})
    config["providers"]["openai"]["models"].append({"id": "mystery", "tier": 1})
    script = exchange(policy_of(config))
    assert script.headers(headers(authorization=f"Bearer {KEY}"), False) is None
    reply = script.body(body(model="mystery"), True)
    assert isinstance(reply, Refuse)
    assert (reply.status, facts_of(reply).error) == (403, "model_without_price")
    script, hold = asked(policy_of(config), body(model="aion-auto"))
    proceeded = script.reserved(granted(hold))
    assert isinstance(proceeded, Proceed)
    assert "mystery" not in proceeded.metadata.get("chain", "")


def test_a_model_at_its_limit_leaves_the_request_to_another() -> None:
    config = providers()
    config["providers"]["openai"]["models"][0]["limits"] = {"requests_per_minute": 1}
    found = policy_of(config)
    script = exchange(found)
    script.headers(headers(), False)
    first = script.body(body(model="aion-auto"), True)
    assert isinstance(first, Reserve)
    assert [one.bucket for one in first.hold.buckets] == ["model:openai/gpt-small:r"]
    second = script.reserved(Verdict(False, (), (MINUTE_US,)))
    assert isinstance(second, Proceed)  # claude-small has no limit
    assert facts_of(second).model == "claude-small"
    assert "a model is at its rate limit" in facts_of(second).reason
    # Who names it waits for it.
    script = exchange(found)
    script.headers(headers(), False)
    assert isinstance(script.body(body(model="gpt-small"), True), Reserve)
    reply = script.reserved(Verdict(False, (), (MINUTE_US,)))
    assert isinstance(reply, Refuse)
    assert (reply.status, dict(reply.headers)["retry-after"]) == (429, "60")


@pytest.mark.parametrize(("tenant", "status"), [("acme", 503), ("", 200)])
def test_a_tenant_of_which_nothing_is_known_yet_is_refused(tenant: str, status: int) -> None:
    """A worker that starts while the database is away has not read its limits, nor its keys at providers."""
    found = Settings.model_validate(providers(auth={"keys": [{"key": KEY, "name": "dev", "tenant": tenant}]}))
    script = exchange(make_policy(found, build(found), CLASSIFIER, keyring=Keyring()))
    reply = script.headers(headers(authorization=f"Bearer {KEY}"), False)
    if status == 200:
        assert reply is None
    else:
        assert isinstance(reply, Refuse)
        assert (reply.status, facts_of(reply).error) == (503, "keys_unavailable")


@pytest.mark.parametrize(("path", "kind"), [(MESSAGES_PATH, Refuse), (f"{MESSAGES_PATH}/count_tokens", Proceed)])
def test_what_costs_nothing_needs_no_answer_about_a_budget(path: str, kind: type) -> None:
    script, _ = asked(keyed({}), body("hi", model="claude-small", max_tokens=5), path)
    assert isinstance(script.reserved("unreachable"), kind)


def test_nobody_is_asked_for_who_has_no_limit() -> None:
    script = exchange(keyed())
    script.headers(headers(authorization=f"Bearer {KEY}"), False)
    assert isinstance(script.body(body(), True), Proceed)


def test_the_end_of_a_request_is_charged_on_the_day_it_began() -> None:
    row = LedgerRow("id", int(UTC * 1000) - 1, "served", 200, key_name="dev", tenant="acme", cost_nano=42)
    assert settlement_of(row).spent == (
        ("key:dev:20261121", 42),
        ("key:dev:202611", 42),
        ("tenant:acme:20261121", 42),
        ("tenant:acme:202611", 42),
    )
    refused = LedgerRow("id", 0, "refused", 429, key_name="dev")
    assert (settlement_of(refused).spent, settlement_of(refused).tokens) == ((), 0)
    assert settlement_of(LedgerRow("id", 0, "served", 200, usage=Usage(5, 6))).tokens == 11


def test_a_body_that_comes_after_midnight_is_held_where_it_will_be_charged() -> None:
    now = UTC - 0.5
    script = RequestExchange(keyed({}), lambda: 1000.0, lambda: now, lambda seconds: None)
    script.headers(headers(authorization=f"Bearer {KEY}"), False)
    now = UTC + 5
    reply = script.body(body("hi", model="gpt-mid"), True)
    assert isinstance(reply, Reserve)
    row = LedgerRow("id", int((UTC - 0.5) * 1000), "served", 200, key_name="dev", cost_nano=42)
    assert reply.hold.budgets[0].account == settlement_of(row).spent[0][0] == "key:dev:20261121"
    refused = script.reserved(denied(reply.hold))
    assert isinstance(refused, Refuse)
    assert dict(refused.headers)["retry-after"] == "1"


def test_a_warning_is_told_once_for_each_threshold() -> None:
    found = keyed({"warn_at": [50, 80, 100]}).callers
    events: list[Any] = []
    told = BudgetEvents(found.budgets, events.append)
    at = 0
    for cost in (400, 99, 1, 299, 1, 199, 2, 500):
        told.spent("key:dev:20261122", at * 1_000_000, (at + cost) * 1_000_000)
        told.spent("key:dev:202611", at * 1_000_000, (at + cost) * 1_000_000)  # it has no budget of a month
        told.spent("key:other:20261122", at * 1_000_000, (at + cost) * 1_000_000)
        at += cost
    assert [(event["type"], event["data"]["percent"]) for event in events] == [
        ("budget.warning", 50),
        ("budget.warning", 80),
        ("budget.exhausted", 100),
    ]
    assert events[0]["data"] == {
        "scope": "key",
        "name": "dev",
        "period": "day",
        "began": "2026-11-22",
        "limit_usd": "1.000000",
        "spent_usd": "0.500000",
        "percent": 50,
    }


def test_a_request_that_is_denied_does_not_try_a_model_that_comes_back() -> None:
    found = keyed({})
    for _ in range(20):
        found.health.report(Observation("openai", "gpt-mid", False, "provider_503"), 900.0)
    assert not found.health.healthy("openai", "gpt-mid", 901.0)
    script, hold = asked(found, body("hi", model="gpt-mid"))
    assert isinstance(script.reserved(denied(hold)), Refuse)
    assert found.health.healthy("openai", "gpt-mid", 1000.0)  # it may still be tried
    script, hold = asked(found, body("hi", model="gpt-mid"))
    assert isinstance(script.reserved(granted(hold)), Proceed)
    assert not found.health.healthy("openai", "gpt-mid", 1000.0)  # somebody tries it now
