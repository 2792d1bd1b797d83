"""A client of one API, a provider of the other: what goes out, what comes back, what is recorded, through Envoy."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from aion_extproc.accounting.usage import Usage
from tests.support.answers import CHAT, CHAT_EVENTS, CHAT_USAGE, DONE, MESSAGE, MESSAGE_EVENTS, as_asked
from tests.support.configs import ANTHROPIC_KEY, OPENAI_KEY, one_format, two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Answer, Received, Upstream

CHAT_PATH, MESSAGES_PATH = "/v1/chat/completions", "/v1/messages"
# The client's API → the provider that speaks only the other one.
FOREIGN = {CHAT_PATH: "anthropic", MESSAGES_PATH: "openai"}
HELLO = [{"role": "user", "content": "hello"}]
Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(as_asked) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[dict[str, Gateway]]:
    """By the client's path."""
    with contextlib.ExitStack() as stack:
        yield {
            path: stack.enter_context(running(tmp_path_factory.mktemp(kind), one_format(upstream, kind)))
            for path, kind in FOREIGN.items()
        }


@pytest.fixture(params=[CHAT_PATH, MESSAGES_PATH])
def path(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[str]:
    yield str(request.param)
    upstream.answer = as_asked


@pytest.fixture
def gateway(gateways: dict[str, Gateway], path: str) -> Gateway:
    return gateways[path]


# Asked for by name, because a model that is asked for by name is tried however often it has failed before.
MODELS = {CHAT_PATH: "claude-small", MESSAGES_PATH: "gpt-small"}


def body(path: str, stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": MODELS[path], "max_tokens": 64, "stream": stream, "messages": HELLO, **more}


def native(path: str) -> tuple[bytes, list[bytes]]:
    """What a provider of the other format answers a client of this API with: JSON and stream."""
    return (MESSAGE, MESSAGE_EVENTS) if path == CHAT_PATH else (CHAT, [*CHAT_EVENTS, CHAT_USAGE, DONE])


def text_of(path: str, answer: bytes) -> str:
    """Of a JSON answer in the client's own format."""
    said = json.loads(answer)
    return str(said["choices"][0]["message"]["content"] if path == CHAT_PATH else said["content"][-1]["text"])


def events(answer: bytes) -> list[Any]:
    lines = [line[6:] for line in answer.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def streamed_text(path: str, answer: bytes) -> str:
    found = events(answer)
    if path == CHAT_PATH:
        assert found[-1] == "[DONE]"
        return "".join(e["choices"][0]["delta"].get("content") or "" for e in found[:-1] if e["choices"])
    assert found[-1]["type"] == "message_stop"
    return "".join(e["delta"].get("text", "") for e in found if e["type"] == "content_block_delta")


def error_of(path: str, answer: httpx.Response) -> dict[str, Any]:
    """The error object, after checking that its shape is the client's."""
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    if path == MESSAGES_PATH:
        assert said["type"] == "error"
        assert said["request_id"] == answer.headers["x-request-id"]
    else:
        assert set(said["error"]) == {"message", "type", "param", "code"}
    return dict(said["error"])


def test_a_json_answer(gateway: Gateway, upstream: Upstream, path: str) -> None:
    answer = gateway.post(path, body(path), anthropic_beta="a-1", anthropic_version="2023-06-01")
    assert answer.status_code == 200
    assert text_of(path, answer.content) == ("four" if path == CHAT_PATH else "four é😀")
    sent = upstream.last
    assert sent.header("content-length") == str(len(sent.body))
    assert sent.header("content-type") == "application/json"
    if path == CHAT_PATH:
        assert (sent.path, sent.header("x-api-key")) == (MESSAGES_PATH, ANTHROPIC_KEY)
        assert (sent.header("anthropic-beta"), sent.header("anthropic-version")) == ("a-1", "2023-06-01")
    else:
        assert (sent.path, sent.header("authorization")) == (CHAT_PATH, f"Bearer {OPENAI_KEY}")
        assert not [name for name, _ in sent.headers if name.startswith("anthropic-")]
    row = gateway.row(answer.headers["x-request-id"])
    wanted = Usage(1000, 200, 400, 100, 40) if path == CHAT_PATH else Usage(1000, 200, 400, 0, 0, 50)
    assert (row.outcome, row.estimated, row.usage) == ("served", False, wanted)
    assert row.cost_nano is not None
    assert answer.headers["x-aion-cost-usd"] == f"{row.cost_nano / 1e9:.6f}"
    assert (row.path, row.format) == (path, "openai" if path == CHAT_PATH else "anthropic")


def test_a_stream_begins_when_the_provider_s_does(gateway: Gateway, upstream: Upstream, path: str) -> None:
    gate = threading.Event()
    _, chunks = native(path)
    upstream.answer = lambda _: Answer(content_type="text/event-stream", chunks=[chunks[0], gate, *chunks[1:]])
    with httpx.stream("POST", gateway.url + path, json=body(path, stream=True), timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        parts = answer.iter_raw()
        first = next(parts)
        assert first.startswith(b"data: " if path == CHAT_PATH else b"event: message_start\n")
        gate.set()
        whole = first + b"".join(parts)
    assert streamed_text(path, whole) == ("four" if path == CHAT_PATH else "four é")
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.estimated, row.error) == ("served", False, "")
    assert (row.usage.input_tokens, row.usage.output_tokens, row.usage.cache_read_tokens) == (1000, 200, 400)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_where_the_provider_cuts_its_stream_makes_no_difference(
    gateway: Gateway, upstream: Upstream, path: str, size: int
) -> None:
    whole = b"".join(native(path)[1])
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    upstream.answer = lambda _: Answer(content_type="text/event-stream; charset=utf-8", chunks=[*pieces, b"\n"])
    answer = gateway.post(path, body(path, stream=True))
    assert streamed_text(path, answer.content) == ("four" if path == CHAT_PATH else "four é")


def test_a_chat_client_gets_the_usage_chunk_only_when_it_asks(gateways: dict[str, Gateway], upstream: Upstream) -> None:
    upstream.answer = as_asked
    gateway = gateways[CHAT_PATH]
    plain = events(gateway.post(CHAT_PATH, body(CHAT_PATH, stream=True)).content)
    assert not [event for event in plain[:-1] if event.get("usage")]
    asked = body(CHAT_PATH, stream=True, stream_options={"include_usage": True})
    *_, usage, done = events(gateway.post(CHAT_PATH, asked).content)
    assert (usage["choices"], done) == ([], "[DONE]")
    assert usage["usage"]["prompt_tokens"] == 1000
    assert usage["usage"]["prompt_tokens_details"]["cached_tokens"] == 400


def test_a_client_that_leaves_ends_the_provider_s_request(gateway: Gateway, upstream: Upstream, path: str) -> None:
    upstream.disconnected.clear()
    never = threading.Event()
    chunks = native(path)[1]
    upstream.answer = lambda _: Answer(content_type="text/event-stream", chunks=[chunks[0], never, *chunks[1:]])
    with httpx.stream("POST", gateway.url + path, json=body(path, stream=True), timeout=20) as answer:
        next(answer.iter_raw())
    assert upstream.disconnected.wait(10)
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.estimated) == ("cut", "client_gone", True)


def test_an_error_keeps_its_status_and_its_headers(gateway: Gateway, upstream: Upstream, path: str) -> None:
    theirs = (
        {"error": {"message": "slow down", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}
        if path == MESSAGES_PATH
        else {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    )
    limits = (("retry-after", "7"), ("x-ratelimit-remaining-tokens", "0"), ("anthropic-ratelimit-x", "1"))
    upstream.answer = lambda _: Answer(429, chunks=[json.dumps(theirs).encode()], headers=limits)
    for stream in (False, True):
        answer = gateway.post(path, body(path, stream))
        assert answer.status_code == 429
        error = error_of(path, answer)
        assert (error["type"], error["message"]) == ("rate_limit_error", "slow down")
        assert {name: answer.headers[name] for name, _ in limits} == dict(limits)
        row = gateway.row(answer.headers["x-request-id"])
        assert (row.outcome, row.error, row.cost_nano) == ("failed", "provider_429", 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        (Answer(503, content_type="text/html", chunks=[b"<h1>Bad &amp; broken</h1>"]), 503, "provider_503"),
        (Answer(500, content_type="text/plain", chunks=[b""]), 500, "provider_500"),
        (Answer(307, chunks=[b"{}"], headers=(("location", "/elsewhere"),)), 502, "provider_502"),
        (Answer(content_type="text/html", chunks=[b"<h1>Hello</h1>"]), 502, "bad_answer"),
        (Answer(chunks=[b'{"type":"error","error":{"type":"api_error","message":"no"}}']), None, None),
        (Answer(chunks=[b'{"error":{"message":"no","type":"server_error"}}']), None, None),
        (Answer(chunks=[b"{\"cut\": "]), 502, "bad_answer"),
        (Answer(chunks=[b""]), 502, "bad_answer"),
    ],
    ids=["page", "empty", "redirect", "page-as-200", "error-as-200", "chat-error-as-200", "cut", "nothing"],
)
def test_what_is_no_answer_becomes_an_error(
    gateway: Gateway, upstream: Upstream, path: str, given: Answer, status: int | None, code: str | None, stream: bool
) -> None:
    upstream.answer = lambda _: given
    answer = gateway.post(path, body(path, stream))
    assert answer.status_code >= 400
    if status is not None:
        assert answer.status_code == status
    assert error_of(path, answer)["message"]
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.cost_nano) == ("failed", 0)
    if code is not None:
        assert row.error == code


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_compressed_though_nobody_asked(
    gateway: Gateway, upstream: Upstream, path: str, stream: bool
) -> None:
    whole, chunks = native(path)
    packed = gzip.compress(b"".join(chunks) if stream else whole)
    content_type = "text/event-stream" if stream else "application/json"
    upstream.answer = lambda _: Answer(
        content_type=content_type, chunks=[packed], headers=(("content-encoding", "gzip"),)
    )
    answer = gateway.post(path, body(path, stream))
    read = streamed_text if stream else text_of
    assert read(path, answer.content).startswith("four")


def last_error(path: str, answer: bytes) -> str:
    """The message of the error that a stream ended with, in the client's own words."""
    last = events(answer)[-1]
    assert last != "[DONE]"
    if path == MESSAGES_PATH:
        assert last["type"] == "error"
        assert answer.rindex(b"event: error\n") > 0
    return str(last["error"]["message"])


def test_an_error_inside_a_stream(gateway: Gateway, upstream: Upstream, path: str) -> None:
    first = native(path)[1][0]
    theirs = (
        b'data: {"error":{"message":"overloaded","type":"server_error","code":503}}\n\n'
        if path == MESSAGES_PATH
        else b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"overloaded"}}\n\n'
    )
    upstream.answer = lambda _: Answer(content_type="text/event-stream", chunks=[first, theirs])
    answer = gateway.post(path, body(path, stream=True))
    assert "overloaded" in last_error(path, answer.content)
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.estimated) == ("cut", "error_event", True)


