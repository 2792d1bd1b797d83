"""The response phase without a network: scripts of events, and what the exchange makes of them."""

from __future__ import annotations

import pytest

from aion_extproc.accounting.facts import Facts, Reported, decode_usage
from aion_extproc.accounting.usage import Usage
from aion_extproc.extproc.codec import amend_message
from aion_extproc.extproc.replies import Amend, LetPass, WantWhole, Watch
from aion_extproc.extproc.response_exchange import ResponseExchange
from tests.support.answers import CHAT, CHAT_EVENTS, CHAT_USAGE, DONE, MESSAGE, MESSAGE_EVENTS
from tests.support.exchanges import (
    OPEN,
    body,
    facts_of,
    headers,
    policy,
    policy_of,
    proceeds,
    providers,
)

CHAT_FACTS = Facts(format="openai", endpoint="chat", model="gpt-small", provider="openai", tier=1, input_tokens=10)
MESSAGE_FACTS = Facts(format="anthropic", endpoint="messages", model="claude-small", provider="anthropic", tier=1)
WATCHING = policy(gateway={"usage": "ext_proc"})
JSON_ANSWER = {":status": "200", "content-type": "application/json"}
SSE_ANSWER = {":status": "200", "content-type": "text/event-stream; charset=utf-8"}


def test_a_json_answer_is_held_and_its_cost_told() -> None:
    script = ResponseExchange(OPEN, CHAT_FACTS)
    assert script.headers(JSON_ANSWER, False) == WantWhole()
    amend = script.body(CHAT, True)
    # 600 plain at $0.5, 400 cached at $0.05, 200 out at $2, per million; the dearest is claude-large
    assert dict(amend.set_headers) == {"x-aion-cost-usd": "0.000720", "x-aion-savings-usd": "0.020880"}
    assert decode_usage(amend.metadata["usage"]) == Reported(Usage(1000, 200, 400, 0, 0, 50), True)
    assert not amend_message(amend).response_body.response.HasField("body_mutation")

    script = ResponseExchange(OPEN, MESSAGE_FACTS)
    assert script.headers(JSON_ANSWER | {"content-length": "99"}, False) == WantWhole()
    assert dict(script.body(MESSAGE, True).set_headers)["x-aion-cost-usd"] == "0.001495"


@pytest.mark.parametrize("answer", [b"", b"not JSON", b"[]", b'{"usage":null}', b'{"usage":{"prompt_tokens":"x"}'])
def test_an_answer_without_usage_keeps_the_estimate(answer: bytes) -> None:
    script = ResponseExchange(OPEN, CHAT_FACTS)
    assert script.headers(JSON_ANSWER, False) == WantWhole()
    assert script.body(answer, True) == Amend()


def test_an_answer_of_an_unknown_price_tells_no_cost() -> None:
    unpriced = providers()
    unpriced["providers"]["openai"]["models"] = [{"id": "house-model", "tier": 1}]
    opened = policy_of(unpriced)
    reply = proceeds(opened, headers(), body(model="house-model"))
    assert (reply.metadata["cost_usd"], reply.metadata["savings_usd"]) == ("unknown", "unknown")
    script = ResponseExchange(opened, facts_of(reply))
    assert script.headers(JSON_ANSWER, False) == WantWhole()
    amend = script.body(CHAT, True)
    assert amend.set_headers == ()
    assert decode_usage(amend.metadata["usage"]).usage.output_tokens == 200


@pytest.mark.parametrize(
    ("facts", "answer", "end"),
    [
        (CHAT_FACTS, JSON_ANSWER | {":status": "500"}, False),
        (CHAT_FACTS, JSON_ANSWER | {":status": "429"}, False),
        (CHAT_FACTS, JSON_ANSWER | {":status": "302"}, False),
        (CHAT_FACTS, SSE_ANSWER | {":status": "503"}, False),
        (CHAT_FACTS, {":status": "200", "content-type": "text/html"}, False),
        (CHAT_FACTS, {":status": "200"}, False),
        (CHAT_FACTS, JSON_ANSWER | {"content-length": str(1 << 30)}, False),
        (CHAT_FACTS, JSON_ANSWER, True),
        (CHAT_FACTS, SSE_ANSWER, True),
        (None, JSON_ANSWER, False),
        (Facts(error="invalid_json"), JSON_ANSWER, False),
        (Facts(error="invalid_json"), SSE_ANSWER, False),
    ],
)
def test_what_is_not_for_us_passes(facts: Facts | None, answer: dict[str, str], end: bool) -> None:
    for found in (OPEN, WATCHING):
        assert ResponseExchange(found, facts).headers(answer, end) == LetPass()


def test_a_stream_passes_where_envoy_counts() -> None:
    assert ResponseExchange(OPEN, CHAT_FACTS).headers(SSE_ANSWER, False) == LetPass()


@pytest.mark.parametrize(
    ("facts", "events", "usage"),
    [
        (CHAT_FACTS, [*CHAT_EVENTS, CHAT_USAGE, DONE], Usage(1000, 200, 400, 0, 0, 50)),
        (MESSAGE_FACTS, MESSAGE_EVENTS, Usage(1000, 200, 400, 100)),
    ],
    ids=["chat", "message"],
)
def test_a_stream_is_watched_where_envoy_does_not_count(facts: Facts, events: list[bytes], usage: Usage) -> None:
    data = b"".join(events)
    for size in (1, 7, 100, len(data)):
        script = ResponseExchange(WATCHING, facts)
        assert script.headers(SSE_ANSWER, False) == Watch()
        told = []
        for start in range(0, len(data), size):
            amend = script.body(data[start : start + size], start + size >= len(data))
            assert amend.set_headers == ()  # they have been sent
            assert not amend_message(amend).response_body.response.HasField("body_mutation")
            told += [amend.metadata["usage"]] if amend.metadata else []
        assert decode_usage(told[-1]) == Reported(usage, True)
        assert 1 <= len(told) <= 2


def test_a_watched_stream_that_breaks_off_has_told_what_was_known() -> None:
    script = ResponseExchange(WATCHING, MESSAGE_FACTS)
    script.headers(SSE_ANSWER, False)
    amend = script.body(MESSAGE_EVENTS[0], False)
    assert decode_usage(amend.metadata["usage"]) == Reported(Usage(1000, 1, 400, 100), False)
    assert script.body(MESSAGE_EVENTS[1], False) == Amend()
