"""A model that fails is nothing that the client notices: the next one of the chain answers, in the client's format."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from tests.support.answers import CHAT_EVENTS, MESSAGE_EVENTS, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, free_ports, running
from tests.support.upstream import Answer, Received, Upstream

PATHS = ["/v1/chat/completions", "/v1/messages"]
GROUPS = 64
_COUNT = itertools.count(1)
Behaviour = Callable[[Received], Answer]


def status(code: int, *headers: tuple[str, str]) -> Behaviour:
    return lambda _: Answer(status=code, chunks=[b'{"error":{"message":"no","type":"x"}}'], headers=headers)


def hang_up(_: Received) -> Answer:
    return Answer(hang_up_first=True)


def page(_: Received) -> Answer:
    return Answer(status=502, content_type="text/html", chunks=[b"<html><body>Bad gateway</body></html>"])


class Failing:
    """Models that fail, each in its way; the others answer as they are asked."""

    def __init__(self) -> None:
        self.ways: dict[str, Behaviour] = {}
        self.asked: list[str] = []

    def __call__(self, request: Received) -> Answer:
        model = json.loads(request.body)["model"]
        self.asked.append(model)
        return self.ways.get(model, as_asked)(request)


@pytest.fixture(scope="module")
def failing() -> Failing:
    return Failing()


@pytest.fixture(scope="module")
def upstream(failing: Failing) -> Iterator[Upstream]:
    with Upstream(failing) as started:
        yield started


@pytest.fixture(scope="module")
def started(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = two_providers(upstream, gateway={"first_byte_timeout": "300ms"}, routing={"chains": CHAINS})
    for name, provider in config["providers"].items():
        small, mid = provider["models"][:2]
        family = "gpt" if name == "openai" else "claude"
        provider["models"] += [small | {"id": f"{family}-{number}"} for number in range(GROUPS)]
        provider["models"] += [mid | {"id": f"{family}-{number}-up"} for number in range(GROUPS)]
    with running(tmp_path_factory.mktemp("failover"), config) as gateway:
        yield gateway


def chain_of(first: str, second: str, number: int) -> list[str]:
    return [f"{first}-{number}", f"{second}-{number}", f"{first}-{number}-up", f"{second}-{number}-up"]


# Models that have failed are left out for a while, so each test has some of its own.
FRESH = iter(range(GROUPS))
CHAINS = [
    {"match": {"model": chain[0]}, "steps": [{"model": model} for model in chain]}
    for number in range(GROUPS)
    for chain in (chain_of("gpt", "claude", number), chain_of("claude", "gpt", number))
]


def fresh_chain(path: str) -> list[str]:
    """Four models that no other test has used, the client's own API first."""
    return chain_of("gpt", "claude", next(FRESH)) if path == PATHS[0] else chain_of("claude", "gpt", next(FRESH))


@pytest.fixture
def gateway(started: Gateway, upstream: Upstream, failing: Failing) -> Gateway:
    failing.ways.clear()
    failing.asked.clear()
    upstream.received.clear()
    upstream.disconnected.clear()
    return started


def ask(gateway: Gateway, path: str, model: str, **more: Any) -> httpx.Response:
    return gateway.post(path, {"model": model, "messages": user(), "max_tokens": 50, **more})


def user() -> list[dict[str, str]]:
    """A conversation that nobody has had before: it keeps to no model."""
    return [{"role": "user", "content": f"hello {next(_COUNT)}"}]


def text_of(path: str, answer: httpx.Response) -> str:
    """The text of an answer, which must be whole and in the client's format."""
    chat = path == PATHS[0]
    if "event-stream" not in answer.headers["content-type"]:
        body = answer.json()
        found = body["choices"][0]["message"]["content"] if chat else body["content"][0]["text"]
        assert isinstance(found, str)
        return found
    lines = answer.text.splitlines()
    if chat:
        assert lines[-2:] == ["data: [DONE]", ""]
    data = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    if chat:
        assert all(event["choices"] for event in data), "a usage chunk that nobody asked for"
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in data)
    assert (data[0]["type"], data[-1]["type"]) == ("message_start", "message_stop")
    return "".join(event["delta"].get("text", "") for event in data if event["type"] == "content_block_delta")


def rows(gateway: Gateway, answer: httpx.Response) -> tuple[LedgerRow, list[AttemptRow]]:
    """The request's row and those of its failed attempts."""
    row = gateway.row(answer.headers["x-request-id"])
    return row, gateway.attempts(row.request_id)


