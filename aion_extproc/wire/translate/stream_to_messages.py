"""A stream of chat completion chunks as Anthropic's stream of events.

A chat stream mixes what it likes; Anthropic's is one content block after the other. So one block is open at a time,
and what belongs to a later one waits only while an earlier tool call may still go on.

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import orjson

from aion_extproc.accounting.usage import Usage
from aion_extproc.wire.answer import chat_usage
from aion_extproc.wire.format import Format
from aion_extproc.wire.sse import KEEP_ALIVE, EventTooLarge, SseReader
from aion_extproc.wire.translate.answer import AnswerError
from aion_extproc.wire.translate.answer_to_messages import (
    BROKEN_OFF,
    NOT_JSON,
    arguments_text,
    call_id,
    detail,
    is_error,
    made_id,
    pieces,
    read,
    reported,
    stop,
    usage_object,
    write,
)
from aion_extproc.wire.translate.errors import Failure, failure_in, in_band_error
from aion_extproc.wire.translate.odd_json import dumps
from aion_extproc.wire.translate.target import Asked

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b:'
_DELTA_OF = {
    "text": b'"text_delta","text"',
    "thinking": b'"thinking_delta","thinking"',
    "tool": b'"input_json_delta","partial_json"',
}
_EMPTY = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


@dataclass(slots=True)
class _Call:
    """A tool call as far as it has come."""

    number: int
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)  # all of them: they tell whether the call is whole
    sent: int = 0  # how many of these are out


class MessagesStream:
    """A StreamTranslator; see there. The first chunk is answered at once, with an estimate of the prompt's tokens; the
    true counts follow in message_delta, whose figures take the place of the earlier ones."""

    def __init__(self, asked: Asked) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.error = ""
        self._asked = asked
        self._reader = SseReader()
        self._out: list[bytes] = []
        self._seed = b""  # of ids; b"" before the first chunk
        self._over = False  # nothing more comes out
        self._ended: tuple[str, str | None] | None = None  # stop_reason and stop_sequence
        self._refused = False
        self._index = -1  # of the last block that was opened
        self._open = ""  # what it is: text, thinking, tool; "" when it is closed
        self._head = b""  # of a delta to it
        self._signature = ""  # of the thinking that is open
        self._call: _Call | None = None  # the call that is open
        self._calls: dict[object, _Call] = {}  # by the index that the server gives
        self._last_call: _Call | None = None
        self._called = 0
        self._ids: set[str] = set()
        self._waiting: list[_Call | tuple[str, str]] = []  # calls and texts behind the call that is open

    def feed(self, chunk: bytes) -> bytes:
        if self._over:
            return b""
        try:
            events = self._reader.feed(chunk)
        except EventTooLarge as error:
            self._fail("bad_stream", f"The provider's stream is none: {error}.")
            events = []
        for event in events:
            if self._over:
                break
            if event.type == KEEP_ALIVE:
                self._out.append(_PING)
            else:
                self._event(event.data)
        return self._taken()

    def finish(self) -> bytes:
        if self._over:
            return b""
        for event in self._reader.finish():
            if not self._over and event.type != KEEP_ALIVE:
                self._event(event.data, last=True)
        if not self._over and self._ended is not None:
            self._end()
        elif not self._over:
            self._fail("cut_stream", "The provider's stream ended before the answer did.")
        return self._taken()

    def _taken(self) -> bytes:
        out = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return out

    def _event(self, data: bytes, last: bool = False) -> None:
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            if data.strip() in (b"[DONE]", b""):
                if data.strip():
                    self._done()
                return
            chunk = read(data)
        if not isinstance(chunk, dict):
            if not last:
                self._fail("bad_stream", "The provider's stream holds something that is no chunk of an answer.")
            return  # the last one may have been cut
        try:
            self._chunk(chunk, data)
        except AnswerError as error:
            self._fail("bad_stream", error.message)

    def _done(self) -> None:
        if self._ended is not None:
            self._end()
        elif self._seed:
            # Some servers end with [DONE] and no finish_reason: they say themselves that this was all.
            self._close_all()
            self._ended = stop({}, self._called > 0, self._refused)
            self._end()
        else:
            self._fail("cut_stream", "The provider's stream ended before the answer began.")

    def _chunk(self, chunk: dict[str, Any], data: bytes) -> None:
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            choice = {}
        if said := chunk.get("error") or choice.get("error") or is_error(chunk):
            self._fail_as(failure_in(said))
            return
        finish = choice.get("finish_reason")
        usage = reported(chunk, choice)
        if isinstance(usage, dict):
            self.usage = chat_usage(usage)
            self.complete = self.complete or not choice or finish is not None
        if not self._seed:
            self._start(chunk, data)
        delta = choice.get("delta")
        if isinstance(delta, dict) and delta:
            self._delta(delta)
        if isinstance(finish, str) and finish:
            if finish in BROKEN_OFF:
                self._fail("error_event", *BROKEN_OFF[finish])
                return
            self._close_all()
            self._ended = stop(choice, self._called > 0, self._refused)

    def _start(self, chunk: dict[str, Any], data: bytes) -> None:
        seed = self._asked.request_id.encode() or data
        self._seed = hashlib.sha256(seed).digest()
        model = chunk.get("model")
        message: dict[str, Any] = {
            "id": made_id("msg_", seed),
            "type": "message",
            "role": "assistant",
            "model": model if isinstance(model, str) and model else self._asked.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_object(self._counts()),
        }
        self._send("message_start", {"type": "message_start", "message": message})

    def _counts(self) -> Usage:
        """The server's, which most often come last; until then, and where none come, the estimate."""
        return self.usage or Usage(input_tokens=self._asked.input_tokens)

    def _delta(self, delta: dict[str, Any]) -> None:
        get = delta.get
        plain = get("reasoning_content") or get("reasoning")
        if details := get("reasoning_details"):
            plain = self._details(details, plain)
        if plain and isinstance(plain, str):
            self._say("thinking", plain)
        if content := get("content"):
            if isinstance(content, str):
                self._say("text", content)
            else:
                for kind, text in pieces(content):
                    self._say(kind, text)
        refusal = get("refusal")
        if refusal and isinstance(refusal, str):
            self._refused = True
            self._say("text", refusal)
        if calls := get("tool_calls"):
            for fragment in calls if isinstance(calls, list) else ():
                if isinstance(fragment, dict):
                    self._fragment(fragment)
        if isinstance(call := get("function_call"), dict):
            self._fragment({"index": "function_call", "function": call})

    def _details(self, details: object, plain: object) -> object:
        """OpenRouter's reasoning details. What is left to say of `plain`, which repeats their text if they have any."""
        for entry in details if isinstance(details, list) else ():
            text, signature, data = detail(entry)
            if text:
                plain = None
                self._say("thinking", text)
            elif plain and isinstance(plain, str) and signature:
                self._say("thinking", plain)
                plain = None
            if signature and self._call is None:
                if self._open != "thinking":
                    self._begin("thinking", _EMPTY["thinking"])
                self._signature += signature
            if data:
                self._say("redacted", data)
        return plain

    def _say(self, kind: str, text: str) -> None:
        """Text or thinking; or thinking that is not to be read, which is a block of its own."""
        if self._open != kind or self._signature:
            if self._call is not None:
                self._waiting.append((kind, text))
                self._advance()
                return
            if kind == "redacted":
                self._begin(kind, {"type": "redacted_thinking", "data": text})
                self._close()
                return
            self._begin(kind, _EMPTY[kind])
        said = dumps(text)
        self._out.append(self._head + said + b"}}\n\n")

    def _fragment(self, fragment: dict[str, Any]) -> None:
        function = fragment.get("function")
        if not isinstance(function, dict):
            function = {}
        key, id, name = fragment.get("index"), fragment.get("id"), function.get("name")
        id = id if isinstance(id, str) else ""
        name = name if isinstance(name, str) else ""
        call = self._calls.get(key) if isinstance(key, int | str) else None
        if call is None and key is None and not name:
            call = self._last_call  # a server that counts nothing goes on with the last one
        # Gemini gives every call the index 0, whole, and an id of its own.
        if call is None or (id and name and call.id and id != call.id):
            call = _Call(self._called)
            self._called += 1
            if isinstance(key, int | str):
                self._calls[key] = call
            self._waiting.append(call)
        self._last_call = call
        call.id = call.id or id
        call.name = call.name or name
        if arguments := arguments_text(function.get("arguments")):
            call.arguments.append(arguments)
        if call is self._call and len(self._waiting) == 0:
            self._send_arguments(call)
        else:
            self._advance()

    def _advance(self, to_the_end: bool = False) -> None:
        """Let out what waits, as far as the call before it is whole."""
        while self._call is None or self._waiting:
            if self._call is not None:
                self._send_arguments(self._call)
                if not (to_the_end or _is_whole(self._call)):
                    return
                self._close()
            if not self._waiting:
                return
            item = self._waiting[0]
            if isinstance(item, _Call):
                if not (item.name or to_the_end):
                    return
                self._begin_call(item)
            else:
                self._say(*item)
            self._waiting.pop(0)

    def _begin_call(self, call: _Call) -> None:
        id = call_id(call.id, call.number, self._seed, self._ids)
        name = self._asked.tool_names.get(call.name, call.name)
        self._begin("tool", {"type": "tool_use", "id": id, "name": name, "input": {}})
        self._call = call
        self._send_arguments(call)

    def _send_arguments(self, call: _Call) -> None:
        """What is new of them, once it is certain that they are an object; others are sent when the call is closed."""
        if call.sent == len(call.arguments):
            return
        new = "".join(call.arguments[call.sent :])
        if call.sent == 0 and not new.lstrip().startswith("{"):
            return
        call.sent = len(call.arguments)
        self._out.append(self._head + write(new) + b"}}\n\n")

    def _begin(self, kind: str, block: dict[str, Any]) -> None:
        if self._open:
            self._close()
        self._index += 1
        self._open = kind
        if kind in _DELTA_OF:
            self._head = _DELTA % (self._index, _DELTA_OF[kind])
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        self._send("content_block_start", event)

    def _close(self) -> None:
        if self._signature:
            signed = {"type": "signature_delta", "signature": self._signature}
            event = {"type": "content_block_delta", "index": self._index, "delta": signed}
            self._send("content_block_delta", event)
            self._signature = ""
        if (call := self._call) is not None:
            whole = "".join(call.arguments)
            if call.sent == 0 and whole.strip():
                self._out.append(self._head + write(write({NOT_JSON: whole}).decode()) + b"}}\n\n")
            self._call = None
        self._out.append(
            b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % self._index
        )
        self._open = ""

    def _close_all(self) -> None:
        self._advance(to_the_end=True)
        if self._open:
            self._close()

    def _end(self) -> None:
        self._close_all()  # what came after finish_reason
        reason, sequence = self._ended or ("end_turn", None)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        usage = usage_object(self._counts())
        self._send("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
        self._out.append(_STOP)
        self._over = True

    def _fail(self, error: str, message: str, status: int = 502) -> None:
        self._over = True
        self.error = error
        self._out.append(in_band_error(Format.ANTHROPIC, error, message, status))

    def _fail_as(self, failure: Failure) -> None:
        """As the provider says of itself."""
        self._over = True
        self.error = "error_event"
        message = failure.message or "The provider answered with an error."
        status, kind, param = failure.own_status, failure.type, failure.param
        self._out.append(in_band_error(Format.ANTHROPIC, failure.code, message, status, type=kind, param=param))

    def _send(self, name: str, event: dict[str, Any]) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (name.encode(), write(event)))


def _is_whole(call: _Call) -> bool:
    """Whether its arguments are all there: a JSON object that has ended."""
    if not call.arguments or not call.arguments[-1].rstrip().endswith("}"):
        return False
    return isinstance(read("".join(call.arguments).encode("utf-8", "surrogatepass")), dict)
