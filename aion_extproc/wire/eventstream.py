"""AWS event streams (application/vnd.amazon.eventstream), as Bedrock answers a streamed Messages request, to SSE.

A message (https://smithy.io/2.0/aws/amazon-eventstream.html), all numbers big-endian:

    total length u32 | headers length u32 | CRC32 of these 8 bytes | headers | payload | CRC32 of all before it
    header: name length u8 | name | type u8 | value

Bedrock's events are `chunk`, whose payload is {"bytes": base64 of one Anthropic event's JSON}, and exceptions.
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
"""

from __future__ import annotations

import binascii
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import orjson

CONTENT_TYPE = "application/vnd.amazon.eventstream"
# The format's own limits are 128 KiB of headers and 24 MiB in all; what claims more is no event stream.
_LARGEST = 24 << 20
_MOST_HEADERS = 128 << 10
_PRELUDE = struct.Struct(">III")
_LEAST = _PRELUDE.size + 4
# Sizes of the values of fixed size, by type: two booleans, byte, short, integer, long, -, -, timestamp, UUID.
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _STRING = 6, 7

# Exceptions in a stream → the error types of Anthropic's API. Others are an api_error.
_ERRORS = {
    "throttlingException": "rate_limit_error",
    "serviceQuotaExceededException": "rate_limit_error",
    "validationException": "invalid_request_error",
    "accessDeniedException": "permission_error",
    "resourceNotFoundException": "not_found_error",
    "serviceUnavailableException": "overloaded_error",
    "modelNotReadyException": "overloaded_error",
    "modelTimeoutException": "timeout_error",
}
_TYPE = re.compile(r"[a-z_]{1,64}")
_LONGEST_MESSAGE = 500


class _Broken(ValueError):
    """Not an event stream, or damaged."""


class EventStreamToSse:
    """Feed it the answer's chunks, cut anywhere. Neither method raises: whatever is wrong becomes one error event,
    and nothing comes out after it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._over = False
        self._complete = False  # message_stop has been seen

    def feed(self, chunk: bytes) -> bytes:
        """The SSE of the messages that this chunk completes."""
        if self._over:
            return b""
        self._buffer += chunk
        out = []
        try:
            for headers, payload in _messages(self._buffer):
                out.append(self._event(headers, payload))
                if self._over:
                    break
        except _Broken as error:
            out.append(self._fail("api_error", f"The provider's event stream is damaged: {error}."))
        return b"".join(out)

    def finish(self) -> bytes:
        """The answer has ended: an error event if it did so in the middle of a message or of the answer."""
        if self._over or (self._complete and not self._buffer):
            return b""
        return self._fail("api_error", "The provider's event stream ended early.")

    def _event(self, headers: dict[str, str], payload: bytes) -> bytes:
        kind = headers.get(":message-type")
        if kind == "exception":
            name = headers.get(":exception-type", "")
            return self._fail(_ERRORS.get(name, "api_error"), _message(payload) or name or "unknown exception")
        if kind == "error":
            name = headers.get(":error-code", "")
            return self._fail(_ERRORS.get(name, "api_error"), headers.get(":error-message", "") or name)
        if kind != "event":
            raise _Broken("a message of no known type")
        if headers.get(":event-type") != "chunk":
            return b""  # a kind of event that is newer than this; clients of AWS skip it too
        data = _chunk(payload)
        try:
            event = orjson.loads(data)
        except ValueError:
            raise _Broken("an event that is not JSON") from None
        event_type = event.get("type") if isinstance(event, dict) else None
        if not isinstance(event_type, str) or not _TYPE.fullmatch(event_type):
            return b""  # something of Bedrock's own (a guardrail's trace, say): Anthropic's SDK skips it too
        if event_type == "error":
            self._over = True
        elif event_type == "message_stop":
            self._complete = True
        return b"event: " + event_type.encode() + b"\ndata: " + data + b"\n\n"

    def _fail(self, kind: str, message: str) -> bytes:
        self._over = True
        self._buffer.clear()
        error = {"type": kind, "message": message[:_LONGEST_MESSAGE]}
        return b"event: error\ndata: " + orjson.dumps({"type": "error", "error": error}) + b"\n\n"


def _messages(buffer: bytearray) -> Iterator[tuple[dict[str, str], bytes]]:
    """The whole messages at the start of the buffer, which are taken from it. _Broken: it can never be one."""
    while len(buffer) >= _PRELUDE.size:
        total, headers_size, prelude_crc = _PRELUDE.unpack_from(buffer)
        if zlib.crc32(buffer[:8]) != prelude_crc:
            raise _Broken("a wrong checksum")
        if not _LEAST <= total <= _LARGEST or headers_size > min(total - _LEAST, _MOST_HEADERS):
            raise _Broken("a length that cannot be")
        if len(buffer) < total:
            return
        message = bytes(buffer[:total])
        del buffer[:total]
        if zlib.crc32(message[:-4]) != int.from_bytes(message[-4:], "big"):
            raise _Broken("a wrong checksum")
        payload = _PRELUDE.size + headers_size
        yield _headers(message[_PRELUDE.size : payload]), message[payload:-4]


def _headers(data: bytes) -> dict[str, str]:
    """The headers whose value is text; the others are checked and passed by."""
    found = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            name, kind = data[at + 1 : name_end], data[name_end]
            start = name_end + 1
            if kind in (_BYTES, _STRING):
                (size,) = struct.unpack_from(">H", data, start)
                start += 2
            else:
                size = _SIZES[kind]
            at = start + size
            if at > len(data):
                raise _Broken("a header that is cut")
            if kind == _STRING:
                found[name.decode()] = data[start:at].decode()
    except (IndexError, KeyError, struct.error, UnicodeDecodeError):
        raise _Broken("a header that cannot be read") from None
    return found


def _chunk(payload: bytes) -> bytes:
    """The event's own JSON, on one line. Metrics that Bedrock adds to the last one stay: clients ignore them."""
    try:
        data = binascii.a2b_base64(orjson.loads(payload)["bytes"])
    except (ValueError, KeyError, TypeError):
        raise _Broken("a chunk that cannot be read") from None
    if b"\n" in data or b"\r" in data:
        # A line break in JSON is white space between tokens, but would end the line of SSE.
        return data.replace(b"\r", b" ").replace(b"\n", b" ")
    return data


def _message(payload: bytes) -> str:
    try:
        body: Any = orjson.loads(payload)
    except ValueError:
        return ""
    text = body.get("message") if isinstance(body, dict) else None
    return text if isinstance(text, str) else ""
