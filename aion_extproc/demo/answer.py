"""What the demo upstream says, and how it counts tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ECHO_LIMIT = 120  # characters of the prompt that come back

# A word or a single sign, with the white space before it: joined, the pieces are the text again.
_PIECE = re.compile(r"\s*(?:\w+|[^\w\s])|\s+\Z")


class BadRequest(Exception):
    """The request is not one the provider would take; the message goes to the client."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Answer:
    """Either text in `pieces`, one token each, or a call of the tool `tool` with no arguments."""

    model: str
    input_tokens: int
    pieces: tuple[str, ...]
    cut: bool = False  # max_tokens ended it
    tool: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def output_tokens(self) -> int:
        return len(self.pieces) if self.tool is None else 1 + count(self.tool)


def count(text: str) -> int:
    """Tokens of a text, roughly: its words and punctuation signs."""
    return len(_PIECE.findall(text))


def answer(body: Mapping[str, Any], max_tokens: int | None, tool: str | None) -> Answer:
    """The answer to a chat request of either API. Raises BadRequest when `model` or `messages` is missing."""
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter", "model")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BadRequest("messages: a non-empty list of objects is needed", "messages")
    input_tokens = sum(count(text_of(m.get("content"))) for m in messages) + count(
        text_of(body.get("system"))
    )
    if tool is not None:
        return Answer(model, input_tokens, (), tool=tool)
    asked = [text_of(m.get("content")) for m in messages if m.get("role") == "user"]
    pieces = tuple(_PIECE.findall(_speech(model, asked[-1] if asked else "")))
    if max_tokens is not None and len(pieces) > max_tokens:
        return Answer(model, input_tokens, pieces[:max_tokens], cut=True)
    return Answer(model, input_tokens, pieces)


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    parts = (part.get("text") for part in objects(content))
    return "\n".join(part for part in parts if isinstance(part, str))


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none of anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def positive(body: Mapping[str, Any], name: str) -> int | None:
    """The positive integer `name` of the body, None when it is absent or null."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadRequest(f"{name}: must be a positive integer", name)
    return value


def _speech(model: str, prompt: str) -> str:
    words = " ".join(prompt.split())
    echo = words if len(words) <= ECHO_LIMIT else words[:ECHO_LIMIT] + "…"
    return (
        f"Hello! This is aion's built-in demo, answering as {model}; no real model has read this. "
        f"You wrote: “{echo}” "
        "Set OPENAI_API_KEY or ANTHROPIC_API_KEY, or start a local server, and restart aion for real answers."
    )