def test_a_stream_that_stops_before_its_end(gateway: Gateway, upstream: Upstream, path: str) -> None:
    chunks = native(path)[1][:2]
    upstream.answer = lambda _: Answer(content_type="text/event-stream", chunks=[*chunks, b'data: {"cu'])
    answer = gateway.post(path, body(path, stream=True))
    assert last_error(path, answer.content)
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error) == ("cut", "cut_stream")


def test_a_connection_that_breaks_inside_a_stream(gateway: Gateway, upstream: Upstream, path: str) -> None:
    """Envoy can only break off in turn; the client must not take what came for the whole."""
    gate = threading.Event()
    first, second = native(path)[1][:2]
    upstream.answer = lambda _: Answer(
        content_type="text/event-stream", chunks=[first, gate, second], break_off=True
    )
    with httpx.stream("POST", gateway.url + path, json=body(path, stream=True), timeout=20) as answer:
        parts = answer.iter_raw()
        assert next(parts)
        gate.set()
        with pytest.raises(httpx.RemoteProtocolError):
            list(parts)
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.estimated) == ("cut", "upstream_protocol_error", True)


def test_a_connection_that_breaks_before_anything_reached_the_client(
    gateway: Gateway, upstream: Upstream, path: str
) -> None:
    upstream.answer = lambda _: Answer(chunks=[native(path)[0][:50]], break_off=True)
    answer = gateway.post(path, body(path))
    assert answer.status_code in (502, 503)
    error_of(path, answer)
    assert gateway.row(answer.headers["x-request-id"]).outcome == "failed"


