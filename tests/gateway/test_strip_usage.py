"""The usage chunk that only we asked for is taken out of a stream, through the real Envoy, wherever the stream is cut.

The client's bytes must be the provider's without that chunk, and nothing else may be missing or late.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from aion_extproc.gateway.envoy import find_envoy
from tests.support.answers import CHAT_EVENTS, CHAT_USAGE, DONE
from tests.support.frames import Framed, Post, post_all
from tests.support.gateway import Gateway, free_ports, wait_for
from tests.support.upstream import Answer, Received, Upstream

CHAT = "/v1/chat/completions"
HEAD = b'data: {"id":"c","object":"chat.completion.chunk","model":"m",'
COUNTS = b'{"prompt_tokens":1000,"completion_tokens":200,"total_tokens":1200,"completion_tokens_details":null}'
USAGE = HEAD + b'"choices":[],"usage":' + COUNTS + b"}\n\n"
# OpenAI sends "usage":null in every ordinary chunk of a stream with include_usage; those chunks stay as they are.
ORDINARY = HEAD + b'"choices":[{"index":0,"delta":{"content":"ab \xc3\xa9"},"finish_reason":null}],"usage":null}\n\n'
LAST = HEAD + b'"usage":null,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
SAYS_IT = (
    HEAD + rb'"choices":[{"index":0,"delta":{"content":"data: {\"choices\":[],\"usage\":{\"a\":1}}\n\n"}}]}' + b"\n\n"
)
AZURE = HEAD + b'"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}\n\n'
AZURE_NULL = HEAD + b'"choices":[],"usage":null,"prompt_filter_results":[]}\n\n'
ERROR = b'data: {"choices":[],"usage":{"prompt_tokens":1},"error":{"message":"overloaded","code":529}}\n\n'
PLAIN_ERROR = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'
# Mistral's and Groq's way: the count comes in the last chunk that has a choice.
WITH_CHOICE = HEAD + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":' + COUNTS + b"}\n\n"
SPACED = b'data:{"usage" : {"prompt_tokens": 1,\t"completion_tokens": 2} , "id":"c", "choices" : [ ] }\n\n'

# What the provider sends, part by part; the parts that are the same object as one of `DROPPED` must not arrive.
DROPPED = [USAGE, SPACED, CHAT_USAGE]
STREAMS = {
    "recorded": [*CHAT_EVENTS, CHAT_USAGE, DONE],
    "nulls": [ORDINARY, LAST, USAGE, DONE],
    "spaced": [LAST, SPACED, b"data:[DONE]\n\n"],
    "odd": [AZURE, b": keep-alive\n\n", SAYS_IT, AZURE_NULL, WITH_CHOICE, b": single\n", USAGE, b"\n", DONE],
    "named": [b"event: x\nid: 1\n" + ORDINARY, b"retry: 10\n\n", USAGE],
    "errors": [ORDINARY, ERROR, PLAIN_ERROR],
}
CUT_SHORT = {
    "in the usage chunk": [LAST, USAGE[:-40]],
    "before its blank line": [LAST, USAGE[:-1]],
    "in a line": [ORDINARY, ORDINARY[:-30]],
    "in a field name": [ORDINARY, b"dat"],
}


def crlf(part: bytes) -> bytes:
    return part.replace(b"\n", b"\r\n")


def sent_and_expected(stream: Sequence[bytes], *, with_crlf: bool) -> tuple[bytes, bytes]:
    ends = crlf if with_crlf else bytes
    kept = [part for part in stream if not any(part is dropped for dropped in DROPPED)]
    return b"".join(map(ends, stream)), b"".join(map(ends, kept))


def asking(pieces: Sequence[int], **options: object) -> Post:
    """A request whose answer is to be cut at these positions."""
    body = {"model": "gpt-small", "messages": [{"role": "user", "content": "hello"}], "stream": True, **options}
    return Post(CHAT, json.dumps(body).encode(), {"x-cut": ",".join(map(str, pieces))})


def cut(data: bytes, positions: Sequence[int]) -> list[bytes]:
    ends = [*positions, len(data)]
    return [data[start:end] for start, end in zip([0, *positions], ends, strict=True)]


def cutting(data: bytes) -> Callable[[Received], Answer]:
    def answer(request: Received) -> Answer:
        positions = [int(at) for at in (request.header("x-cut") or "").split(",") if at]
        return Answer(content_type="text/event-stream", chunks=cut(data, positions), apart=True)

    return answer


def test_envoy_sees_the_pieces_apart(gateway: Gateway, provider: Upstream) -> None:
    """What the tests below stand on: each piece that the provider writes comes through Envoy as a piece of its own."""
    data, _ = sent_and_expected(STREAMS["recorded"], with_crlf=False)
    cuts = [[1, 2, 3], [200, 400, 401, 600], [len(data) - 1], [5, 300]]
    provider.answer = cutting(data)
    answers = post_all(gateway.port, [asking(at, stream_options={"include_usage": True}) for at in cuts], 1)
    assert [answer.frames for answer in answers] == [cut(data, at) for at in cuts]


@pytest.mark.parametrize("with_crlf", [False, True], ids=["lf", "crlf"])
@pytest.mark.parametrize("name", STREAMS)
def test_cut_in_two_anywhere(gateway: Gateway, provider: Upstream, name: str, with_crlf: bool) -> None:
    data, expected = sent_and_expected(STREAMS[name], with_crlf=with_crlf)
    provider.answer = cutting(data)
    # Every one around and in the chunk itself; away from it every fourth will do.
    near = range(len(data), 0) if data == expected else _around_the_chunk(data, expected)
    positions = [at for at in range(1, len(data)) if at in near or at % 4 == 0]
    answers = post_all(gateway.port, [asking([at]) for at in positions])
    wrong = {at: answer for at, answer in zip(positions, answers, strict=True) if not same(answer, expected)}
    assert not wrong
    assert (data == expected) == (name == "errors")  # else nothing was taken out, and nothing tested


def _around_the_chunk(data: bytes, expected: bytes) -> range:
    start = next(at for at in range(len(data)) if data[at : at + 1] != expected[at : at + 1])
    return range(start - 60, start + len(data) - len(expected) + 20)


def same(answer: Framed, expected: bytes) -> bool:
    return answer.status == 200 and answer.whole and answer.body == expected


@pytest.mark.parametrize("name", STREAMS)
def test_cut_into_many(gateway: Gateway, provider: Upstream, name: str) -> None:
    chance = random.Random(name)
    for with_crlf in (False, True):
        data, expected = sent_and_expected(STREAMS[name], with_crlf=with_crlf)
        provider.answer = cutting(data)
        cuts = [sorted(chance.sample(range(1, len(data)), chance.randint(2, 25))) for _ in range(25)]
        for at, answer in zip(cuts, post_all(gateway.port, [asking(at) for at in cuts]), strict=True):
            assert same(answer, expected), at


def test_one_byte_at_a_time(gateway: Gateway, provider: Upstream) -> None:
    data, expected = sent_and_expected(STREAMS["nulls"], with_crlf=True)
    provider.answer = cutting(data)
    assert same(post_all(gateway.port, [asking(range(1, len(data)))])[0], expected)


@pytest.mark.parametrize("name", CUT_SHORT)
def test_a_stream_that_ends_in_mid_event_loses_nothing(gateway: Gateway, provider: Upstream, name: str) -> None:
    data = b"".join(CUT_SHORT[name])
    provider.answer = cutting(data)
    positions = range(max(1, len(data) - 150), len(data))
    answers = post_all(gateway.port, [asking([at]) for at in positions])
    assert [at for at, answer in zip(positions, answers, strict=True) if not same(answer, data)] == []


def test_a_stream_with_a_content_length_is_stripped_too(gateway: Gateway, provider: Upstream) -> None:
    data, expected = sent_and_expected(STREAMS["nulls"], with_crlf=False)
    provider.answer = lambda _: Answer(content_type="Text/Event-Stream; charset=utf-8", chunks=[data])
    answers = post_all(gateway.port, [asking([])] * 3, 1)
    assert [answer.body for answer in answers] == [expected] * 3
    assert {answer.whole for answer in answers} == {True}


def test_an_answer_that_is_no_stream_is_left_alone(gateway: Gateway, provider: Upstream) -> None:
    data, _ = sent_and_expected(STREAMS["nulls"], with_crlf=False)
    provider.answer = lambda _: Answer(status=500, content_type="application/json", chunks=[data])
    answer = post_all(gateway.port, [asking([])])[0]
    assert (answer.status, answer.body) == (500, data)


@pytest.mark.parametrize(
    "first",
    [ORDINARY, ORDINARY[:-20], b": keep-alive\n\n", b": keep", b"event: ping\n", ORDINARY + b": x", PLAIN_ERROR[:20]],
)
def test_what_cannot_be_the_usage_chunk_is_not_held_back(gateway: Gateway, provider: Upstream, first: bytes) -> None:
    """The provider says no more until the client has it."""
    gate = threading.Event()
    provider.answer = lambda _: Answer(content_type="text/event-stream", chunks=[first, gate, b"\n\n", USAGE, DONE])
    post = asking([])
    got = b""
    with httpx.stream("POST", gateway.url + CHAT, content=post.body, timeout=10) as answer:
        for piece in answer.iter_raw():
            got += piece
            if len(got) >= len(first):
                gate.set()
    assert got == first + b"\n\n" + DONE


def test_a_long_event_passes_as_it_comes(gateway: Gateway, provider: Upstream) -> None:
    """An image in a chunk, say: megabytes without a line end. And one whose choices come last is held, but whole."""
    text = b"x" * 3_000_000
    early = HEAD + b'"choices":[{"index":0,"delta":{"content":"' + text + b'"}}]}\n\n'
    late = b'data: {"text":"' + text + b'","choices":[{"index":0,"delta":{}}]}\n\n'
    data = early + late + USAGE + DONE
    provider.answer = cutting(data)
    assert same(post_all(gateway.port, [asking(range(10_000, len(data), 100_000))])[0], early + late + DONE)


def test_the_count_still_reaches_the_ledger(gateway: Gateway, provider: Upstream) -> None:
    data, expected = sent_and_expected(STREAMS["nulls"], with_crlf=True)
    provider.answer = cutting(data)
    answer = post_all(gateway.port, [asking([len(data) - 60])])[0]
    assert answer.body == expected
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.usage.input_tokens, row.usage.output_tokens, row.estimated) == (1000, 200, False)


# HTTP/2 providers (every https one that has it) may end a stream with its last data; HTTP/1.1 ends it apart.


class Http2Stream(asyncio.Protocol):
    """Answers each request with these pieces as data frames; the last one ends the stream."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._http2.initiate_connection()
        transport.write(self._http2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._http2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = [(":status", "200"), ("content-type", "text/event-stream")]
                self._http2.send_headers(event.stream_id, headers)
                for index, piece in enumerate(self._pieces, 1):
                    self._http2.send_data(event.stream_id, piece, end_stream=index == len(self._pieces))
        self._transport.write(self._http2.data_to_send())


@contextmanager
def http2_upstream(pieces: Sequence[bytes]) -> Iterator[int]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    start = loop.create_server(lambda: Http2Stream(pieces), "127.0.0.1", 0)
    server = asyncio.run_coroutine_threadsafe(start, loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@contextmanager
def envoy_with_the_script(directory: Path, upstream: int) -> Iterator[int]:
    """An Envoy that does nothing else, in front of an HTTP/2 upstream."""
    (port,) = free_ports(1)
    any_type = "type.googleapis.com/envoy.extensions"
    script = files("aion_extproc.gateway").joinpath("usage_chunk.lua").read_text()
    filters = [
        {
            "name": "lua",
            "typed_config": {
                "@type": f"{any_type}.filters.http.lua.v3.Lua",
                "default_source_code": {"inline_string": script},
            },
        },
        {"name": "router", "typed_config": {"@type": f"{any_type}.filters.http.router.v3.Router"}},
    ]
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}
    manager = {
        "@type": f"{any_type}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [host]},
        "http_filters": filters,
    }

    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    endpoint = {"endpoint": {"address": address(upstream)}}
    cluster = {
        "name": "up",
        "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{any_type}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"address": address(port), "filter_chains": [chain]}
    config = directory / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    command = [str(find_envoy()), "-c", str(config), "-l", "error", "--concurrency", "1", "--disable-hot-restart"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([ORDINARY, USAGE, DONE], ORDINARY + DONE),
        ([ORDINARY, USAGE], ORDINARY),
        ([ORDINARY + USAGE], ORDINARY),
        ([ORDINARY, USAGE + b"data: {"], ORDINARY + b"data: {"),
        ([ORDINARY, USAGE[:50], USAGE[50:90]], ORDINARY + USAGE[:90]),
        ([ORDINARY, USAGE, b""], ORDINARY),
        ([ORDINARY, USAGE[:50], b""], ORDINARY + USAGE[:50]),
        ([ORDINARY, b"da"], ORDINARY + b"da"),
    ],
)
def test_a_stream_that_ends_with_its_last_data(tmp_path: Path, pieces: list[bytes], expected: bytes) -> None:
    with http2_upstream(pieces) as upstream, envoy_with_the_script(tmp_path, upstream) as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json={}, timeout=10)
        assert answer.content == expected
