"""What a request says, whichever API it came by: the part of it that a classifier may look at.

Texts are references to the decoded strings of the parsed body; nothing is copied or joined here, so that a
request of a megabyte costs no more than one of a line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation."""

    role: Role
    texts: tuple[str, ...]  # its text parts, in order; images, documents and thinking are not text
    tool_calls: int = 0  # calls that an assistant turn makes
    tool_results: int = 0  # results that a user or tool turn carries; their text is not in `texts`
    tool_result_chars: int = 0  # length of those results' text


@dataclass(frozen=True, slots=True)
class Preferences:
    """The client's hints, from `aion_preferences` in the body."""

    tier: Literal[1, 2, 3] | None = None
    prefer_quality: bool = False
    prefer_speed: bool = False


@dataclass(frozen=True, slots=True)
class Conversation:
    """System texts are apart from the turns, wherever the client put them ("developer" counts as system)."""

    turns: tuple[Turn, ...]
    system: tuple[str, ...] = ()
    tools: int = 0  # tool definitions attached
    preferences: Preferences = field(default=Preferences())
