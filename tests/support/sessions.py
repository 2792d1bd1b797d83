"""Conversations as one worker sees them, and what it tells the others."""

from __future__ import annotations

from typing import Any

import orjson

from aion_extproc.classify.classification import Thresholds
from aion_extproc.routing.decision import Warm
from aion_extproc.routing.sessions import KEY_LENGTH, Judged, Rules, Sessions, Turn, judge, warm

THRESHOLDS = Thresholds()
RULES = Rules()
EASY, MIDDLE, HARD = 0.1, 0.5, 0.9
SESSION = "0" * KEY_LENGTH


def turn(digest: str = "first", session: str = SESSION, retry: bool = False) -> Turn:
    return Turn(session, digest, retry)


class Conversation:
    """A worker's view of conversations, and its clock."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.sessions = Sessions(3600.0)
        self.rules = rules
        self.now = 1000.0

    def ask(
        self, digest: str, score: float = EASY, *, floored: bool = False, retry: bool = False, served_by: str = ""
    ) -> Judged:
        """The next request; it goes to the model of its tier, or to `served_by`."""
        this = turn(digest, retry=retry)
        judged = judge(self.sessions.look(SESSION, self.now), this, score, floored, THRESHOLDS, self.rules, self.now)
        self.sessions.decided(this, judged, "p", served_by or f"tier {judged.tier}", 100, self.now)
        return judged

    def answer(self, digest: str, tier: int = 1, model: str = "m", tokens: int = 100) -> None:
        self.sessions.answered(turn(digest).mark, "p", model, tier, tokens, 300.0, self.now)

    def turn(self, digest: str, score: float = EASY, *, floored: bool = False) -> Judged:
        """Asked and answered a second later."""
        judged = self.ask(digest, score, floored=floored)
        self.now += 1
        self.answer(digest, judged.tier)
        return judged

    def warm(self, digest: str = "the next") -> Warm | None:
        return warm(self.sessions.look(SESSION, self.now), turn(digest), self.rules, self.now)


def watched(sessions: Sessions) -> Sessions:
    sessions.on_change = lambda: None
    return sessions


def updates(sessions: Sessions) -> list[dict[str, Any]]:
    """What would go over the bus, after it has been over the bus."""
    found = []
    while (update := sessions.updates()) is not None:
        found.append(orjson.loads(orjson.dumps(update)))
    return found
