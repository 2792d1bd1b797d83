"""HTTP/2's frames (RFC 9113), as far as a gRPC server of Envoy's needs them."""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Kinds of frames, section 6. A priority, a push and whatever is not known are passed by.
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
# Flags. An acknowledgement has the bit that ends a stream elsewhere.
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
# Settings.
MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME = 3, 4, 5
# Errors, section 7.
NO_ERROR, PROTOCOL_ERROR, FLOW_ERROR, FRAME_SIZE_ERROR, REFUSED, COMPRESSION_ERROR, TOO_MUCH = 0, 1, 3, 6, 7, 9, 11
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
SMALLEST_FRAME, LARGEST_FRAME = 2**14, 2**24 - 1  # that a peer may say it takes
SIZES = {RST: 4, PING: 8, WINDOW: 4}  # of payloads, where there is but one
HEAD = 9  # bytes of a frame before its payload


class ProtocolError(Exception):
    """The peer does not speak HTTP/2 as it must; the connection ends with this code."""

    def __init__(self, message: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def unpadded(payload: bytes) -> bytes:
    padding = payload[0] if payload else 0
    if padding >= len(payload):
        raise ProtocolError("more padding than payload")
    return payload[1 : len(payload) - padding]


def number(value: int) -> bytes:
    """As settings, windows and errors are written."""
    return value.to_bytes(4, "big")


def settings(payload: bytes) -> dict[int, int]:
    """Of a key that comes twice the last value counts."""
    if len(payload) % 6:
        raise ProtocolError("settings of the wrong size", FRAME_SIZE_ERROR)
    values = {}
    for at in range(0, len(payload), 6):
        values[int.from_bytes(payload[at : at + 2], "big")] = int.from_bytes(payload[at + 2 : at + 6], "big")
    if values.get(INITIAL_WINDOW, 0) > LARGEST_WINDOW:
        raise ProtocolError("a window larger than allowed", FLOW_ERROR)
    if not SMALLEST_FRAME <= values.get(MAX_FRAME, SMALLEST_FRAME) <= LARGEST_FRAME:
        raise ProtocolError("a largest frame that is not allowed")
    return values