FAILURES: list[tuple[Behaviour, int, str]] = [
    (status(500), 500, "provider_500"),
    (status(503), 503, "provider_503"),
    (status(529), 529, "provider_529"),
    (status(429, ("retry-after", "7")), 429, "provider_429"),
    (status(401), 401, "provider_401"),
    (status(404), 404, "provider_404"),
    (page, 502, "provider_502"),
    (hang_up, 0, "upstream_closed"),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("way", "code", "error"), FAILURES, ids=[error for _, _, error in FAILURES])
def test_the_next_model_answers(
    gateway: Gateway, failing: Failing, path: str, streamed: bool, way: Behaviour, code: int, error: str
) -> None:
    first, second, *_ = fresh_chain(path)
    failing.ways[first] = way
    answer = ask(gateway, path, first, stream=streamed)
    assert answer.status_code == 200, answer.text
    assert text_of(path, answer).startswith("four")
    assert failing.asked == [first, second]
    told = answer.headers
    assert (told["x-aion-model"], told["x-aion-attempts"]) == (second, "2")
    row, failed = rows(gateway, answer)
    assert (row.outcome, row.model, row.attempts, row.estimated) == ("served", second, 2, False)
    # 1000 tokens in, 400 of them from the cache, 200 out: by the prices of the model that served.
    claude = second.startswith("claude")
    price = 1.0 if claude else 0.5
    written = 0.0
    if claude:
        written = 100 * price * 1.25 if streamed else 60 * price * 1.25 + 40 * price * 2
    plain = 500 if claude else 600
    assert row.cost_nano == round((plain * price + 400 * price / 10 + written + 200 * price * 4) * 1000)
    if not streamed:
        assert float(told["x-aion-cost-usd"]) == row.cost_nano / 1e9
    assert [(one.number, one.model, one.status, one.error) for one in failed] == [(1, first, code, error)]
    assert failed[0].latency_ms > 0
    if code:
        assert failed[0].cost_nano == 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_a_chain_is_walked_to_its_end(gateway: Gateway, failing: Failing, path: str, streamed: bool) -> None:
    chain = fresh_chain(path)
    failing.ways |= {chain[0]: status(429), chain[1]: hang_up, chain[2]: status(500)}
    answer = ask(gateway, path, chain[0], stream=streamed)
    assert text_of(path, answer).startswith("four")
    assert failing.asked == chain
    assert (answer.headers["x-aion-model"], answer.headers["x-aion-attempts"]) == (chain[3], "4")
    assert answer.headers["x-aion-tier"] == "2"
    row, failed = rows(gateway, answer)
    assert (row.model, row.attempts, row.tier) == (chain[3], 4, 2)
    assert [(one.number, one.model) for one in failed] == [(1, chain[0]), (2, chain[1]), (3, chain[2])]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("path", "more"), [(PATHS[0], {"n": 2}), (PATHS[1], {"thread": {"type": "continue"}})])
def test_a_model_that_cannot_be_told_the_request_is_left_out(
    gateway: Gateway, failing: Failing, path: str, more: dict[str, Any], streamed: bool
) -> None:
    first, _, third, _ = fresh_chain(path)
    failing.ways[first] = status(503)
    answer = ask(gateway, path, first, stream=streamed, **more)
    assert answer.status_code == 200, answer.text
    assert text_of(path, answer).startswith("four")
    assert failing.asked == [first, third]
    assert (answer.headers["x-aion-model"], answer.headers["x-aion-attempts"]) == (third, "2")
    row, failed = rows(gateway, answer)
    assert (row.outcome, row.model, row.attempts) == ("served", third, 2)
    assert [(one.number, one.model, one.error) for one in failed] == [(1, first, "provider_503")]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_when_all_fail_the_client_gets_the_last_error_in_its_own_shape(
    gateway: Gateway, failing: Failing, path: str, streamed: bool
) -> None:
    chain = fresh_chain(path)
    failing.ways |= dict.fromkeys(chain, status(503, ("retry-after", "3")))
    answer = ask(gateway, path, chain[0], stream=streamed)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "3"
    error = answer.json()
    assert error["error"]["message"] == "no"
    assert ("request_id" in error) == (path == "/v1/messages")
    assert answer.headers["x-aion-cost-usd"] == "0.000000"
    row, failed = rows(gateway, answer)
    assert (row.outcome, row.model, row.attempts, row.cost_nano) == ("failed", chain[3], 4, 0)
    assert len(failed) == 3


@pytest.mark.parametrize("code", [400, 413, 422])
@pytest.mark.parametrize("path", PATHS)
def test_what_is_wrong_with_the_request_is_not_tried_again(
    gateway: Gateway, failing: Failing, path: str, code: int
) -> None:
    first, *_ = fresh_chain(path)
    failing.ways[first] = status(code)
    answer = ask(gateway, path, first)
    assert answer.status_code == code
    assert failing.asked == [first]
    assert answer.headers["x-aion-attempts"] == "1"