def test_envoy_s_own_errors_have_the_client_s_shape_too(gateway: Gateway, upstream: Upstream, path: str) -> None:
    upstream.answer = lambda _: Answer(hang_up_first=True)
    for stream in (False, True):
        answer = gateway.post(path, body(path, stream))
        assert answer.status_code in (502, 503)
        assert "provider" in error_of(path, answer)["message"]


def test_without_a_worker_no_foreign_answer_comes_through(gateway: Gateway, upstream: Upstream, path: str) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer_late(_: Received) -> Answer:
        asked.set()
        go_on.wait(10)
        return Answer(chunks=[native(path)[0]])

    upstream.answer = answer_late
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(gateway.post(path, body(path))))
    client.start()
    assert asked.wait(10)
    (pid,) = gateway.children("extproc.worker")
    os.kill(pid, signal.SIGSTOP)
    go_on.set()
    client.join(20)
    wait_for(lambda: gateway.children("extproc.worker") not in ([], [pid]))
    assert answers[0].status_code >= 500
    error_of(path, answers[0])
    upstream.answer = as_asked
    wait_for(lambda: gateway.post(path, body(path)).status_code == 200)


def test_what_cannot_be_said_is_named(gateways: dict[str, Gateway]) -> None:
    answer = gateways[CHAT_PATH].post(CHAT_PATH, body(CHAT_PATH, seed=7, logprobs=True))
    assert answer.status_code == 200
    assert set(answer.headers["x-aion-dropped"].split(",")) == {"logprobs", "seed"}
    answer = gateways[MESSAGES_PATH].post(MESSAGES_PATH, body(MESSAGES_PATH, top_k=3))
    assert "top_k" in answer.headers["x-aion-dropped"].split(",")
    assert "x-aion-dropped" not in gateways[MESSAGES_PATH].post(MESSAGES_PATH, body(MESSAGES_PATH)).headers


