"""Names that cannot stand as they are: of tools and calls that the other API refuses, of fields that are told in a
header. What is changed is always changed in the same way, so that a provider's prompt cache holds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Any

LEGAL = re.compile(r"[A-Za-z0-9_-]+")  # tools' names in both APIs, and calls' ids in Anthropic's
_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST = 10  # characters of a digest that keep two changed names apart
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_LONGEST_CALL_ID = 40  # OpenAI refuses longer ones: https://github.com/vercel/ai/issues/5171
_MOST_UNKNOWN = 20  # the client's own words that are told
_LONGEST_UNKNOWN = 40
_UNTELLABLE = re.compile(r"[^A-Za-z0-9_.\[\]-]")


def digest(text: str) -> str:
    """Hexadecimal; of half a surrogate pair too."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class ToolNames:
    """Tool names as they are sent on: those that the API refuses made legal."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._sent: dict[str, str] = {}

    def sent(self, name: str) -> str:
        known = self._sent.get(name)
        if known is None:
            is_legal = len(name) <= self._longest and LEGAL.fullmatch(name)
            known = self._sent[name] = name if is_legal else self._changed(name)
        return known

    @property
    def changed(self) -> dict[str, str]:
        """As sent → as the client knows it."""
        return {sent: name for name, sent in self._sent.items() if sent != name}

    def _changed(self, name: str) -> str:
        return f"{_ILLEGAL.sub('_', name)[: self._longest - _DIGEST - 1]}_{digest(name)[:_DIGEST]}"


def chat_call_id(id: str, *, nine: bool) -> str:
    """A call's id as a chat server takes it: at most 40 characters, or exactly nine letters and digits. Nothing else in
    a conversation names it, so a shorter one is as good; it depends on nothing but the id, so that a call and its
    result agree, in every request."""
    if nine:
        return id if _NINE.fullmatch(id) else digest(id)[:9]
    return id if len(id) <= _LONGEST_CALL_ID else "call_" + digest(id)[:32]


def messages_call_id(id: str, seed: bytes) -> str:
    """A call's id as Anthropic takes it (^[a-zA-Z0-9_-]+$). A changed one has a digest in it, of the answer's `seed`
    too: servers that call theirs `functions.Read:0` may do so in every answer, and Anthropic wants all to differ."""
    if LEGAL.fullmatch(id):
        return id
    salted = hashlib.sha256(seed + id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_ILLEGAL.sub('_', id)[:_LONGEST_CALL_ID]}_{salted[:_DIGEST]}"


class Dropped:
    """The names of what is not carried over, for Translated.dropped."""

    def __init__(self) -> None:
        self._own: set[str] = set()
        self._unknown: set[str] = set()

    def drop(self, name: str) -> None:
        """Name one of the API's own fields."""
        self._own.add(name)

    def drop_unknown(self, name: str, prefix: str = "") -> None:
        """Name a field or a tool in the client's words: cleaned, and not without end."""
        if len(self._unknown) < _MOST_UNKNOWN:
            self._unknown.add(prefix + (_UNTELLABLE.sub("_", name)[:_LONGEST_UNKNOWN] or "_"))

    def drop_others(self, said: Mapping[str, Any], known: Collection[str], prefix: str = "") -> None:
        """Name the members that are neither known nor empty."""
        for key, value in said.items():
            if key not in known and not is_empty(value):
                self.drop_unknown(key, prefix)

    @property
    def dropped(self) -> tuple[str, ...]:
        return tuple(sorted(self._own | self._unknown))


def is_empty(value: object) -> bool:
    """Nothing would be lost with it."""
    return value is None or (isinstance(value, str | list | dict) and not value)
