"""Conversations through the real Envoy and two workers: they keep their model, and who asks again gets a better one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.answers import CHAT as CHAT_ANSWER
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Answer, Received, Upstream

LONG = "word " * 20_000  # about 25,000 tokens


class Provider:
    """Answers with a count of what it was sent, but for the models that are `ill`."""

    def __init__(self) -> None:
        self.ill: set[str] = set()

    def __call__(self, request: Received) -> Answer:
        if json.loads(request.body)["model"] in self.ill:
            return Answer(status=500, chunks=[b'{"error":{"message":"no","type":"x"}}'])
        answer = json.loads(CHAT_ANSWER)
        answer["usage"] = {"prompt_tokens": len(request.body) // 4, "completion_tokens": 9}
        return Answer(chunks=[json.dumps(answer).encode()])


def model(name: str, tier: int, price: float) -> dict[str, Any]:
    prices = {"input_price_per_1m": price, "output_price_per_1m": price, "cache_read_price_per_1m": price / 10}
    return {"id": name, "tier": tier, **prices}


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture(scope="module")
def upstream(provider: Provider) -> Iterator[Upstream]:
    with Upstream(provider) as started:
        yield started


def config(upstream: Upstream, workers: int) -> dict[str, Any]:
    models = [model("cheap", 1, 1), model("dear", 1, 2), model("better", 2, 5), model("best", 3, 9)]
    provider = {"kind": "openai", "api_key": "k", "base_url": f"{upstream.url}/v1", "models": models}
    return {"gateway": {"workers": workers}, "providers": {"p": provider}}


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("conversations"), config(upstream, 2)) as started:
        yield started


def ask(gateway: Gateway, *said: str, **headers: str) -> httpx.Response:
    """`said`: by the user and the assistant in turn."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    body = {"model": "aion-auto", "messages": messages, "max_tokens": 50}
    answer = gateway.post("/v1/chat/completions", body, **headers)
    assert answer.status_code == 200, answer.text
    return answer


def model_of(answer: httpx.Response) -> str:
    return str(answer.headers["x-aion-model"])


def reason_of(answer: httpx.Response) -> str:
    return str(answer.headers["x-aion-reason"]).partition(":")[0]


def test_who_asks_again_gets_a_better_model(gateway: Gateway) -> None:
    assert model_of(ask(gateway, "hello")) == "cheap"

    def again() -> httpx.Response | None:
        # Until Envoy has told of the answer, and that worker the other one, it is a duplicate and goes where it went.
        answer = ask(gateway, "hello")
        return answer if model_of(answer) != "cheap" else None

    answer = wait_for(again)
    assert (model_of(answer), reason_of(answer)) == ("better", "tier 2, asked again")
    assert model_of(ask(gateway, "hello, how are you?")) == "cheap"


def test_an_sdk_that_repeats_itself_does_not_ask_again(gateway: Gateway) -> None:
    first = ask(gateway, "hello there")
    gateway.row(first.headers["x-request-id"])
    for count in ("1", "2", "3"):
        assert model_of(ask(gateway, "hello there", x_stainless_retry_count=count)) == "cheap"


def test_a_long_conversation_stays_where_its_prompt_cache_is(
    provider: Provider, upstream: Upstream, tmp_path: Path
) -> None:
    # One worker: when it has written the row it knows who has served.
    with running(tmp_path, config(upstream, 1)) as gateway:
        for text, expected in ((LONG, "dear"), ("hello", "cheap")):
            provider.ill = {"cheap"}
            first = ask(gateway, text, x_aion_session=expected)
            provider.ill = set()
            assert gateway.row(first.headers["x-request-id"]).model == "dear"
            second = ask(gateway, text, "ok", "thanks", x_aion_session=expected)
            # A short one does not pay the dearer model's answers for what little it has cached there.
            assert model_of(second) == expected
            assert ("kept for its prompt cache" in reason_of(second)) == (expected == "dear")
    assert all(received.header("x-aion-session") is None for received in upstream.received)
