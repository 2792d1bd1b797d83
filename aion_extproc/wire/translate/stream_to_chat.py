"""A stream of message events as a stream of chat completion chunks.

https://platform.claude.com/docs/en/build-with-claude/streaming,
https://platform.openai.com/docs/api-reference/chat-streaming

Each event gives its chunk at once; only a thinking block's signature waits for the end of its block. What a chunk
says is what the JSON answer would say: see answer_to_chat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from aion_extproc.accounting.usage import Usage
from aion_extproc.wire.format import Format
from aion_extproc.wire.sse import KEEP_ALIVE, Event, EventTooLarge, SseReader
from aion_extproc.wire.translate.answer_to_chat import (
    finish_reason,
    redacted_detail,
    refusal_text,
    thinking_detail,
    usage_object,
    usage_of,
)
from aion_extproc.wire.translate.errors import failure_in, in_band_error
from aion_extproc.wire.translate.odd_json import dumps, exact_loads
from aion_extproc.wire.translate.target import Asked

_DONE = b"data: [DONE]\n\n"
_PING = b": ping\n\n"
_END = b',"finish_reason":null}]}\n\n'
_CONTENT_END = b"}" + _END


@dataclass(slots=True)
class _Block:
    """A content block that has begun and not ended."""

    kind: str
    number: int = 0  # a call's place among the calls
    arguments: bool = False  # some of a call's arguments have been sent
    input: Any = None  # a call's arguments where they come with its start
    thinking: list[str] = field(default_factory=list)
    signature: str = ""


class ChatStream:
    """A StreamTranslator. `created` is the stream's time in Unix seconds."""

    def __init__(self, asked: Asked, *, created: int = 0) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.error = ""
        self._asked = asked
        self._created = created
        self._reader = SseReader()
        self._counts: dict[str, Any] = {}
        self._blocks: dict[object, _Block] = {}
        self._calls = 0
        self._details = 0  # entries of reasoning_details so far
        self._thought = False  # some thinking has been told; the next block's is set apart from it
        self._head = b""  # of every chunk, up to its choices; b"": the stream has not begun
        self._content = b""  # of a chunk of text, up to the text
        self._finished = False  # the chunk with the reason has been sent
        self._over = False  # nothing more comes out

    def feed(self, chunk: bytes) -> bytes:
        if self._over:
            return b""
        try:
            events = self._reader.feed(chunk)
        except EventTooLarge as error:
            return self._fail("bad_stream", f"The provider's stream cannot be read: {error}.")
        return b"".join([self._translated(event) for event in events])

    def finish(self) -> bytes:
        if self._over:
            return b""
        out = b""
        for event in self._reader.finish():
            if event.type == KEEP_ALIVE or event.data.strip() == b"[DONE]" or _is_json(event.data):
                out += self._translated(event)  # else the provider was cut off in it
        if self._over:
            return out
        if self._finished:  # only the last event is missing, and it says nothing
            return out + self._end()
        return out + self._fail("cut_stream", "The provider's stream ended before the answer was complete.")

    def _translated(self, event: Event) -> bytes:
        if self._over:
            return b""
        if event.type == KEEP_ALIVE:
            return _PING
        try:
            said = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            if event.data.strip() == b"[DONE]":  # some servers end with what OpenAI's end with
                return self._end() if self._finished else b""
            if not event.data.strip():
                return b""
            try:
                said = exact_loads(event.data)
            except ValueError:
                return self._fail("bad_stream", "The provider's stream cannot be read: an event is not JSON.")
        if not isinstance(said, dict):
            return self._fail("bad_stream", "The provider's stream cannot be read: an event is not an object.")
        kind = said.get("type")
        if kind == "content_block_delta":
            return self._delta(said)
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is not None:
            return handler(self, said)
        return self._provider_error(said) if said.get("error") else b""

    def _delta(self, said: dict[str, Any]) -> bytes:
        delta = said.get("delta")
        if not isinstance(delta, dict):
            return b""
        kind = delta.get("type")
        if kind == "text_delta":
            return self._text(delta.get("text"))
        index = said.get("index")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None:
            return b""
        if kind == "input_json_delta" and block.kind == "tool_use":
            fragment = delta.get("partial_json")
            if not isinstance(fragment, str) or not fragment:
                return b""
            block.arguments = True
            return self._arguments(block, fragment)
        if kind == "thinking_delta" and block.kind == "thinking":
            return self._thinking(block, delta.get("thinking"))
        if kind == "signature_delta" and isinstance(delta.get("signature"), str):
            block.signature += delta["signature"]
        return b""

    def _text(self, text: object) -> bytes:
        if not isinstance(text, str) or not text:
            return b""
        begun = b"" if self._head else self._begin({})
        return begun + self._content + dumps(text) + _CONTENT_END

    def _thinking(self, block: _Block, text: object) -> bytes:
        if not isinstance(text, str) or not text:
            return b""
        told = "\n\n" + text if self._thought and not block.thinking else text
        block.thinking.append(text)
        return self._chunk({"reasoning_content": told})

    def _arguments(self, block: _Block, fragment: str) -> bytes:
        return self._chunk({"tool_calls": [{"index": block.number, "function": {"arguments": fragment}}]})

    def _start(self, said: dict[str, Any]) -> bytes:
        message = said.get("message")
        message = message if isinstance(message, dict) else {}
        self._count(message.get("usage"))
        return b"" if self._head else self._begin(message)

    def _begin(self, message: dict[str, Any]) -> bytes:
        identity, model = message.get("id"), message.get("model")
        head = {
            "id": identity if isinstance(identity, str) else "",
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": model if isinstance(model, str) and model else self._asked.model,
        }
        self._head = b"data: " + dumps(head)[:-1]
        self._content = self._head + b',"choices":[{"index":0,"delta":{"content":'
        return self._chunk({"role": "assistant", "content": ""})

    def _block_start(self, said: dict[str, Any]) -> bytes:
        index, block = said.get("index"), said.get("content_block")
        if not isinstance(block, dict) or not isinstance(index, int):
            return b""
        kind = block.get("type")
        if kind == "text":
            return self._text(block.get("text"))
        if kind == "tool_use":
            return self._call(index, block)
        if kind == "thinking":
            self._blocks[index] = begun = _Block("thinking")
            signature = block.get("signature")
            begun.signature = signature if isinstance(signature, str) else ""
            return self._thinking(begun, block.get("thinking"))
        if kind == "redacted_thinking" and isinstance(block.get("data"), str):
            return self._detail(redacted_detail(block["data"], self._details))
        return b""

    def _call(self, index: int, block: dict[str, Any]) -> bytes:
        self._blocks[index] = _Block("tool_use", number=self._calls, input=block.get("input"))
        name, identity = block.get("name"), block.get("id")
        name = name if isinstance(name, str) else ""
        call = {
            "index": self._calls,
            "id": identity if isinstance(identity, str) else "",
            "type": "function",
            "function": {"name": self._asked.tool_names.get(name, name), "arguments": ""},
        }
        self._calls += 1
        return self._chunk({"tool_calls": [call]})

    def _block_stop(self, said: dict[str, Any]) -> bytes:
        index = said.get("index")
        block = self._blocks.pop(index, None) if isinstance(index, int) else None
        return b"" if block is None else self._close(block)

    def _close(self, block: _Block) -> bytes:
        if block.kind == "tool_use" and not block.arguments:
            # No argument is an empty object; some servers send all of them with the start.
            given = block.input if isinstance(block.input, dict) else {}
            try:
                return self._arguments(block, dumps(given).decode())
            except ValueError:
                return self._fail("bad_stream", "The provider's tool call is nested too deeply to be passed on.")
        if block.kind == "thinking":
            self._thought = self._thought or bool(block.thinking)
            if block.signature:
                return self._detail(thinking_detail("".join(block.thinking), block.signature, self._details))
        return b""

    def _detail(self, detail: dict[str, Any]) -> bytes:
        self._details += 1
        return self._chunk({"reasoning_details": [detail]})

    def _message_delta(self, said: dict[str, Any]) -> bytes:
        if self._count(said.get("usage")):
            self.complete = True
        delta = said.get("delta")
        if not isinstance(delta, dict) or not delta.get("stop_reason") or self._finished:
            return b""
        refusal = refusal_text(delta)
        return self._reason(delta["stop_reason"], {"refusal": refusal} if refusal else {})

    def _reason(self, stop_reason: object, delta: dict[str, Any]) -> bytes:
        out = b"".join([self._close(block) for block in self._blocks.values()])
        self._blocks = {}
        if self._over:
            return out
        self._finished = True
        return out + self._chunk(delta, finish_reason(stop_reason, self._calls > 0))

    def _stop(self, said: dict[str, Any]) -> bytes:
        return (b"" if self._finished else self._reason(None, {})) + self._end()

    def _end(self) -> bytes:
        if self._over:
            return b""
        self._over = True
        if not self._asked.wants_usage or self.usage is None:
            return _DONE
        return self._head + b',"choices":[],"usage":' + orjson.dumps(usage_object(self.usage)) + b"}\n\n" + _DONE

    def _provider_error(self, said: dict[str, Any]) -> bytes:
        failure = failure_in(said)
        message = failure.message or "The provider broke off with an error that says nothing."
        self._over, self.error = True, "error_event"
        status = failure.own_status
        return in_band_error(
            Format.OPENAI, failure.code, message, status, type=failure.type, param=failure.param
        )

    def _fail(self, code: str, message: str) -> bytes:
        self._over, self.error = True, code
        return in_band_error(Format.OPENAI, code, message)

    def _ping(self, said: dict[str, Any]) -> bytes:
        return _PING

    def _count(self, counts: object) -> bool:
        """Counts are cumulative, and a later event may leave out what an earlier one said."""
        if not isinstance(counts, dict):
            return False
        self._counts.update({key: value for key, value in counts.items() if value is not None})
        self.usage = usage_of(self._counts)
        return True

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        begun = b"" if self._head else self._begin({})
        end = _END if reason is None else b',"finish_reason":"' + reason.encode() + b'"}]}\n\n'
        return begun + self._head + b',"choices":[{"index":0,"delta":' + dumps(delta) + end


_HANDLERS: dict[str, Callable[[ChatStream, dict[str, Any]], bytes]] = {
    "message_start": ChatStream._start,
    "content_block_start": ChatStream._block_start,
    "content_block_stop": ChatStream._block_stop,
    "message_delta": ChatStream._message_delta,
    "message_stop": ChatStream._stop,
    "ping": ChatStream._ping,
    "error": ChatStream._provider_error,
}


def _is_json(data: bytes) -> bool:
    try:
        exact_loads(data)
    except ValueError:
        return False
    return True
