"""Endpoints beside the two chat APIs: passed through byte for byte, routed by model, with usage and cost recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from aion_extproc.accounting.usage import Usage
from tests.support.answers import as_asked
from tests.support.configs import OPENAI_KEY, one_format, two_providers
from tests.support.gateway import Gateway, running
from tests.support.upstream import Answer, Received, Upstream

EMBEDDING = (
    b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10,-2.5e-3]}],'
    b'"model":"embed-1","usage":{"prompt_tokens":1000,"total_tokens":1000}}'
)
COMPLETION = (
    b'{"id":"cmpl-1","object":"text_completion","created":1,"model":"old-1","choices":[{"text":" four","index":0,'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}}'
)
_RESPONSE_USAGE = (
    b'"usage":{"input_tokens":1000,"input_tokens_details":{"cached_tokens":400},"output_tokens":200,'
    b'"output_tokens_details":{"reasoning_tokens":50},"total_tokens":1200}'
)
RESPONSE = (
    b'{ "id":"resp_1","object":"response","created_at":1,"status":"completed","model":"m","output":[{"type":"message",'
    b'"id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"four","annotations":[]}]}],'
    + _RESPONSE_USAGE
    + b"}"
)
RESPONSE_EVENTS = [
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1","usage":null}}\n\n',
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"fo\xc3\xa9"}\n\n',
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1",'
    + _RESPONSE_USAGE
    + b"}}\n\n",
]
COUNTED = b'{"input_tokens": 14}'


def answers(request: Received) -> Answer:
    stream = json.loads(request.body).get("stream")
    if request.path.startswith("/v1/messages/count_tokens"):
        return Answer(chunks=[COUNTED])
    if request.path == "/v1/embeddings":
        return Answer(chunks=[EMBEDDING])
    if request.path == "/v1/completions":
        return Answer(chunks=[COMPLETION])
    if request.path == "/v1/responses":
        if stream:
            return Answer(content_type="text/event-stream", chunks=RESPONSE_EVENTS)
        return Answer(chunks=[RESPONSE])
    return as_asked(request)


def config(upstream: Upstream) -> dict[str, Any]:
    found = two_providers(upstream)
    prices = {"input_price_per_1m": 0.1, "output_price_per_1m": 0.2}
    found["providers"]["openai"]["models"] += [
        {"id": "embed-1", "mode": "embedding", **prices},
        {"id": "old-1", "mode": "completion", **prices},
    ]
    return found


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(answers) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("endpoints"), config(upstream)) as gateway:
        yield gateway


def test_embeddings(gateway: Gateway, upstream: Upstream) -> None:
    raw = b'{"model": "embed-1",  "input":["a text", "caf\\u00e9"],"dimensions":2, "big":12345678901234567890}'
    answer = gateway.post("/v1/embeddings", raw)
    assert (answer.status_code, answer.content) == (200, EMBEDDING)
    assert (upstream.last.path, upstream.last.body) == ("/v1/embeddings", raw)
    assert upstream.last.header("authorization") == f"Bearer {OPENAI_KEY}"
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.usage, row.estimated, row.cost_nano) == (Usage(1000), False, 100_000)
    assert row.model == "embed-1"


def test_embeddings_too_large_to_hold(gateway: Gateway, upstream: Upstream) -> None:
    whole = EMBEDDING.replace(b"0.10,", b"0.12345678," * 500_000)
    pieces = [whole[at : at + 65536] for at in range(0, len(whole), 65536)]  # in chunks: nobody knows how many come
    upstream.answer = lambda _: Answer(chunks=pieces)
    answer = gateway.post("/v1/embeddings", {"model": "embed-1", "input": "x"})
    upstream.answer = answers
    assert answer.content == whole
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.usage, row.estimated, row.cost_nano) == (Usage(1000), False, 100_000)


def test_completions(gateway: Gateway, upstream: Upstream) -> None:
    raw = b'{"model":"old-1","prompt":"two and two is","max_tokens": 5}'
    answer = gateway.post("/v1/completions", raw)
    assert (answer.status_code, answer.content) == (200, COMPLETION)
    assert upstream.last.body == raw
    assert answer.headers["x-aion-cost-usd"] == "0.000012"
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.usage, row.cost_nano) == (Usage(100, 10), 12_000)


def test_a_concrete_model_of_the_responses_api(gateway: Gateway, upstream: Upstream) -> None:
    raw = b'{"model":"gpt-mid","input":"hello" , "store":false}'
    answer = gateway.post("/v1/responses", raw)
    assert (answer.status_code, answer.content) == (200, RESPONSE)
    assert upstream.last.body == raw
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.usage, row.estimated) == (Usage(1000, 200, 400, 0, 0, 50), False)
    assert answer.headers["x-aion-cost-usd"] == f"{(row.cost_nano or 0) / 1e9:.6f}"


def test_the_tiers_serve_the_responses_api_too(gateway: Gateway, upstream: Upstream) -> None:
    easy = {"model": "aion-auto", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}
    answer = gateway.post("/v1/responses", easy)
    assert (answer.headers["x-aion-model"], answer.headers["x-aion-tier"]) == ("gpt-small", "1")
    assert json.loads(upstream.last.body)["model"] == "gpt-small"
    hard = (
        "Design a distributed consensus protocol that tolerates Byzantine faults, prove its safety and liveness, "
        "analyse the trade-offs of the architecture and implement it in Rust step by step with a migration plan."
    )
    answer = gateway.post("/v1/responses", {"model": "aion-auto", "instructions": "Think.", "input": hard})
    assert int(answer.headers["x-aion-tier"]) > 1


def test_a_stream_of_the_responses_api(gateway: Gateway) -> None:
    answer = gateway.post("/v1/responses", {"model": "aion-auto", "input": "hello", "stream": True})
    assert answer.content == b"".join(RESPONSE_EVENTS)
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.usage, row.estimated) == ("served", Usage(1000, 200, 400, 0, 0, 50), False)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/embeddings", {"model": "aion-auto", "input": "x"}, "model_required"),
        ("/v1/completions", {"model": "aion-auto", "prompt": "x"}, "model_required"),
        ("/v1/embeddings", {"model": "gpt-small", "input": "x"}, "endpoint_not_available"),
        ("/v1/responses", {"model": "claude-small", "input": "x"}, "endpoint_not_available"),
        ("/v1/chat/completions", {"model": "embed-1", "messages": [{"role": "user", "content": "x"}]}, None),
        ("/v1/embeddings", {"model": "embed-1"}, "invalid_type"),
        ("/v1/responses", {"model": "aion-auto"}, "invalid_type"),
        ("/v1/responses", {"input": "x"}, "missing_field"),
    ],
)
def test_what_cannot_be_served_is_said(
    gateway: Gateway, upstream: Upstream, path: str, body: dict[str, Any], code: str | None
) -> None:
    before = len(upstream.received)
    answer = gateway.post(path, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code or code is None
    assert len(upstream.received) == before
    assert gateway.row(answer.headers["x-request-id"]).outcome == "refused"


def count(model: str = "aion-auto") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "word " * 200}]}


def test_tokens_are_counted_where_the_provider_can(gateway: Gateway, upstream: Upstream) -> None:
    answer = gateway.post("/v1/messages/count_tokens?beta=true", count())
    assert (answer.status_code, answer.content) == (200, COUNTED)
    assert upstream.last.path == "/v1/messages/count_tokens?beta=true"
    assert answer.headers["x-aion-cost-usd"] == "0.000000"
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.usage, row.estimated, row.cost_nano) == ("served", Usage(), False, 0)


def test_tokens_are_estimated_where_it_cannot(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> None:
    with running(tmp_path_factory.mktemp("count"), one_format(upstream, "openai")) as gateway:
        before = len(upstream.received)
        answer = gateway.post("/v1/messages/count_tokens", count())
        assert answer.status_code == 200
        assert 200 <= answer.json()["input_tokens"] <= 400
        assert answer.headers["x-aion-estimated"] == "true"
        assert answer.headers["x-aion-cost-usd"] == "0.000000"
        assert len(upstream.received) == before
        row = gateway.row(answer.headers["x-request-id"])
        assert (row.outcome, row.status, row.usage, row.cost_nano) == ("served", 200, Usage(), 0)
