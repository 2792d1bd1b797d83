"""What is remembered of a conversation from one turn to the next: its tier, who served it, whether it asks again.

**Tier.** A score near a threshold must not throw a conversation from one model to another and back. With the kept tier
t and its band [low, high] of scores, the tier of a score s is

    t        if low − h ≤ s ≤ high + h, h being the hysteresis
    tier(s)  otherwise, and wherever s > high and the turn plainly asks for more: by a floor of the classifier

**Prompt cache.** The model whose answer was whole last has the conversation in its provider's cache for a while;
`expected.py` says what that is worth. The end of an answer is known a moment late, by the access log: where the next
turn is here before it, the model that was chosen counts as the one.

**Asked again.** The same last user turn, sent again within `regeneration` seconds of its whole answer, goes a tier up
from where it was; so does a third time. From the fourth on it is no person but a machine, and gets its own tier. What
has not been answered is not asked *again*: a duplicate, or an SDK's own retry, goes where the first one went.

A session is two registers, what was asked last and what was served last. Each has the time it was written, and of two
the later one holds, so that workers may exchange them in any order, twice, or not at all. Keys and turns are hashes
made elsewhere (`extproc/session_key.py`); nothing here has text. Times are seconds of a clock that all processes of the
machine share and that never goes back (`time.monotonic`); the caller hands them in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from aion_extproc.classify.classification import Thresholds
from aion_extproc.classify.classifier import DIGITS
from aion_extproc.routing.decision import Warm
from aion_extproc.routing.task_tiers import ANY_TIER, TierBounds

CAPACITY = 50_000
MOST_RAISED = 3  # the sending up to which the same turn goes up
KEY_LENGTH = 32  # characters of a session's key; what follows in a mark is the turn
BATCH = 16  # sessions in one update: with the longest names there are they fit into 16 KiB
RECENT = 2_000  # sessions that a worker that joins is told of


class Turn(NamedTuple):
    """Which conversation a request belongs to, and which turn of it. Hashes in hexadecimal."""

    session: str  # KEY_LENGTH characters, never the same for two callers
    digest: str  # the last user message and how many messages there are
    retry: bool  # the client's library sends it again by itself

    @property
    def mark(self) -> str:
        """Session and turn, as they travel with the request to the end of its answer."""
        return self.session + self.digest


class Asked(NamedTuple):
    """The last request, as it was decided."""

    at: float
    digest: str
    sent: int  # the how manieth time in a row, MOST_RAISED + 1 at most
    tier: int  # by its score and the hysteresis; 0: it was not classified
    raised: int  # the tier it was raised to; 0: it was not
    provider: str
    model: str
    tokens: int  # of its input, estimated


class Served(NamedTuple):
    """The last whole answer."""

    at: float
    digest: str
    tier: int  # of the model
    provider: str
    model: str
    tokens: int  # that are in the provider's prompt cache now
    until: float  # how long they stay


class Session(NamedTuple):
    asked: Asked | None
    served: Served | None


@dataclass(frozen=True, slots=True)
class Rules:
    """The configuration's `routing.sessions`. Zero switches each of them off."""

    hysteresis: float = 0.05
    cache_lifetime: float = 300.0  # seconds
    regeneration: float = 60.0  # seconds


class Judged(NamedTuple):
    """The tier for a turn of a conversation."""

    tier: int
    why: str  # ASCII; "": it is the score's own
    base: int  # without what asking again adds
    raised: int
    sent: int


def held(kept: int, score: float, plain: bool, thresholds: Thresholds, hysteresis: float) -> int:
    """The tier of a score in a conversation that is at `kept`. `plain`: the turn plainly asks for its tier."""
    own = thresholds.tier(score)
    if own == kept or not hysteresis:
        return own
    if own > kept:
        beyond = score - (thresholds.tier1 if kept == 1 else thresholds.tier2)
    else:
        beyond = (thresholds.tier1 if kept == 2 else thresholds.tier2) - score
    return own if round(beyond, DIGITS) > hysteresis or (plain and own > kept) else kept


def judge(
    session: Session | None,
    turn: Turn,
    score: float,
    plain: bool,
    thresholds: Thresholds,
    rules: Rules,
    now: float,
    bounds: TierBounds = ANY_TIER,
) -> Judged:
    """The tier of a classified request. `bounds`: those of its task; who asks again goes beyond them."""
    own = thresholds.tier(score)
    asked = session.asked if session is not None else None
    if session is None or asked is None or not asked.tier:
        base, why = bounds.within(own)
        return Judged(base, why, base, 0, 1)
    kept = held(asked.tier, score, plain, thresholds, rules.hysteresis)
    base, why = bounds.within(kept)
    sent, raised = 1, 0
    if turn.digest == asked.digest:
        served = session.served
        answered = served is not None and served.digest == turn.digest and served.at > asked.at
        if not answered or turn.retry:
            sent, raised = asked.sent, asked.raised
        elif served is not None and now - served.at < rules.regeneration:
            sent = min(asked.sent, MOST_RAISED) + 1
            if sent <= MOST_RAISED:
                raised = min(3, max(base, asked.raised, served.tier) + 1)
    if raised > base:
        return Judged(raised, "asked again", base, raised, sent)
    return Judged(base, why or ("" if kept == own else "as before"), base, raised, sent)


