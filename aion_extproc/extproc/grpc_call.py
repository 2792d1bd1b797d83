"""A gRPC call as its handler sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from aion_extproc.extproc.http2 import END_HEADERS, HEADERS, frame

OK, UNIMPLEMENTED, INTERNAL, RESOURCE_EXHAUSTED = 0, 12, 13, 8

# ":status: 200" is in the static table; the others are literals that enter no table, so that no encoder is needed.
_ANSWER_HEADERS = b"\x88\x0f\x10\x10application/grpc"
_TRAILERS_OK = b"\x00\x0bgrpc-status\x010"


class Call(Protocol):
    """What serves a call. It is told what comes, and answers through the `Reply` that it was made with."""

    def message(self, data: bytes) -> None:
        """The next message of the peer's."""

    def half_closed(self) -> None:
        """The peer will send no more."""

    def lost(self) -> None:
        """The call is over before its end: cancelled, or the connection is gone."""


class Way(Protocol):
    """What carries a reply to the peer: the connection."""

    def write(self, data: bytes) -> None: ...

    def send_data(self, id: int, data: bytes) -> None: ...

    def end_stream(self, id: int, block: bytes, *, listen: bool = False) -> None: ...


class Reply:
    """Our side of a call."""

    __slots__ = ("_begun", "_connection", "_ended", "_finished", "_id")

    def __init__(self, connection: Way, id: int) -> None:
        self._connection = connection
        self._id = id
        self._begun = False
        self._ended = False
        self._finished = False  # our half

    def send(self, data: bytes) -> None:
        """A message to the peer. After the end nothing is sent."""
        if self._ended or self._finished:
            return
        if not self._begun:
            self._begun = True
            self._connection.write(frame(HEADERS, END_HEADERS, self._id, _ANSWER_HEADERS))
        self._connection.send_data(self._id, b"\0" + len(data).to_bytes(4, "big") + data)

    def end(self, status: int = OK, message: str = "") -> None:
        """The end of the call, with one of gRPC's status codes; a second one changes nothing."""
        if self._ended:
            return
        self._ended = True
        if self._finished:
            return
        block = b"" if self._begun else _ANSWER_HEADERS
        if status == OK:
            block += _TRAILERS_OK
        else:
            for name, value in (("grpc-status", str(status)), ("grpc-message", message)):
                raw = value.encode("ascii", "replace")[:120]
                block += b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(raw),)) + raw
        self._connection.end_stream(self._id, block)

    def finish(self) -> None:
        """Our half of the call ends well. The call is still told what the peer sends, until its half ends too."""
        if not self._ended and not self._finished:
            self._finished = True
            block = (b"" if self._begun else _ANSWER_HEADERS) + _TRAILERS_OK
            self._connection.end_stream(self._id, block, listen=True)

    @property
    def ended(self) -> bool:
        return self._ended

    def disconnected(self) -> None:
        self._ended = True


Handler = Callable[[Reply, Mapping[str, str]], Call]
"""Made when a call begins, with its headers."""
