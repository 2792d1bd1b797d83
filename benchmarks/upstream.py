"""A fast HTTP/1.1 upstream that answers as OpenAI and Anthropic do: `python -m benchmarks.upstream PORT`.

The body of each JSON answer and stream echoes a digest of the request body it answers, so that a load test can
compare every byte it gets back with what it must be.

A request header `x-bench-pace: 0.002` makes the events of its stream go out one by one, so many seconds apart;
without it they go out at once. A header `x-bench-fail: MODEL` has requests for that model answered with 503;
`x-bench-fail: third` a third of all requests, by their digests.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import cast

import orjson
import uvloop

CHUNKS = 50
_DIGEST = b"@@@@@@@@@@@@@@@@"  # stands where the digest belongs, and is as long
_FAIL = re.compile(rb"\r\nx-bench-fail: *([^\r]+)")
_FAILED = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 30\r\n\r\n"
    b'{"error":{"message":"failed"}}'
)
_PACE = re.compile(rb"\r\nx-bench-pace: *([0-9.]+)")


def digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def chat_answer(body: bytes) -> bytes:
    """The complete JSON answer to a chat completion request."""
    return (
        b'{"id":"chatcmpl-%b","object":"chat.completion","created":1,"model":"fast","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,'
        b'"completion_tokens":34,"total_tokens":46}}' % digest(body).encode()
    )


def message_answer(body: bytes) -> bytes:
    """The complete JSON answer to an Anthropic message request."""
    return (
        b'{"id":"msg_%b","type":"message","role":"assistant","model":"fast","content":[{"type":"text","text":"ok"}],'
        b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":34}}'
        % digest(body).encode()
    )


def chat_events(body: bytes, with_usage: bool) -> list[bytes]:
    """The events of a streamed chat completion, in order."""
    return _filled(_chat_template(with_usage), body)


def message_events(body: bytes) -> list[bytes]:
    """The events of a streamed Anthropic message, in order."""
    return _filled(_message_template(), body)


def _filled(template: Sequence[bytes], body: bytes) -> list[bytes]:
    mark = digest(body).encode()
    return [event.replace(_DIGEST, mark) for event in template]


@cache
def _chat_template(with_usage: bool) -> tuple[bytes, ...]:
    head = b'data: {"id":"chatcmpl-%b","object":"chat.completion.chunk","created":1,"model":"fast",' % _DIGEST
    events = [
        head + b'"choices":[{"index":0,"delta":{"content":"word %d "},"finish_reason":null}]}\n\n' % i
        for i in range(CHUNKS)
    ]
    events.append(head + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
    if with_usage:
        events.append(head + b'"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":50,"total_tokens":62}}\n\n')
    events.append(b"data: [DONE]\n\n")
    return tuple(events)


@cache
def _message_template() -> tuple[bytes, ...]:
    start = (
        b'{"type":"message_start","message":{"id":"msg_%b","type":"message","role":"assistant","model":"fast",'
        b'"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":1}}}'
        % _DIGEST
    )
    block = b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
    deltas = [
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word %d "}}' % i
        for i in range(CHUNKS)
    ]
    end = (
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":50}}'
    )
    datas = [start, block, *deltas, b'{"type":"content_block_stop","index":0}', end, b'{"type":"message_stop"}']
    return tuple(b"event: %b\ndata: %b\n\n" % (data.split(b'"', 4)[3], data) for data in datas)


def fails(which: str, model: str, body: bytes) -> bool:
    return int(digest(body)[:8], 16) % 3 == 0 if which == "third" else which == model


class Upstream(asyncio.Protocol):
    """One connection. Requests are read by content-length, as our gateway always sends it."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None
        self.pacing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's class derives from neither

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (head_end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:head_end]).lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < head_end + 4 + length:
                return
            body = bytes(self.buffer[head_end + 4 : head_end + 4 + length])
            del self.buffer[: head_end + 4 + length]
            self.answer(head, body)

    def connection_lost(self, error: Exception | None) -> None:
        if self.pacing is not None:
            self.pacing.cancel()

    def answer(self, head: bytes, body: bytes) -> None:
        assert self.transport is not None
        request = orjson.loads(body) if body else {}
        is_message = head.startswith(b"post /v1/messages")
        if (fail := _FAIL.search(head)) and fails(fail[1].decode(), request["model"], body):
            self.transport.write(_FAILED)
            return
        if request.get("stream"):
            options = request.get("stream_options") or {}
            events = message_events(body) if is_message else chat_events(body, bool(options.get("include_usage")))
            self.stream(events, _PACE.search(head))
            return
        payload = message_answer(body) if is_message else chat_answer(body)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(payload)
        self.transport.write(head + payload)

    def stream(self, events: list[bytes], pace: re.Match[bytes] | None = None) -> None:
        assert self.transport is not None
        chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        if pace is None:
            self.transport.write(b"".join((head, *chunks, b"0\r\n\r\n")))
        else:
            self.transport.write(head)
            self.pacing = asyncio.create_task(self.send_slowly(chunks, float(pace[1])))

    async def send_slowly(self, chunks: list[bytes], seconds: float) -> None:
        assert self.transport is not None
        for chunk in chunks:
            await asyncio.sleep(seconds)
            self.transport.write(chunk)
        self.transport.write(b"0\r\n\r\n")


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
