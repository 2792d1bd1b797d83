"""An encoder of AWS event streams, as Bedrock writes them."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any


def frame(payload: bytes, headers: dict[str, Any]) -> bytes:
    block = b""
    for name, value in headers.items():
        block += bytes([len(name)]) + name.encode()
        match value:
            case str():
                block += b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
            case bytes():
                block += b"\x06" + struct.pack(">H", len(value)) + value
            case bool():
                block += b"\x00" if value else b"\x01"
            case int():
                block += b"\x04" + struct.pack(">i", value)
    head = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    whole = head + struct.pack(">I", zlib.crc32(head)) + block + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def chunk(event: object, **headers: Any) -> bytes:
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    payload = json.dumps({"bytes": base64.b64encode(data).decode(), "p": "abcdefgh"}).encode()
    common = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return frame(payload, common | headers)


def exception(name: str, message: str) -> bytes:
    payload = json.dumps({"message": message}).encode()
    return frame(payload, {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"})
