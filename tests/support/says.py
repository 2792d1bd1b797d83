"""What a model says, whatever the format it is told in."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

SIGNATURE = "c2lnbmF0dXJl/+=="


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def written(self) -> str:
        return json.dumps(self.arguments, ensure_ascii=False, separators=(",", ":"))

    @property
    def fragments(self) -> list[str]:
        """As models stream them: cut in the middle of names, numbers and escapes. Some send an empty one first."""
        return ["", *(self.written[at : at + 5] for at in range(0, len(self.written), 5))]


@dataclass(frozen=True)
class Says:
    text: str = "four é😀"
    calls: tuple[Call, ...] = ()
    thinking: str = ""
    refusal: str = ""  # why it does not answer
    stop: str = ""  # the format's own word; "": what follows from the rest
    plain: int = 500  # tokens of the prompt that were neither read from a cache nor written to it
    cached: int = 400
    written: int = 0
    output: int = 200
    reasoning: int = 0  # part of output
    model: str = ""  # "": the one that was asked for
    id: str | None = ""  # of the answer; "": one of its own; None: no such member
    cut: int = 0  # write a stream in pieces of so many bytes, each seen alone by the gateway; 0: event by event
    hold: threading.Event | None = None  # a stream waits for this after its text
    error: tuple[str, str] | None = None  # a stream ends with this in-band error (type, message) after its text

    @property
    def words(self) -> list[str]:
        """The text as it is streamed."""
        return [self.text[at : at + 3] for at in range(0, len(self.text), 3)]

    @property
    def thoughts(self) -> list[str]:
        return [self.thinking[at : at + 7] for at in range(0, len(self.thinking), 7)]


def identity(says: Says, prefix: str, number: int) -> dict[str, str]:
    return {} if says.id is None else {"id": says.id or f"{prefix}{number}"}


def sse(data: object, name: str = "") -> bytes:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def in_pieces(events: list[bytes | threading.Event], size: int) -> list[bytes | threading.Event]:
    """The same bytes, cut through events, lines and characters; what the stream waits for stays in its place."""
    if not size:
        return events
    pieces: list[bytes | threading.Event] = []
    run = b""
    for event in [*events, None]:
        if isinstance(event, bytes):
            run += event
            continue
        pieces += [run[at : at + size] for at in range(0, len(run), size)]
        run = b""
        pieces += [event] if event is not None else []
    return pieces
