"""Later attempts of a chain: whatever the first one was sent, each model gets what it would have got as the first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from aion_extproc.accounting.facts import decode
from aion_extproc.catalog.build import build
from aion_extproc.config.access import TenantSettings
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.attempt_exchange import AttemptExchange
from aion_extproc.extproc.callers import Keyring
from aion_extproc.extproc.chain import decode_chain
from aion_extproc.extproc.codec import proceed_messages
from aion_extproc.extproc.fallback_answer import decode_served
from aion_extproc.extproc.outgoing import prepare, serving_endpoint
from aion_extproc.extproc.policy import Policy, make_policy
from aion_extproc.extproc.replies import Proceed, Refuse
from aion_extproc.extproc.upstream_headers import listed
from aion_extproc.gateway.spec import FALLBACK_CLUSTER
from aion_extproc.stores.keys_changes import TenantEntry
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.request import parse
from tests.property.documents import requests
from tests.property.test_chat_conversations import conversations as chat_conversations
from tests.property.test_messages_conversations import bodies as messages_bodies
from tests.property.test_screening import odd_agents
from tests.support.configs import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.exchanges import (
    CHAT_PATH,
    CLASSIFIER,
    MESSAGES_PATH,
    OPEN,
    body,
    facts_of,
    headers,
    policy_of,
    proceeds,
    providers,
    send,
)

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
ALL_FORMATS = [CHAT_PATH, MESSAGES_PATH]


def modern(*without: str) -> Policy:
    """Models that refuse much of what clients send, and a cloud's envelope among them. `without`: these providers."""
    config = providers()

    def entry(kind: str, *models: str, **more: Any) -> dict[str, Any]:
        prices = {"input_price_per_1m": 1, "output_price_per_1m": 2}
        listed_models = [{"id": model, "tier": 1} | prices for model in models]
        return {"kind": kind, "api_key": f"{kind}-key", "models": listed_models} | more

    config["providers"] = {
        "openai": entry("openai", "gpt-5-nano"),
        "anthropic": entry("anthropic", "claude-haiku-4-5", "claude-opus-4-7"),
        "mistral": entry("mistral", "mistral-small"),
        "bedrock": entry("bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0", region="us-east-1"),
    }
    for name in without:
        del config["providers"][name]
    return policy_of(config)


MODERN = modern()


def after(first: Proceed, sent: dict[str, str]) -> dict[str, str]:
    """The headers as Envoy has them after the first attempt."""
    kept = {name: value for name, value in sent.items() if name not in first.remove_headers}
    return kept | dict(first.set_headers)


def later(found: Policy, first: Proceed, sent: dict[str, str], number: int) -> Proceed | Refuse:
    chain = decode_chain(first.metadata["chain"])
    script = AttemptExchange(found, decode(first.metadata["facts"]), chain, number)
    assert script.headers(after(first, sent), False) is None
    half = len(first.body) // 2
    assert script.body(first.body[:half], False) is None
    reply = script.body(first.body[half:], True)
    assert reply is not None
    return reply


def served_of(reply: Proceed) -> dict[str, str]:
    """What its answer takes back, in a header."""
    text = reply.metadata["served"]
    assert text.isascii()
    return decode_served({"x-aion-served": text})


def check(found: Policy, sent: dict[str, str], raw: bytes) -> int:
    """How many later attempts there were, each looked at."""
    first = send(found, sent, [raw])
    if isinstance(first, Refuse) or "chain" not in first.metadata:
        return 0
    chain = decode_chain(first.metadata["chain"])
    assert len(first.clusters) == len(chain.steps)
    start = 1 if first.clusters[0] == FALLBACK_CLUSTER else 2
    for number in range(start, len(chain.steps) + 1):
        step = chain.steps[number - 1]
        assert first.clusters[number - 1] == FALLBACK_CLUSTER
        provider = found.providers[step.provider]
        request = parse(raw, Endpoint(chain.endpoint))
        endpoint = serving_endpoint(request.endpoint, provider)
        assert endpoint is not None
        wanted = prepare(request, endpoint, step.model, provider, listed(sent.get("anthropic-beta", "")))
        reply = later(found, first, sent, number)
        assert isinstance(reply, Proceed), reply
        list(proceed_messages(reply))
        assert json.loads(reply.body) == json.loads(wanted.body)
        assert reply.metadata["content_length"] == str(len(reply.body))
        assert reply.clusters == (f"provider_{step.provider}",)
        served = served_of(reply)
        assert served["dropped"] == ",".join(wanted.dropped)
        assert bool(served["asked"]) == wanted.translated
        facts = decode(served["facts"])
        assert (facts.provider, facts.model, facts.tier) == (step.provider, step.model, step.tier)
        assert facts.asked_model == "aion-auto"
    return len(chain.steps)


