"""One call's stream on an HTTP/2 connection."""

from __future__ import annotations

from collections import deque

from aion_extproc.extproc.grpc_call import Call, Reply


class Stream:
    """What a connection knows of one of its streams."""

    __slots__ = (
        "call",
        "closing",
        "half_closed",
        "listening",
        "need",
        "parts",
        "pending",
        "received",
        "reply",
        "size",
        "window",
    )

    call: Call  # from when its handler has made it; told nothing after the end of its reply

    def __init__(self, reply: Reply, window: int) -> None:
        self.reply = reply
        self.window = window  # what we may send
        self.received = 0  # since our last window update
        self.parts: list[bytes] = []  # of a message that is not whole
        self.size = 0  # of these together
        self.need = 5  # how much tells more: the length in front of a message, or all of it
        self.pending: deque[memoryview] = deque()  # what waits for the window
        self.closing: bytes | None = None  # trailers that wait behind it
        self.half_closed = False
        self.listening = False  # after our trailers, to what the peer still sends
