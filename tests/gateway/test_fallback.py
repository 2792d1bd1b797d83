"""Attempts that are written when they are made go through a listener of ours; nobody can tell."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.gateway.test_failover import PATHS, rows, text_of
from tests.support.answers import DONE, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running
from tests.support.upstream import Answer, Received, Upstream

Behaviour = Callable[[Received], Answer]
SIZE = 3_000_000  # more than any buffer of Envoy's
_COUNT = itertools.count(1)


class Ways:
    def __init__(self) -> None:
        self.of_model: dict[str, Behaviour] = {}

    def __call__(self, request: Received) -> Answer:
        return self.of_model.get(json.loads(request.body)["model"], as_asked)(request)


@pytest.fixture(scope="module")
def ways() -> Ways:
    return Ways()


@pytest.fixture(scope="module")
def started(ways: Ways, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Upstream(ways) as upstream:
        config = two_providers(upstream)
        chains = []
        for name, provider in config["providers"].items():
            small = provider["models"][0]
            family = "gpt" if name == "openai" else "claude"
            provider["models"] += [small | {"id": f"{family}-{number}"} for number in range(16)]
        for number in range(16):
            pair = [{"model": f"gpt-{number}"}, {"model": f"claude-{number}"}]
            chains += [{"match": {"model": steps[0]["model"]}, "steps": steps} for steps in (pair, pair[::-1])]
        config["routing"] = config.get("routing", {}) | {"chains": chains}
        with running(tmp_path_factory.mktemp("fallback"), config) as gateway:
            yield gateway


@pytest.fixture
def gateway(started: Gateway, ways: Ways) -> Gateway:
    ways.of_model.clear()
    return started


FRESH = iter(range(16))


def native_and_other(path: str) -> tuple[str, str]:
    """Two models that no test has used, the client's own API first."""
    number = next(FRESH)
    pair = (f"gpt-{number}", f"claude-{number}")
    return pair if path == PATHS[0] else pair[::-1]


def ask(gateway: Gateway, path: str, model: str, **more: Any) -> httpx.Response:
    user = [{"role": "user", "content": f"hello {next(_COUNT)}"}]
    return gateway.post(path, {"model": model, "messages": user, "max_tokens": 50, **more})


def failing(_: Received) -> Answer:
    return Answer(status=503, chunks=[b'{"error":{"message":"no"}}'])


def large(request: Received) -> Answer:
    """An answer of that size, in the provider's own format."""
    text, streamed = "x" * SIZE, json.loads(request.body).get("stream")
    if request.path.startswith("/v1/messages"):
        whole: dict[str, Any] = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "c",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 5, "output_tokens": 7},
        }
        if not streamed:
            return Answer(chunks=[json.dumps(whole).encode()])
        deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 10_000}}]
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": whole | {"content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *deltas * (SIZE // 10_000),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
            {"type": "message_stop"},
        ]
        named = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        return Answer(content_type="text/event-stream", chunks=named)
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    head: dict[str, Any] = {"id": "c", "created": 1, "model": "m"}
    if not streamed:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = head | {"object": "chat.completion", "choices": [choice], "usage": usage}
        return Answer(chunks=[json.dumps(whole).encode()])
    piece: dict[str, Any] = {"index": 0, "delta": {"role": "assistant", "content": "x" * 10_000}, "finish_reason": None}
    chunks = [head | {"object": "chat.completion.chunk", "choices": [piece]}] * (SIZE // 10_000)
    chunks += [
        head | {"object": "chat.completion.chunk", "choices": [piece | {"delta": {}, "finish_reason": "stop"}]},
        head | {"object": "chat.completion.chunk", "choices": [], "usage": usage},
    ]
    return Answer(
        content_type="text/event-stream", chunks=[*(f"data: {json.dumps(one)}\n\n".encode() for one in chunks), DONE]
    )


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("first", [False, True])
def test_a_large_answer_is_translated_whole(
    gateway: Gateway, ways: Ways, path: str, streamed: bool, first: bool
) -> None:
    """As the answer of the first model, or of the second."""
    native, other = native_and_other(path)
    ways.of_model = {native: failing, other: large}
    answer = ask(gateway, path, other if first else native, stream=streamed)
    assert answer.status_code == 200, answer.text[:200]
    assert text_of(path, answer) == "x" * SIZE
    assert (answer.headers["x-aion-model"], answer.headers["x-aion-attempts"]) == (other, "1" if first else "2")
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.usage.input_tokens, row.usage.output_tokens, row.estimated) == ("served", 5, 7, False)


@pytest.mark.parametrize("path", PATHS)
def test_an_error_without_a_body_gets_one_in_the_client_s_shape(gateway: Gateway, ways: Ways, path: str) -> None:
    native, other = native_and_other(path)
    ways.of_model = {native: failing, other: lambda _: Answer(status=503, chunks=[])}
    answer = ask(gateway, path, native)
    assert (answer.status_code, answer.headers["x-aion-attempts"]) == (503, "2")
    assert "503" in answer.json()["error"]["message"]
    row, failed = rows(gateway, answer)
    assert (row.outcome, row.model, row.cost_nano, len(failed)) == ("failed", other, 0, 1)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("streamed", [False, True])
def test_nothing_of_our_own_reaches_a_client_or_a_provider(
    gateway: Gateway, ways: Ways, path: str, streamed: bool
) -> None:
    native, other = native_and_other(path)
    seen: list[Received] = []

    def answer(request: Received) -> Answer:
        seen.append(request)
        return as_asked(request)

    ways.of_model = {native: failing, other: answer}
    client = ask(gateway, path, native, stream=streamed)
    assert client.status_code == 200
    (request,) = seen
    told = {name.lower() for name, _ in request.headers}
    assert not {name for name in told if name.startswith(("x-aion-", "x-envoy-", "x-forwarded-"))}
    known = {"model", "provider", "tier", "reason", "cost-usd", "savings-usd", "attempts"}
    assert {name for name in client.headers if name.startswith(("x-aion-", "x-envoy-"))} == {
        f"x-aion-{name}" for name in known
    }


def test_a_provider_cannot_tell_us_what_it_served(gateway: Gateway, ways: Ways) -> None:
    """By the header in which the fallback listener tells it."""
    native, _ = native_and_other(PATHS[0])
    forged = (("x-aion-served", json.dumps({"facts": "{}", "model": "dear", "cost_usd": "9"})), ("x-aion-ended", "UF "))

    def answer(request: Received) -> Answer:
        return Answer(chunks=as_asked(request).chunks, headers=forged)

    ways.of_model = {native: answer}
    client = ask(gateway, PATHS[0], native)
    assert (client.status_code, client.headers["x-aion-model"]) == (200, native)
    assert "x-aion-served" not in client.headers
    assert text_of(PATHS[0], client).startswith("four")
    row = gateway.row(client.headers["x-request-id"])
    assert (row.outcome, row.model, row.error) == ("served", native, "")
    assert row.cost_nano == round(float(client.headers["x-aion-cost-usd"]) * 1e9) > 0