def auto(plain: dict[str, Any]) -> bytes:
    return json.dumps({**plain, "model": "aion-auto"}).encode()


@settings(QUICK, max_examples=60)
@given(requests(st.just("aion-auto")), st.sampled_from(ALL_FORMATS), st.sampled_from([OPEN, MODERN]))
def test_documents_of_all_spellings(raw: bytes, path: str, found: Policy) -> None:
    check(found, headers(path), raw)


@settings(QUICK, max_examples=60)
@given(chat_conversations(), st.sampled_from([OPEN, MODERN]))
def test_chat_conversations(plain: dict[str, Any], found: Policy) -> None:
    check(found, headers(CHAT_PATH), auto(plain))


@settings(QUICK, max_examples=60)
@given(messages_bodies(), st.sampled_from([OPEN, MODERN]))
def test_messages_conversations(plain: dict[str, Any], found: Policy) -> None:
    check(found, headers(MESSAGES_PATH, anthropic_beta="b-1,b-2", anthropic_version="2023-06-01"), auto(plain))


@settings(QUICK, max_examples=200)
@given(odd_agents(), st.sampled_from([OPEN, MODERN]))
def test_agents_of_which_something_is_odd(odd: tuple[bytes, Endpoint], found: Policy) -> None:
    raw, endpoint = odd
    check(found, headers(CHAT_PATH if endpoint is Endpoint.CHAT else MESSAGES_PATH), raw)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": 0.5, "max_tokens": 5, "top_p": 0.5},
        {"max_completion_tokens": 5, "reasoning_effort": "high", "parallel_tool_calls": False},
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required", "user": "me"},
        {"aion_preferences": {"tier": 1}},
    ],
)
@pytest.mark.parametrize("found", [OPEN, MODERN])
def test_settings_that_the_first_model_refused_reach_the_next(found: Policy, more: dict[str, Any]) -> None:
    assert check(found, headers(), body(**more)) == 4


@pytest.mark.parametrize("number", [2**64, 98765432109876543210987, -(2**63) - 1])
def test_a_number_of_more_than_64_bits_stays_exact(number: int) -> None:
    raw = body(stream=True, stream_options={"odd": 0.5}).replace(b"0.5", str(number).encode())
    assert check(OPEN, headers(), raw) == 4


@pytest.mark.parametrize("levels", range(250, 257))
def test_a_setting_of_many_levels_travels_or_stays(levels: int) -> None:
    """A chain that is written down takes 254."""
    raw = body(stream=True, stream_options={"odd": 0.5}).replace(b"0.5", b"[" * levels + b"]" * levels)
    assert check(OPEN, headers(), raw) == 4


@pytest.mark.parametrize(
    "more",
    [
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "context_management": {"edits": []}},
        {"tool_choice": {"type": "tool", "name": "f"}, "tools": [{"name": "f", "input_schema": {}}]},
        {"temperature": 0.1, "top_k": 3},
    ],
)
def test_thinking_that_the_first_model_refused_reaches_the_next(more: dict[str, Any]) -> None:
    assert check(MODERN, headers(MESSAGES_PATH), body(max_tokens=5000, **more)) == 4


def test_each_attempt_has_the_headers_of_its_provider_and_no_other_s() -> None:
    sent = headers(
        f"{MESSAGES_PATH}?beta=true",
        authorization="Bearer mine",
        anthropic_version="2023-06-01",
        anthropic_beta="b-1",
        x_custom="kept",
        x_aion_session="s",
    )
    first = proceeds(OPEN, sent, body(max_tokens=5))
    assert first.clusters == ("provider_anthropic", *[FALLBACK_CLUSTER] * 3)
    between = after(first, sent)
    assert (between["x-api-key"], between["anthropic-beta"]) == (ANTHROPIC_KEY, "b-1")

    second = later(OPEN, first, sent, 2)
    assert isinstance(second, Proceed)
    assert second.clusters == ("provider_openai",)
    outgoing = dict(second.set_headers)
    assert (outgoing[":path"], outgoing["authorization"]) == ("/v1/chat/completions", f"Bearer {OPENAI_KEY}")
    assert {"x-api-key", "anthropic-version", "anthropic-beta"} <= set(second.remove_headers)
    assert not {"anthropic-version", "anthropic-beta", "x-api-key"} & set(outgoing)
    assert "x-custom" not in second.remove_headers

    # The third begins with the same headers as the second.
    chain = decode_chain(first.metadata["chain"])
    script = AttemptExchange(OPEN, decode(first.metadata["facts"]), chain, 3)
    script.headers(between | {"x-amz-date": "now"}, False)
    third = script.body(first.body, True)
    assert isinstance(third, Proceed)
    outgoing = dict(third.set_headers)
    assert (outgoing[":path"], outgoing["x-api-key"]) == ("/v1/messages?beta=true", ANTHROPIC_KEY)
    assert (outgoing["anthropic-version"], outgoing["anthropic-beta"]) == ("2023-06-01", "b-1")
    assert "authorization" not in outgoing
    assert "x-amz-date" in third.remove_headers


