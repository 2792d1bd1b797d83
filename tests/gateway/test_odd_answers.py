"""Bodies that are compressed, and answers that are none: what a client gets of them, through a real Envoy."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.answers import CHAT, CHAT_EVENTS, CHAT_USAGE, DONE, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running
from tests.support.upstream import Answer, Upstream

PATHS = ("/v1/chat/completions", "/v1/messages")
PAGE = (
    b"<html><head><title>Bad gateway</title><style>p{color:red}</style></head><body><p>\"no\\way\"</p>\n</body></html>"
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(as_asked) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("odd"), two_providers(upstream)) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def _as_before(upstream: Upstream) -> Iterator[None]:
    yield
    upstream.answer = as_asked


def ask(path: str, stream: bool = False, **more: Any) -> dict[str, Any]:
    # By name: a model that was asked for by name is tried however often it has failed before.
    model = "gpt-small" if path == PATHS[0] else "claude-small"
    hello = {"role": "user", "content": "hello"}
    return {"model": model, "max_tokens": 64, "stream": stream, "messages": [hello], **more}


def shape(path: str, answer: httpx.Response) -> str:
    """The message of an error, after checking that it has the shape of the API."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    if path == "/v1/messages":
        assert body["type"] == "error"
        assert body["request_id"] == answer.headers["x-request-id"]
        assert set(body["error"]) == {"type", "message"}
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
    return str(body["error"]["message"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_html_page_becomes_an_error_of_the_api(
    gateway: Gateway, upstream: Upstream, path: str, stream: bool
) -> None:
    upstream.answer = lambda _: Answer(status=503, content_type="text/html; charset=utf-8", chunks=[PAGE])
    answer = gateway.post(path, ask(path, stream))
    assert answer.status_code == 503
    assert shape(path, answer) == (
        'The model provider answered 503 with text/html: Bad gateway "no\\way"'
    )
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.cost_nano) == ("failed", "provider_503", 0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_page_under_a_200_is_no_success(gateway: Gateway, upstream: Upstream, path: str, stream: bool) -> None:
    upstream.answer = lambda _: Answer(content_type="text/html", chunks=[PAGE])
    answer = gateway.post(path, ask(path, stream))
    assert answer.status_code == 502
    assert "answered 200 with text/html: Bad gateway" in shape(path, answer)
    assert gateway.row(answer.headers["x-request-id"]).outcome == "failed"


@pytest.mark.parametrize("path", PATHS)
def test_an_error_without_a_body(gateway: Gateway, upstream: Upstream, path: str) -> None:
    upstream.answer = lambda _: Answer(status=502, content_type="", chunks=[b""])
    answer = gateway.post(path, ask(path))
    assert answer.status_code == 502
    assert shape(path, answer) == "The model provider answered 502 with no content type and no text."


def test_errors_in_the_api_s_own_shape_pass_as_they_are(gateway: Gateway, upstream: Upstream) -> None:
    body = b'{"error": {"message":"slow <b>down</b>", "type":"rate_limit_error","param":null,"code":null }}'
    limits = (("retry-after", "7"), ("x-ratelimit-remaining-requests", "0"), ("x-request-id", "theirs"))
    upstream.answer = lambda _: Answer(status=429, chunks=[body], headers=limits)
    answer = gateway.post(PATHS[0], ask(PATHS[0]))
    assert (answer.status_code, answer.content) == (429, body)
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert answer.headers["x-aion-provider-request-id"] == "theirs"


def test_an_answer_compressed_though_nobody_asked(gateway: Gateway, upstream: Upstream) -> None:
    packed = gzip.compress(CHAT)
    upstream.answer = lambda _: Answer(chunks=[packed], headers=(("content-encoding", "gzip"),))
    answer = gateway.post(PATHS[0], ask(PATHS[0]))
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == CHAT  # httpx has decompressed it, as the SDKs do
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.usage.input_tokens, row.usage.output_tokens, row.estimated) == (1000, 200, False)


def test_a_compressed_stream_reaches_the_client_as_it_is(gateway: Gateway, upstream: Upstream) -> None:
    """Nobody counts in it, so the row is an estimate and says so."""
    plain = b"".join([*CHAT_EVENTS, CHAT_USAGE, DONE])
    upstream.answer = lambda _: Answer(
        content_type="text/event-stream", chunks=[gzip.compress(plain)], headers=(("content-encoding", "gzip"),)
    )
    answer = gateway.post(PATHS[0], ask(PATHS[0], stream=True))
    assert answer.content == plain
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.estimated) == ("served", True)


@pytest.mark.parametrize("path", PATHS)
def test_a_compressed_request_is_read(gateway: Gateway, upstream: Upstream, path: str) -> None:
    raw = json.dumps(ask(PATHS[0])).encode()
    answer = gateway.post(path, gzip.compress(raw), content_encoding="gzip")
    assert answer.status_code == 200
    assert upstream.last.header("content-encoding") is None
    assert json.loads(upstream.last.body)["messages"] == ask(path)["messages"]
    assert upstream.last.header("content-length") == str(len(upstream.last.body))


def test_a_body_that_only_says_it_is_compressed_is_an_error(gateway: Gateway, upstream: Upstream) -> None:
    before = len(upstream.received)
    answer = gateway.post(PATHS[0], json.dumps(ask(PATHS[0])).encode(), content_encoding="gzip")
    assert answer.status_code == 400
    shape(PATHS[0], answer)
    assert len(upstream.received) == before


def bomb() -> bytes:
    return gzip.compress(b" " * (80 << 20), 9)


def test_a_small_body_cannot_grow_without_bound(gateway: Gateway, upstream: Upstream) -> None:
    before = len(upstream.received)
    answer = gateway.post(PATHS[0], bomb(), content_encoding="gzip")
    assert answer.status_code in (400, 413)
    shape(PATHS[0], answer)
    assert len(upstream.received) == before


