"""Server-sent events out of a stream of bytes that is cut anywhere.

https://html.spec.whatwg.org/multipage/server-sent-events.html, as far as LLM servers use it: lines end in LF or CRLF
(a lone CR ends none), `id` and `retry` are passed by.
"""

from __future__ import annotations

from dataclasses import dataclass

# No provider sends an event of this size; whoever does is not kept in memory without bound.
LARGEST_EVENT = 32 << 20
KEEP_ALIVE = b":"


class EventTooLarge(ValueError):
    """An event is larger than LARGEST_EVENT."""


@dataclass(frozen=True, slots=True)
class Event:
    """`type` is what stands after `event:`, b"" without it, and KEEP_ALIVE for a comment line."""

    type: bytes
    data: bytes  # several data lines are joined by LF


class SseReader:
    """Feed it chunks; each event comes out as soon as the blank line after it is in, a comment with its own line."""

    def __init__(self) -> None:
        self._open: list[bytes] = []  # the line whose end is still to come, in the pieces it came in
        self._open_size = 0
        self._type = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        events: list[Event] = []
        *lines, rest = chunk.split(b"\n")
        if lines and self._open:
            lines[0] = b"".join([*self._open, lines[0]])
            self._open, self._open_size = [], 0
        for line in lines:
            self._line(line, events)
        if rest:
            self._open.append(rest)
            self._open_size += len(rest)
        if self._size + self._open_size > LARGEST_EVENT:
            raise EventTooLarge(f"an event is larger than {LARGEST_EVENT} bytes")
        return events

    def finish(self) -> list[Event]:
        """The end of the stream: what is left counts as an event, for some servers leave the last blank line away.
        Whether its data is whole is for the caller to see."""
        events: list[Event] = []
        if self._open:
            self._line(b"".join(self._open), events)
            self._open, self._open_size = [], 0
        self._line(b"", events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._size += len(value)
        elif not line:
            if self._data:
                events.append(Event(self._type, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
            self._type, self._data, self._size = b"", [], 0
        elif line.startswith(b"event:"):
            self._type = line[6:].strip()
        elif line.startswith(b":"):
            events.append(Event(KEEP_ALIVE, line[1:].strip()))