def warm(session: Session | None, turn: Turn, rules: Rules, now: float) -> Warm | None:
    """Who has the conversation in its prompt cache when this turn comes, and how much of it."""
    if session is None:
        return None
    last: Asked | Served
    asked, served = session.asked, session.served
    if asked is not None and asked.digest != turn.digest and (served is None or asked.at > served.at):
        last, until = asked, asked.at + rules.cache_lifetime  # another turn has come: this one has been answered
    elif served is not None:
        last, until = served, served.until
    else:
        return None
    return Warm(last.provider, last.model, last.tokens) if now < until and last.tokens else None


class Sessions:
    """The conversations of one process, the latest CAPACITY of them, as far as those of others are known to it."""

    def __init__(self, expire_after: float, capacity: int = CAPACITY) -> None:
        self.expire_after = expire_after  # seconds of silence
        self.on_change: Callable[[], None] | None = None  # told when `updates` has something again; None: nobody asks
        self._capacity = capacity
        # The one longest untouched first.
        self._sessions: OrderedDict[str, _Stored] = OrderedDict()
        self._changed: dict[str, None] = {}  # and not told to the other workers yet; in order

    def __len__(self) -> int:
        return len(self._sessions)

    def look(self, key: str, now: float) -> Session | None:
        """What is known of a conversation. Asking changes nothing."""
        stored = self._sessions.get(key)
        if stored is None or now - _heard_of(stored) >= self.expire_after:
            return None
        asked, served = stored
        return Session(Asked._make(asked) if asked else None, Served._make(served) if served else None)

    def decided(self, turn: Turn, judged: Judged | None, provider: str, model: str, tokens: int, now: float) -> None:
        """A request of it goes there, with about so many tokens. `judged`: None where it was not classified."""
        tier, raised, sent = (judged.base, judged.raised, judged.sent) if judged is not None else (0, 0, 1)
        self._write(turn.session, (now, turn.digest, sent, tier, raised, provider, model, tokens), None, now)
        self._change(turn.session)

    def answered(
        self, mark: str, provider: str, model: str, tier: int, tokens: int, lifetime: float, now: float
    ) -> None:
        """A request had a whole answer from there; `mark` is its turn's. `tokens` are in the provider's prompt cache
        for `lifetime` seconds."""
        key, digest = mark[:KEY_LENGTH], mark[KEY_LENGTH:]
        self._write(key, None, (now, digest, tier, provider, model, tokens, now + lifetime), now)
        self._change(key)

    def updates(self) -> dict[str, Any] | None:
        """What has changed here since the last call, BATCH sessions at most, for the other workers' `apply`; None: no
        more."""
        if not self._changed:
            return None
        keys = list(islice(self._changed, BATCH))
        for key in keys:
            del self._changed[key]
        return self._update(keys)

    def recent(self) -> Iterator[dict[str, Any]]:
        """The RECENT latest sessions as updates for one that joins."""
        keys = list(self._sessions)[-RECENT:]
        for start in range(0, len(keys), BATCH):
            yield self._update(keys[start : start + BATCH])

    def apply(self, update: dict[str, Any], now: float) -> None:
        """Take over what another worker knows, where it is later than what is known here. TypeError, ValueError: that
        is no update."""
        for key, asked, served in update["sessions"]:
            theirs = (
                tuple(Asked._make(asked)) if asked else None,
                tuple(Served._make(served)) if served else None,
            )
            if now - _heard_of(theirs) < self.expire_after:
                self._write(key, *theirs, now)

    def _update(self, keys: Iterable[str]) -> dict[str, Any]:
        return {"sessions": [[key, *self._sessions[key]] for key in keys]}

    def _change(self, key: str) -> None:
        if self.on_change is not None:
            if not self._changed:
                self.on_change()
            self._changed[key] = None

    def _write(self, key: str, asked: _Register, served: _Register, now: float) -> None:
        """Into the registers of a session that are not None, where it is later than what is there."""
        sessions = self._sessions
        stored = sessions.get(key)
        if stored is None:
            for oldest in list(islice(sessions, 2)):  # more than are added
                if len(sessions) >= self._capacity or now - _heard_of(sessions[oldest]) >= self.expire_after:
                    del sessions[oldest]
                    self._changed.pop(oldest, None)
        else:
            sessions.move_to_end(key)
            if now - _heard_of(stored) < self.expire_after:
                asked, served = _later(stored[0], asked), _later(stored[1], served)
        sessions[key] = (asked, served)


# Plain tuples, as the fields of Asked and of Served: the garbage collector need not look at them again and again.
_Register = tuple[Any, ...] | None
_Stored = tuple[_Register, _Register]


def _heard_of(stored: _Stored) -> float:
    """When the session was last heard of."""
    asked, served = stored
    return max(asked[0] if asked else 0.0, served[0] if served else 0.0)


def _later(mine: _Register, theirs: _Register) -> _Register:
    """By time, and at the same time by content, so that all workers agree."""
    if mine is None or theirs is None:
        return mine or theirs
    return max(mine, theirs)
