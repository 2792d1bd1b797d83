"""Confirmations: "do it" is as hard as what it says yes to.

A confirmation alone would score as small talk. What the assistant proposed just before gives a floor on the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aion_extproc.classify.features import excerpt, turn_text
from aion_extproc.classify.instruction import MARK
from aion_extproc.classify.terms import terms
from aion_extproc.wire.conversation import Turn

MAX_CHARS = 60
PROPOSAL_HEAD = 2000  # characters of the proposal whose words are read, and as many at its end
READ_PROPOSAL = 8_000  # characters of it whose words are counted
LONGEST_PROPOSAL = 10  # the mark of length stops at 2^10 words
OFFER_CHARS = 400  # a greeting that lists what the assistant could do is shorter than this

_SIGNS: Final = "👍✅🚀"
_YES: Final = ("yes", "yeah", "yep", "yup", "ok", "okay", "sure", "alright", "great", "perfect", "cool")
_ACTIONS: Final = (
    *("do it", "do that", "do this", "go", "go ahead", "go for it", "go on", "proceed", "continue", "carry on"),
    *("keep going", "let's do it", "let's do that", "let's go", "make it so", "make it happen", "ship it"),
    *("start", "start now", "begin", "execute", "execute it", "run it", "apply it", "apply that", "apply them"),
    *("apply the changes", "apply the plan", "implement it", "implement that", "implement the plan", "build it"),
    *("do all of it", "do all of them", "all of them", "execute the plan", "follow the plan", "proceed with that"),
    *("proceed with the plan", "go ahead and do it", "go ahead with that", "go ahead with the plan"),
)
_ANSWERS: Final = (
    *("y", "k", "yes do", "of course", "absolutely", "definitely", "certainly", "by all means", "confirmed"),
    *("i confirm", "confirm", "approved", "i approve", "approve", "agreed", "i agree", "accept", "accepted"),
    *("sounds good", "that sounds good", "sounds great", "looks good", "looks good to me", "lgtm", "works for me"),
    *("that works", "correct", "that's right", "right", "exactly", "yes exactly", "please do", "do so", "next"),
    *("next step", "yes that's fine", "that's fine", "fine", "good", "why not", "what are you waiting for"),
    *_SIGNS,
    *("sí", "si", "vale", "adelante", "hazlo", "oui", "d'accord", "vas y", "allez y", "fais le", "continue"),
    *("ja", "ja bitte", "mach das", "mach es", "mach weiter", "weiter", "los", "los geht's", "einverstanden"),
    *("sim", "pode fazer", "vá em frente", "procedi", "va bene", "fallo", "да", "давай", "продолжай", "сделай это"),
    *("好", "好的", "是的", "可以", "继续", "开始吧", "はい", "お願いします", "続けて", "네", "계속", "진행해"),
)
_COURTESY: Final = frozenset({"please", "pls", "plz", "thanks", "thank", "you", "thx", *_SIGNS})
_KEPT: Final = frozenset("'" + _SIGNS)

_STEP_ENDS: Final = (".", ")", ":")
_STEP_HEAD: Final = 16  # characters before a step's number in which "**Step " stands
_OFFERS: Final = (
    *("how can i help", "how may i help", "how can i assist", "how may i assist", "what would you like"),
    *("what can i do for you", "what can i help"),
)
_BIG_ACTS: Final = ("implement", "refactor", "rewrit", "migrat", "architect", "redesign", "restructur")
_BUG: Final = ("bug", "debug", "crash")


def normalise(text: str) -> str:
    """Lower case, words parted by single spaces; no punctuation but apostrophes, no courtesies.

    "Yes, please!" and "YES" are both "yes"; A text of courtesies only keeps them.
    """
    folded = text.casefold().replace("’", "'")
    words = "".join([c if c.isalnum() or c in _KEPT else " " for c in folded]).split()
    return " ".join([w for w in words if w not in _COURTESY] or words)


PHRASES: Final = frozenset(
    normalise(phrase) for phrase in (*_YES, *_ACTIONS, *_ANSWERS, *(f"{yes} {act}" for yes in _YES for act in _ACTIONS))
)


def is_confirmation(text: str) -> bool:
    """Whether a user's whole turn is a confirmation: at most MAX_CHARS characters, one of PHRASES."""
    text = text.strip()
    return len(text) <= MAX_CHARS and normalise(text) in PHRASES


def proposal_before(turns: Sequence[Turn], index: int) -> str:
    """Text of the nearest assistant turn before `turns[index]` that has any, or "".

    A turn of tool calls alone proposes nothing that can be read and is passed over: what it works on was said before.
    """
    for turn in reversed(turns[:index]):
        if turn.role == "assistant" and turn.texts:
            text = turn_text(turn.texts)
            if text and not text.isspace():
                return text
    return ""


def proposal_weight(proposal: str) -> tuple[float, str]:
    """How hard it is to do what the assistant proposed, in [0, 1], and the sign that says so.

    AION's scale; a plan with code is the seed's own example of tier 3. 0 when nothing was proposed.
    """
    text = excerpt(proposal, PROPOSAL_HEAD, PROPOSAL_HEAD)
    lowered = text.lower()
    fences = proposal.count("```")
    plan = _has_step(lowered, "1") and _has_step(lowered, "2")
    if not fences and not plan and len(text) < OFFER_CHARS and any(offer in lowered for offer in _OFFERS):
        return 0.0, "small talk"
    signs = [(0.0, "small talk")]
    if fences >= 4:
        signs.append((0.85, "code"))
    elif fences >= 2:
        signs.append((0.85, "plan with code") if plan else (0.65, "code"))
    if _has_word(lowered, _BIG_ACTS):
        signs.append((0.75, "implementation"))
    if plan:
        signs.append((0.70, "plan"))
    if _has_word(lowered, _BUG):
        signs.append((0.55, "bug"))
    if len(proposal) > 1000:
        signs.append((0.60 if len(proposal) > 3000 else 0.40, "long answer"))
    return max(signs)


def _has_step(lowered: str, number: str) -> bool:
    """Whether "1.", "1)" or "1:" begins a word, "#", "**" and "step " before it aside."""
    for end in _STEP_ENDS:
        place = lowered.find(number + end)
        while place >= 0:
            after = lowered[place + 2 : place + 3]
            if not after or after == "*" or after.isspace():
                before = lowered[max(0, place - _STEP_HEAD) : place].removesuffix("step ").rstrip("#*")
                if not before or before[-1].isspace():
                    return True
            place = lowered.find(number + end, place + 2)
    return False


def _has_word(lowered: str, beginnings: Sequence[str]) -> bool:
    for beginning in beginnings:
        place = lowered.find(beginning)
        while place >= 0:
            if place == 0 or not lowered[place - 1].isalpha():
                return True
            place = lowered.find(beginning, place + 1)
    return False


def proposal_terms(proposal: str, weight: float) -> list[str]:
    """The terms of a proposal for the text model, and marks of its shape. `weight`: its `proposal_weight`."""
    length = min(LONGEST_PROPOSAL, len(proposal[:READ_PROPOSAL].split()).bit_length())
    found = [
        f"{MARK}fences{min(2, proposal.count('```') // 2)}",
        f"{MARK}words{length}",
        f"{MARK}weight{round(weight * 100)}",
    ]
    if proposal.rstrip().endswith("?"):
        found.append(MARK + "asks")
    return terms(excerpt(proposal, 600, 300)) + found
