"""Later attempts of a chain: whatever the first one was sent, each model gets what it would have got as the first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aion_extproc.accounting.facts import decode
from aion_extproc.extproc.attempt_exchange import AttemptExchange
from aion_extproc.extproc.chain import decode_chain
from aion_extproc.extproc.codec import proceed_messages
from aion_extproc.extproc.outgoing import prepare, serving_endpoint
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import Proceed, Refuse
from aion_extproc.extproc.upstream_headers import listed
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.request import parse
from tests.property.documents import requests
from tests.property.test_chat_conversations import conversations as chat_conversations
from tests.property.test_messages_conversations import bodies as messages_bodies
from tests.support.configs import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.exchanges import CHAT_PATH, MESSAGES_PATH, OPEN, body, headers, policy_of, proceeds, providers, send

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
ALL_FORMATS = [CHAT_PATH, MESSAGES_PATH]


def modern() -> Policy:
    """Models that refuse much of what clients send, and a cloud's envelope among them."""
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


def check(found: Policy, sent: dict[str, str], raw: bytes) -> int:
    """How many later attempts there were, each looked at."""
    first = send(found, sent, [raw])
    if isinstance(first, Refuse) or "chain" not in first.metadata:
        return 0
    chain = decode_chain(first.metadata["chain"])
    assert len(first.clusters) == len(chain.steps)
    start = 1 if first.clusters[0].startswith("fallback_") else 2
    for number in range(start, len(chain.steps) + 1):
        step = chain.steps[number - 1]
        assert first.clusters[number - 1] == f"fallback_{step.provider}"
        provider = found.providers[step.provider]
        request = parse(raw, Endpoint(chain.endpoint))
        endpoint = serving_endpoint(request.endpoint, provider)
        assert endpoint is not None
        reply = later(found, first, sent, number)
        try:
            wanted = prepare(request, endpoint, step.model, provider, listed(sent.get("anthropic-beta", "")))
        except RequestError:
            assert isinstance(reply, Refuse)
            assert reply.status == 503
            continue
        assert isinstance(reply, Proceed)
        list(proceed_messages(reply))
        assert json.loads(reply.body) == json.loads(wanted.body)
        assert reply.metadata["content_length"] == str(len(reply.body))
        assert reply.metadata["dropped"] == ",".join(wanted.dropped)
        assert bool(reply.metadata["asked"]) == wanted.translated
        facts = decode(reply.metadata["facts"])
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
    assert first.clusters == ("provider_anthropic", "fallback_openai", "fallback_anthropic", "fallback_openai")
    between = after(first, sent)
    assert (between["x-api-key"], between["anthropic-beta"]) == (ANTHROPIC_KEY, "b-1")

    second = later(OPEN, first, sent, 2)
    assert isinstance(second, Proceed)
    assert second.clusters == ()
    outgoing = dict(second.set_headers)
    assert (outgoing[":path"], outgoing["authorization"]) == ("/v1/chat/completions", f"Bearer {OPENAI_KEY}")
    assert {"x-api-key", "anthropic-version", "anthropic-beta"} <= set(second.remove_headers)
    assert not {"anthropic-version", "anthropic-beta", "x-api-key"} & set(outgoing)
    assert "x-custom" not in second.remove_headers

    # And back: what the second attempt took off is there again for the third.
    chain = decode_chain(first.metadata["chain"])
    script = AttemptExchange(OPEN, decode(second.metadata["facts"]), chain, 3)
    third_sent = {n: v for n, v in between.items() if n not in second.remove_headers} | outgoing
    script.headers(third_sent | {"x-amz-date": "now"}, False)
    third = script.body(first.body, True)
    assert isinstance(third, Proceed)
    outgoing = dict(third.set_headers)
    assert (outgoing[":path"], outgoing["x-api-key"]) == ("/v1/messages?beta=true", ANTHROPIC_KEY)
    assert (outgoing["anthropic-version"], outgoing["anthropic-beta"]) == ("2023-06-01", "b-1")
    assert "authorization" not in outgoing
    assert {"authorization", "x-amz-date"} <= set(third.remove_headers)


def test_what_cannot_be_said_there_is_refused_by_its_name() -> None:
    first = proceeds(OPEN, headers(), body(n=2))
    reply = later(OPEN, first, headers(), 2)
    assert isinstance(reply, Refuse)
    assert reply.status == 503
    assert "n" in json.loads(reply.body)["error"]["message"]


def test_a_model_that_is_no_longer_configured_is_refused() -> None:
    first = proceeds(OPEN, headers(), body())
    config = providers()
    del config["providers"]["anthropic"]
    reply = later(policy_of(config), first, headers(), 2)
    assert isinstance(reply, Refuse)
    assert (reply.status, reply.metadata["refused"]) == (503, "no_such_model")


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
        for number in range(1 if first.clusters[0].startswith("fallback_") else 2, 5):
            reply = later(found, first, headers(MESSAGES_PATH), number)
            assert secret not in repr(reply.metadata)