def models(found: Policy, sent: dict[str, str], raw: bytes) -> list[str]:
    """Those of the chain, the first one's among them."""
    first = proceeds(found, sent, raw)
    if "chain" not in first.metadata:
        return [facts_of(first).model]
    assert check(found, sent, raw) == len(first.clusters)
    return [step.model for step in decode_chain(first.metadata["chain"]).steps]


def test_who_cannot_be_told_the_request_is_left_out() -> None:
    all_of_them = ["gpt-small", "claude-small", "gpt-mid", "claude-mid"]
    assert models(OPEN, headers(), body()) == all_of_them
    assert models(OPEN, headers(), body(n=1)) == all_of_them
    assert models(OPEN, headers(), body(n=2)) == ["gpt-small", "gpt-mid"]
    assert models(OPEN, headers(MESSAGES_PATH), body(max_tokens=5, thread={"type": "continue"})) == [
        "claude-small",
        "claude-mid",
    ]


def test_of_the_models_of_one_format_some_are_left_out() -> None:
    found = modern("mistral")
    nano, haiku, opus = "gpt-5-nano", "claude-haiku-4-5", "claude-opus-4-7"
    bedrock = "anthropic.claude-haiku-4-5-20251001-v1:0"
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}
    assert sorted(models(found, headers(), body())) == sorted([nano, haiku, opus, bedrock])
    assert sorted(models(found, headers(), body(messages=[image]))) == sorted([nano, haiku, opus])
    begun = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "{"}]
    sent = headers(MESSAGES_PATH)
    assert sorted(models(found, sent, body(max_tokens=5))) == sorted([nano, haiku, opus, bedrock])
    assert sorted(models(found, sent, body(max_tokens=5, messages=begun))) == sorted([nano, haiku, bedrock])


def test_where_nobody_else_can_be_told_the_request_there_is_no_chain() -> None:
    config = providers()
    config["providers"]["openai"]["models"] = config["providers"]["openai"]["models"][:1]
    first = proceeds(policy_of(config), headers(), body(n=2))
    assert first.clusters == ("provider_openai",)
    assert "chain" not in first.metadata
    assert not [name for name, _ in first.set_headers if name.startswith("x-envoy-")]


def test_a_model_that_is_no_longer_configured_is_refused() -> None:
    first = proceeds(OPEN, headers(), body())
    config = providers()
    del config["providers"]["anthropic"]
    reply = later(policy_of(config), first, headers(), 2)
    assert isinstance(reply, Refuse)
    assert (reply.status, reply.metadata["refused"]) == (503, "no_such_model")


def test_a_tenant_whose_own_key_is_gone_or_not_known_yet_gets_nobody_elses() -> None:
    key = "sk-dev-0123456789"
    config = providers(auth={"keys": [{"key": key, "name": "dev", "tenant": "acme"}]})
    found = Settings.model_validate(config)
    keyring = Keyring(version=1)
    keyring.tenants["acme"] = TenantEntry(
        TenantSettings(provider_keys={"anthropic": SecretStr("its-own"), "openai": SecretStr("its-own")})
    )
    known = make_policy(found, build(found), CLASSIFIER, keyring=keyring)
    sent = headers(authorization=f"Bearer {key}")
    first = proceeds(known, sent, body())
    second = decode_chain(first.metadata["chain"]).steps[1].provider
    reply = later(known, first, sent, 2)
    assert isinstance(reply, Proceed)
    assert any("its-own" in value for _, value in reply.set_headers)
    unknown = make_policy(found, build(found), CLASSIFIER, keyring=Keyring())
    keyring.tenants["acme"] = TenantEntry(TenantSettings(), unreadable=frozenset({second}))
    for one in (known, unknown):
        assert isinstance(later(one, first, sent, 2), Refuse)


def test_nothing_of_the_text_is_in_the_metadata() -> None:
    """They are in the access log."""
    secret = "swordfish"
    raw = body(
        f"please refactor {secret}",
        system=secret,
        user=secret,
        tools=[{"name": secret, "input_schema": {}}],
        tool_choice={"type": "tool", "name": secret},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"title": secret}}},
        max_tokens=5,
    )
    for found in (OPEN, MODERN):
        first = proceeds(found, headers(MESSAGES_PATH), raw)
        assert secret not in repr(first.metadata)
        for number in range(1 if first.clusters[0] == FALLBACK_CLUSTER else 2, 5):
            reply = later(found, first, headers(MESSAGES_PATH), number)
            assert secret not in repr(reply.metadata)
