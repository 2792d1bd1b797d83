"""Byte for byte through the real Envoy: what the provider gets is the client's, what the client gets is the provider's.

A lost body comes with status 200, so every body is compared.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.kinds import KINDS, Kind
from benchmarks.load import Client
from tests.property.documents import requests
from tests.property.reference import check, loads
from tests.support.configs import two_providers
from tests.support.frames import Post, post_all
from tests.support.gateway import Gateway, free_ports, running, wait_for
from tests.support.upstream import Answer, Received, Upstream

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ROOT = Path(__file__).parents[2]
STREAM = "text/event-stream"
MODELS = {CHAT: ["aion-auto", "gpt-small", "gpt-mid"], MESSAGES: ["aion-auto", "claude-small", "claude-mid"]}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    headers = {"content-type": "application/json"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client:
        yield client


# Requests


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data(), path=st.sampled_from([CHAT, MESSAGES]))
def test_only_what_must_change_changes(
    client: httpx.Client, provider: Upstream, data: st.DataObject, path: str
) -> None:
    raw = data.draw(requests(st.sampled_from(MODELS[path])))
    provider.answer = lambda _: Answer()
    pieces = data.draw(st.booleans())  # chunked: Envoy is not told the length
    answer = client.post(path, content=iter([raw[:9], raw[9:]]) if pieces else raw)
    assert answer.status_code == 200, answer.text
    received = provider.last
    said = loads(raw)
    asks_itself = (said.get("stream_options") or {}).get("include_usage") is True
    ask = path == CHAT and said.get("stream") is True and not asks_itself
    check(raw, received.body, answer.headers["x-aion-model"], ask)
    assert received.header("content-length") == str(len(received.body))
    assert received.header("transfer-encoding") is None


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("hinted", [False, True], ids=["plain", "with preferences"])
def test_twenty_megabytes(client: httpx.Client, provider: Upstream, path: str, hinted: bool) -> None:
    chance = random.Random(path)
    words = r'word é \u00e9 \"model\": { \\ \n ] 12345678901234567890'.encode().split()
    text = b" ".join(chance.choices(words, k=3_200_000))
    assert len(text) > 20_000_000
    hint = b'"aion_preferences": {"tier":1} , ' if hinted else b""
    head = b'{"max_tokens":64, "model" : "'
    tail = b'" , "messages":[{"role":"user","content":"%b"}] ,\n "x":98765432109876543210}' % text
    provider.answer = lambda _: Answer()
    answer = client.post(path, content=head + b"aion-auto" + tail.replace(b'" , ', b'" , ' + hint, 1))
    assert (answer.status_code, answer.content) == (200, b"{}")
    model = answer.headers["x-aion-model"].encode()
    assert same(provider.last.body, head + model + tail)


def same(found: bytes, expected: bytes) -> bool:
    """Without the difference of megabytes that pytest would try to show."""
    return found == expected


def test_a_body_sent_slowly_arrives_once_and_whole(client: httpx.Client, provider: Upstream) -> None:
    raw = b'{"model":"gpt-mid","messages":[{"role":"user","content":"%b"}]}' % (b"slow " * 20_000)
    provider.answer = lambda _: Answer()
    answer = client.post(CHAT, content=(raw[at : at + 1000] for at in range(0, len(raw), 1000)))
    assert answer.status_code == 200
    assert [received.body for received in provider.received] == [raw]


def test_a_client_that_waits_for_100_continue(gateway: Gateway, provider: Upstream) -> None:
    provider.answer = lambda _: Answer()
    raw = b'{"model":"gpt-mid","messages":[{"role":"user","content":"x"}]}'

    async def post() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(raw)
        )
        first = await reader.readuntil(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 100")
        writer.write(raw)
        answer = await reader.read()
        writer.close()
        return answer

    answer = asyncio.run(asyncio.wait_for(post(), 10))
    assert answer.startswith(b"HTTP/1.1 200")
    assert provider.last.body == raw


# Answers

BODY = b'{"model":"%b","max_tokens":5,"messages":[{"role":"user","content":"hi"}]%b}'


def numbered(answers: list[Answer]) -> Callable[[Received], Answer]:
    def answer(request: Received) -> Answer:
        return answers[int(request.header("x-case") or 0)]

    return answer


def asking(path: str, case: int, *, stream: bool) -> Post:
    body = BODY % (MODELS[path][1].encode(), b',"stream":true' if stream else b"")
    return Post(path, body, {"x-case": str(case)})


def random_bodies() -> list[bytes]:
    chance = random.Random(7)
    bodies = [b"", b"{}", b"null", b"not JSON", b'{"usage":{"prompt_tokens":1}}', b" \n", b"\x00", b'{"usage":']
    bodies += [chance.randbytes(chance.randint(1, 3000)) for _ in range(30)]
    return [*bodies, b'{"a":"' + b"\xc3\xa9" * 100_000 + b'"}']


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("status", [200, 201, 400, 404, 422])
def test_answers_of_any_bytes(gateway: Gateway, provider: Upstream, path: str, status: int) -> None:
    """Called JSON, though most are not; by their length, and in chunks."""
    bodies = random_bodies()
    answers = [Answer(status=status, chunks=[body]) for body in bodies]
    answers += [Answer(status=status, chunks=[body[:7], body[7:]] if body[7:] else [body]) for body in bodies]
    provider.answer = numbered(answers)
    found = post_all(gateway.port, [asking(path, case, stream=False) for case in range(len(answers))])
    assert {answer.status for answer in found} == {status}
    wrong = [case for case, answer in enumerate(found) if answer.body != (bodies * 2)[case] or not answer.whole]
    assert wrong == []


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/plain", "application/octet-stream"])
def test_answers_of_any_type(gateway: Gateway, provider: Upstream, path: str, content_type: str) -> None:
    bodies = random_bodies()
    answers = [Answer(content_type=content_type, chunks=[body], headers=(("x-own", "1"),)) for body in bodies]
    provider.answer = numbered(answers)
    for stream in (False, True):
        found = post_all(gateway.port, [asking(path, case, stream=stream) for case in range(len(answers))])
        assert [answer.body for answer in found] == bodies
        assert {answer.headers["content-type"] for answer in found} == {content_type}
        assert {answer.headers["x-own"] for answer in found} == {"1"}


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_content(gateway: Gateway, provider: Upstream, path: str, stream: bool) -> None:
    provider.answer = lambda _: Answer(status=204, chunks=[b""])
    found = post_all(gateway.port, [asking(path, 0, stream=stream)] * 3, 1)
    assert [(answer.status, answer.body) for answer in found] == [(204, b"")] * 3


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_five_megabytes_of_answer(gateway: Gateway, provider: Upstream, path: str) -> None:
    counts = b'{"prompt_tokens":11,"completion_tokens":22,"input_tokens":11,"output_tokens":22}'
    body = b'{ "choices":[], "text":"' + b"\\u00e9\xc3\xa9 " * 700_000 + b'","usage":' + counts + b"}"
    assert len(body) > 5_000_000
    for chunks in ([body], [body[at : at + 100_000] for at in range(0, len(body), 100_000)]):
        provider.answer = numbered([Answer(chunks=chunks)])
        answer = post_all(gateway.port, [asking(path, 0, stream=False)])[0]
        assert same(answer.body, body)
        row = gateway.row(answer.headers["x-request-id"])
        assert (row.usage.input_tokens, row.usage.output_tokens, row.estimated) == (11, 22, False)


def random_streams() -> list[list[bytes]]:
    """Lines of all sorts between a few that are events; cut anywhere."""
    chance = random.Random(11)
    lines = [
        b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xc3\xa9"}}',
        b"data: [DONE]",
        b"event: ping",
        b": comment",
        b"data:",
        b"dat",
        b"",
        b"",
        b"data: {",
        b'data: {"choices":[]}',
        b'data: {"usage":{"prompt_tokens":1}}',
        b"\xff\xfe\x00",
        b"id: 1",
        b"x" * 5000,
    ]
    streams = []
    for _ in range(40):
        ends = chance.choice([[b"\n"], [b"\r\n"], [b"\n", b"\r\n", b"\r"]])
        data = b"".join(chance.choice(lines) + chance.choice(ends) for _ in range(chance.randint(1, 30)))
        data = data[: chance.randint(1, len(data))]
        cuts = sorted(chance.choices(range(1, len(data) + 1), k=chance.randint(1, 6)))
        parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        streams.append([part for part in parts if part])
    return streams


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_streams_of_any_bytes(gateway: Gateway, provider: Upstream, path: str) -> None:
    streams = random_streams()
    provider.answer = numbered([Answer(content_type=STREAM, chunks=parts, apart=True) for parts in streams])
    found = post_all(gateway.port, [asking(path, case, stream=True) for case in range(len(streams))])
    assert [answer.body for answer in found] == [b"".join(parts) for parts in streams]


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_ping_reaches_the_client_while_the_provider_thinks(gateway: Gateway, provider: Upstream, path: str) -> None:
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    gate = threading.Event()
    provider.answer = lambda _: Answer(content_type=STREAM, chunks=[ping, gate, ping])
    got = b""
    with httpx.stream("POST", gateway.url + path, content=asking(path, 0, stream=True).body, timeout=10) as answer:
        for piece in answer.iter_raw():
            got += piece
            if got == ping:
                gate.set()
    assert got == ping * 2


# Under load

REQUESTS = 750  # of each kind
CONNECTIONS = 16


@pytest.fixture(scope="module")
def fast_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """In front of an upstream that answers in a tenth of a millisecond: that is when answers have been lost."""
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.upstream", str(port)], cwd=ROOT)
    try:
        config = two_providers(Upstream(lambda _: Answer(), port=port))
        with running(tmp_path_factory.mktemp("fast"), config) as gateway:
            wait_for(lambda: process.poll() is not None or _answers(port))
            assert process.poll() is None
            yield gateway
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        return httpx.post(f"http://127.0.0.1:{port}{CHAT}", json={}).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("kind", ["chat", "stream", "stream_usage", "message"])
def test_no_body_is_lost_under_load(fast_gateway: Gateway, kind: str) -> None:
    assert asyncio.run(asyncio.wait_for(wrong_answers(fast_gateway.port, KINDS[kind]), 60)) == []


async def wrong_answers(port: int, kind: Kind) -> list[str]:
    """What was wrong with the answers to so many requests; each answer echoes its own request."""
    numbers = iter(range(REQUESTS))
    wrong: list[str] = []
    answered = 0

    async def connection() -> None:
        nonlocal answered
        client = Client("127.0.0.1", port)
        for number in numbers:
            sent = kind.body(number)
            answer = await client.post(kind.path, sent, kind.headers)
            if found := kind.check(sent, answer):
                wrong.append(found)
            answered += 1
        client.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    assert answered == REQUESTS
    return wrong
