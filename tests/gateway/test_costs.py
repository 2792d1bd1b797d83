"""Through the whole gateway: a service tier's price, the baseline, energy in the ledger, and the news of a budget."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aion_extproc.accounting.cost import cost_nano, usd
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.catalog.model import Prices, Rate
from tests.support.answers import CHAT, CHAT_EVENTS, CHAT_USAGE, DONE
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Answer, Received, Upstream

PRIORITY = {"input_price_per_1m": 1, "output_price_per_1m": 4, "reasoning_price_per_1m": 3}
DEAR = Prices(Rate(1_000_000), Rate(4_000_000), reasoning=Rate(3_000_000))
HOOK_KEY = bytes(range(32))


def tiered(request: Received) -> Answer:
    """The tier that is asked for is the one that serves."""
    said = json.loads(request.body)
    tier = json.dumps(said.get("service_tier") or "default").encode()
    if not said.get("stream"):
        return Answer(chunks=[CHAT.replace(b'"usage"', b'"service_tier":%b,"usage"' % tier, 1)])
    events = [event.replace(b'"created":1', b'"created":1,"service_tier":%b' % tier) for event in CHAT_EVENTS]
    return Answer(content_type="text/event-stream", chunks=[*events, CHAT_USAGE, DONE])


@pytest.fixture(scope="module")
def hook() -> Iterator[Upstream]:
    with Upstream(lambda _: Answer(status=204, chunks=[b""])) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def priced(hook: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Upstream(tiered) as upstream:
        config = two_providers(upstream, routing={"baseline": "claude-small"})
        config["providers"]["openai"]["models"][0] |= {"service_tiers": {"priority": PRIORITY}, "parameters_b": 8}
        config["auth"] = {
            "keys": [
                {"key": "plain-key", "name": "plain"},
                {"key": "small-key", "name": "small", "budget": {"daily_limit_usd": 0.001, "warn_at": [50]}},
            ]
        }
        config["webhooks"] = [
            {
                "url": f"{hook.url}/in?token=T0KEN",
                "secret": base64.b64encode(HOOK_KEY).decode(),
                "allow_private": True,
            }
        ]
        with running(tmp_path_factory.mktemp("costs"), config) as gateway:
            yield gateway


def ask(gateway: Gateway, key: str = "plain-key", **more: object) -> tuple[LedgerRow, str]:
    """Its row, and the cost that the header gave."""
    body = {"model": "gpt-small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 300, **more}
    answer = gateway.post("/v1/chat/completions", body, authorization=f"Bearer {key}")
    assert answer.status_code == 200, answer.text
    return gateway.row(answer.headers["x-request-id"]), answer.headers["x-aion-cost-usd"]


def test_a_tier_is_billed_at_its_price(priced: Gateway) -> None:
    usual, _ = ask(priced)
    assert (usual.cost_nano, usual.estimated) == (720_000, False)
    dear, told = ask(priced, service_tier="priority")
    assert (dear.cost_nano, dear.estimated) == (cost_nano(DEAR, dear.usage), False)
    assert told == usd(cost_nano(DEAR, dear.usage))
    streamed, _ = ask(priced, service_tier="priority", stream=True)
    assert (streamed.usage, streamed.cost_nano, streamed.estimated) == (dear.usage, dear.cost_nano, True)
    unknown, _ = ask(priced, service_tier="flex", stream=True)
    assert (unknown.cost_nano, unknown.usage) == (None, dear.usage)


def test_the_ledger_has_the_baseline_and_the_energy(priced: Gateway) -> None:
    row, _ = ask(priced)
    # claude-small: 600 plain at $1, 400 cached at $0.1, 200 out at $4, per million
    assert (row.reference_model, row.reference_nano) == ("claude-small", 1_440_000)
    assert (row.energy_low_mj, row.energy_high_mj) == (600 * 2 + 200 * 15, 1000 * 100 + 200 * 400)


def test_a_webhook_hears_of_a_budget(priced: Gateway, hook: Upstream) -> None:
    ask(priced, "small-key")
    (got,) = wait_for(lambda: hook.received or None)
    event = json.loads(got.body)
    assert got.path == "/in?token=T0KEN"
    assert event["type"] == "budget.warning"
    assert event["data"] | {"scope": "key", "name": "small", "percent": 50, "limit_usd": "0.001000"} == event["data"]
    signed = f"{got.header('webhook-id')}.{got.header('webhook-timestamp')}.".encode() + got.body
    expected = base64.b64encode(hmac.digest(HOOK_KEY, signed, "sha256")).decode()
    assert got.header("webhook-signature") == f"v1,{expected}"


def test_a_stop_tells_what_is_left(tmp_path: Path) -> None:
    """The receiver wants to be told again later than the gateway lives."""
    answers = [Answer(status=503, chunks=[b""], headers=(("retry-after", "300"),)), Answer(status=204, chunks=[b""])]
    with Upstream(lambda _: answers.pop(0)) as receiver, Upstream(tiered) as upstream:
        config = two_providers(upstream)
        budget = {"daily_limit_usd": 0.001, "warn_at": [50]}
        config["auth"] = {"keys": [{"key": "small-key", "name": "small", "budget": budget}]}
        secret = base64.b64encode(HOOK_KEY).decode()
        config["webhooks"] = [{"url": receiver.url, "secret": secret, "allow_private": True}]
        with running(tmp_path, config) as gateway:
            ask(gateway, "small-key")
            retried = 'aion_webhook_deliveries_total{result="retried"} 1.0'
            wait_for(lambda: retried in gateway.metrics() or None)
        assert len({got.header("webhook-id") for got in receiver.received}) == 1
        assert len(receiver.received) == 2
