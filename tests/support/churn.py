"""Providers that fail in every way they can, their own books, and clients that look at every answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.load import Client
from tests.support.answers import CHAT_EVENTS, MESSAGE_EVENTS, as_asked
from tests.support.gateway import Gateway
from tests.support.upstream import Answer, Received

PATHS = ("/v1/chat/completions", "/v1/messages")
_OUTPUT = re.compile(rb'"(completion|output)_tokens":200')


@dataclass(frozen=True)
class Entry:
    """An answer that a provider began to give in full."""

    model: str
    output_tokens: int


@dataclass
class Providers:
    """What answers, whatever model is asked for. `ill`: the share of requests that go wrong."""

    seed: int
    ill: float
    books: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))  # by request id
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def __call__(self, request: Received) -> Answer:
        body = json.loads(request.body)
        with self._lock:
            goes_wrong, way = self._random.random() < self.ill, self._random.choice(_WAYS)
            tokens = self._random.randint(1, 999)
        if goes_wrong:
            return way(request, bool(body.get("stream")))
        well = as_asked(request)
        chunks = [_counting(bytes(chunk), tokens) for chunk in well.chunks]  # type: ignore[arg-type]
        id = request.header("x-request-id")
        assert id is not None
        self.books[id].append(Entry(body["model"], tokens))
        return replace(well, chunks=chunks, pace=0.002 if tokens % 5 == 0 and len(chunks) > 1 else 0.0)


def _counting(chunk: bytes, tokens: int) -> bytes:
    """With so many tokens of output in place of 200, in the sum too."""
    counted = _OUTPUT.sub(rb'"\1_tokens":%d' % tokens, chunk)
    return counted.replace(b'"total_tokens":1200', b'"total_tokens":%d' % (1000 + tokens))


_CHAT_ERROR = b'{"error":{"message":"no","type":"x","param":null,"code":null}}'
_CLAUDE_ERROR = b'{"type":"error","error":{"type":"api_error","message":"no"}}'


def _status(code: int) -> Callable[[Received, bool], Answer]:
    # A pause for all who ask again at this pace would leave nobody to ask.
    headers = (("retry-after", "0"),) if code == 429 else ()

    def answer(request: Received, _stream: bool) -> Answer:
        claude = request.path.startswith("/v1/messages")
        return Answer(status=code, chunks=[_CLAUDE_ERROR if claude else _CHAT_ERROR], headers=headers)

    return answer


def _reset(_request: Received, _stream: bool) -> Answer:
    return Answer(hang_up_first=True)


def _silent(_request: Received, _stream: bool) -> Answer:
    return Answer(silent=True)


def _page(_request: Received, _stream: bool) -> Answer:
    return Answer(content_type="text/html", chunks=[b"<html>no</html>"])


def _broken(request: Received, stream: bool) -> Answer:
    """Begins well and breaks off."""
    if not stream:
        return Answer(hang_up_first=True)
    events = MESSAGE_EVENTS if request.path.startswith("/v1/messages") else CHAT_EVENTS
    return Answer(content_type="text/event-stream", chunks=events[:2], break_off=True)


_WAYS = (*(_status(code) for code in (429, 500, 503, 529)), _reset, _silent, _page, _broken)


@dataclass
class Seen:
    """What a client got. `status` 0: the connection broke before the answer was whole."""

    id: str
    path: str
    stream: bool
    status: int
    body: bytes
    seconds: float


@dataclass
class Clients:
    """A load that goes on until `stop`. Every conversation is a new one."""

    gateway: Gateway
    connections: int = 8
    keys: Sequence[str] = ()  # used in turn
    seen: list[Seen] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Clients:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a request without an answer"

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(self.connections)))

    async def _one(self, number: int) -> None:
        client = Client("127.0.0.1", self.gateway.port)
        for count in itertools.count():
            if self._done.is_set():
                break
            path, stream = PATHS[(number + count) % 2], (number // 2 + count) % 2 == 1
            body: dict[str, Any] = {
                "model": "aion-auto",
                "messages": [{"role": "user", "content": f"hello {number} {count}"}],
                "max_tokens": 2000,
            }
            key = self.keys[count % len(self.keys)] if self.keys else ""
            said = f"authorization: Bearer {key}\r\n" if key else ""
            start = time.monotonic()
            try:
                answer = await client.post(path, json.dumps(body | ({"stream": True} if stream else {})).encode(), said)
            except (OSError, EOFError):
                client.close()
                self.seen.append(Seen("", path, stream, 0, b"", time.monotonic() - start))
                continue
            id = answer.headers.get("x-request-id", "")
            self.seen.append(Seen(id, path, stream, answer.status, answer.body, time.monotonic() - start))
        client.close()


def wrong(seen: Seen) -> str | None:
    """What is wrong with the answer, or None: it must be whole, and in the client's format."""
    if seen.status == 0:
        return None if seen.stream else "a JSON answer broke off"
    try:
        return _wrong_stream(seen) if seen.stream and seen.status == 200 else _wrong_json(seen)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"{seen.status} {error!r}: {seen.body[:300]!r}"


def _wrong_json(seen: Seen) -> str | None:
    body = json.loads(seen.body)
    if seen.status == 200:
        text = body["choices"][0]["message"]["content"] if seen.path == PATHS[0] else body["content"][0]["text"]
        return None if text.startswith("four") else f"another text: {text!r}"
    if not seen.id:
        return "no request id"
    error = body["error"]
    if not error["message"]:
        return "an error without a message"
    return None if seen.path == PATHS[0] or (body["type"] == "error" and error["type"]) else "another shape"


def _wrong_stream(seen: Seen) -> str | None:
    data = [line[6:] for line in seen.body.splitlines() if line.startswith(b"data: ")]
    if seen.path == PATHS[0]:
        events = [json.loads(line) for line in data if line != b"[DONE]"]
        if any("error" in event for event in events):
            return None  # told in the stream
        text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
        whole = data[-1] == b"[DONE]" and text.startswith("four")
    else:
        events = [json.loads(line) for line in data]
        if any(event["type"] == "error" for event in events):
            return None
        text = "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
        whole = events[-1]["type"] == "message_stop" and text.startswith("four")
    return None if whole else f"a stream that is not whole: {seen.body[-200:]!r}"