def test_what_must_not_be_lost_is_refused(gateways: dict[str, Gateway], upstream: Upstream) -> None:
    before = len(upstream.received)
    answer = gateways[CHAT_PATH].post(CHAT_PATH, body(CHAT_PATH, n=2))
    assert answer.status_code == 400
    error = error_of(CHAT_PATH, answer)
    assert error["param"] == "n"
    assert len(upstream.received) == before
    assert gateways[CHAT_PATH].row(answer.headers["x-request-id"]).outcome == "refused"


def test_a_model_that_can_take_it_is_preferred_to_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> None:
    """Only the dearer tier speaks the client's format here, and n=2 can be said in no other."""
    config = two_providers(upstream)
    providers = config["providers"]
    providers["openai"]["models"] = [m for m in providers["openai"]["models"] if m["tier"] == 3]
    auto = body(CHAT_PATH, model="aion-auto")
    with running(tmp_path_factory.mktemp("both"), config) as gateway:
        assert gateway.post(CHAT_PATH, auto).headers["x-aion-model"] == "claude-small"
        assert gateway.post(CHAT_PATH, {**auto, "n": 2}).headers["x-aion-model"] == "gpt-large"
        assert gateway.post(CHAT_PATH, body(CHAT_PATH, n=2, model="claude-mid")).status_code == 400