@pytest.mark.parametrize(("path", "events"), [(PATHS[0], CHAT_EVENTS), (PATHS[1], MESSAGE_EVENTS)])
def test_nothing_is_tried_again_once_the_client_has_a_byte(
    gateway: Gateway, failing: Failing, path: str, events: list[bytes]
) -> None:
    first, *_ = fresh_chain(path)
    read = threading.Event()
    broken = Answer(content_type="text/event-stream", chunks=[*events[:2], read], break_off=True)
    failing.ways[first] = lambda _: broken
    body = {"model": first, "messages": user(), "max_tokens": 5, "stream": True}
    with httpx.stream("POST", gateway.url + path, json=body, timeout=30) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        read.set()
        with pytest.raises(httpx.HTTPError):
            list(chunks)
    assert failing.asked == [first]
    row, failed = rows(gateway, answer)
    assert (row.outcome, row.model, row.attempts, failed) == ("cut", first, 1, [])


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_does_not_begin_is_given_to_the_next_model(
    gateway: Gateway, upstream: Upstream, failing: Failing, path: str
) -> None:
    first, second, *_ = fresh_chain(path)
    failing.ways[first] = lambda _: Answer(silent=True)
    answer = ask(gateway, path, first, stream=True)
    assert text_of(path, answer).startswith("four")
    assert answer.headers["x-aion-model"] == second
    assert upstream.disconnected.wait(5), "the first provider goes on working for nobody"
    row, failed = rows(gateway, answer)
    assert [(one.model, one.status, one.error) for one in failed] == [(first, 0, "upstream_timeout")]
    assert failed[0].cost_nano, "it has read the input, and may bill it"
    assert row.attempts == 2


def test_a_large_request_reaches_the_second_model_whole(gateway: Gateway, upstream: Upstream, failing: Failing) -> None:
    first, *_ = fresh_chain(PATHS[0])
    failing.ways[first] = status(503)
    text = "ab\\\"é" * 1_500_000
    messages = [{"role": "user", "content": text}]
    answer = gateway.post(PATHS[0], {"model": first, "messages": messages, "max_tokens": 5, "temperature": 0.5})
    assert answer.status_code == 200, answer.text[:500]
    assert failing.asked[0] == first
    last = json.loads(upstream.last.body)
    content = last["messages"][0]["content"]
    assert (content if isinstance(content, str) else content[0]["text"]) == text
    assert upstream.last.header("content-length") == str(len(upstream.last.body))


def test_a_request_that_is_translated_for_the_first_model_is_the_client_s_own_for_the_next(
    upstream: Upstream, failing: Failing, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = two_providers(upstream, routing={"prefer_native": False})
    failing.ways.clear()
    with running(tmp_path_factory.mktemp("foreign"), config) as gateway:
        upstream.received.clear()
        odd = b'{ "max_tokens":50, "messages":[{"role":"user","content":"h\\u00e9llo"}],"model":"aion-auto"}'
        answer = gateway.post(PATHS[1], odd)
        assert answer.headers["x-aion-model"] == "gpt-small"
        assert text_of(PATHS[1], answer).startswith("four")
        assert rows(gateway, answer)[0].model == "gpt-small"

        failing.ways["gpt-small"] = status(503)
        answer = gateway.post(PATHS[1], odd)
        assert text_of(PATHS[1], answer).startswith("four")
        assert answer.headers["x-aion-model"] == "claude-small"
        assert upstream.last.body == odd.replace(b"aion-auto", b"claude-small")
        assert upstream.last.header("authorization") is None


def test_a_provider_that_cannot_be_reached(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nobody listens there: the next provider answers, from the first request on."""
    (dead,) = free_ports(1)
    config = two_providers(upstream)
    config["providers"]["openai"]["base_url"] = f"http://127.0.0.1:{dead}/v1"
    with running(tmp_path_factory.mktemp("gone"), config) as gateway:
        for _ in range(8):
            answer = ask(gateway, PATHS[0], "aion-auto")
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-aion-provider"] == "anthropic"


def test_a_provider_whose_name_is_not_known(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Envoy has nowhere to begin and answers itself. From then on the others are asked."""
    config = two_providers(upstream)
    config["providers"]["openai"]["base_url"] = "http://nowhere.invalid/v1"
    with running(tmp_path_factory.mktemp("nameless"), config) as gateway:
        first = ask(gateway, PATHS[0], "aion-auto")
        assert first.status_code == 503
        assert "No healthy" in first.json()["error"]["message"]
        gateway.row(first.headers["x-request-id"])
        answer = ask(gateway, PATHS[0], "aion-auto")
        assert (answer.status_code, answer.headers["x-aion-provider"]) == (200, "anthropic")
