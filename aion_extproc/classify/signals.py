"""The seven signals, their weights, and what each measures. Every signal is in [0, 1].

Weights and constants are AION's (docs/classifier.md names the source).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from math import fsum
from types import MappingProxyType
from typing import Final

from aion_extproc.classify.features import CHARS_PER_TOKEN, excerpt, volume
from aion_extproc.classify.intents import COMPLEXITY
from aion_extproc.classify.terms import stems
from aion_extproc.wire.conversation import Conversation, Preferences

WEIGHTS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "content_keywords": 0.25,
        "intent": 0.35,
        "token_volume": 0.10,
        "message_count": 0.05,
        "system_prompt": 0.05,
        "tools": 0.05,
        "hints": 0.15,
    }
)

# Fitted to labelled turns in agents' requests (docs/classifier.md has the ablation): beside the intent no other signal
# adds anything there, and each that had a weight would let padding, tools or a long session move a turn. The user's
# hints keep the weight that AION gives them. An intent of .25 is then a score of .35, and .75 one of .70.
LEARNED: Final[Mapping[str, float]] = MappingProxyType(
    {name: 0.0 for name in WEIGHTS} | {"intent": 0.70, "hints": 0.15}
)
LEARNED_BIAS: Final = 0.10

KEYWORD = 0.20
CODE_FENCE = 0.20
BRACES = 0.10
MATH = 0.15
FULL_TOKENS = 4000  # a conversation of so many estimated tokens has the full token volume signal
FULL_TURNS = 20
STRONG_PHRASE = 0.3
TOOLS_ATTACHED = 0.3
SYSTEM_HEAD = 2000  # characters of a system prompt that are searched, and as many at its end
SYSTEM_PARTS = 8

# One entry a verb: British spellings and nouns of the same stem are the same word.
KEYWORDS: Final = (
    stems("analyze", "analyse"),
    stems("explain"),
    stems("compare"),
    stems("prove", "proves", "proved"),
    stems("derive", "deriving"),
    stems("implement"),
    stems("architect"),
    stems("design"),
    stems("optimize", "optimise"),
    stems("refactor"),
    stems("debug", "debugs", "debugging"),
    stems("evaluate"),
)
_KEYWORD_OF: Final = {stem: verb for verb, forms in enumerate(KEYWORDS) for stem in forms}

# What a prompt asks to be done; a second and a third one make it a longer job.
TASK_VERBS: Final = frozenset(_KEYWORD_OF) | stems(
    *("add", "build", "convert", "create", "deploy", "document", "explore", "extract", "fix", "generate"),
    *("investigate", "integrate", "migrate", "plan", "remove", "replace", "rewrite", "review", "split"),
    *("summarize", "summarise", "translate", "update", "validate", "verify", "write"),
)
RULED_OUT = 0.05  # below this a small model's probability is smear: eleven such would make "hello" look like work
FURTHER_VERB = 0.15
FURTHER_VERBS_CAP = 0.30
CONDITIONAL = 0.10
CONDITIONALS: Final = stems("if", "when", "unless", "otherwise", "whether", "depending", "provided")
ENUMERATION = 0.10
ORDINALS: Final = stems("second", "then", "finally", "third")
QUESTION_FACTORS: Final = (1.0, 1.2, 1.4)

STRONG_PHRASES: Final = (
    ("step-by-step", "step by step"),
    ("chain of thought", "chain-of-thought"),
    ("formal proof",),
    ("mathematical",),
)


def content_keywords(text: str, words: Set[str]) -> float:
    """.20 for each complexity verb in `words`, .20 a code fence, .10 braces, .15 a dollar sign in `text`."""
    value = KEYWORD * len({_KEYWORD_OF[stem] for stem in _KEYWORD_OF.keys() & words})
    if "```" in text:
        value += CODE_FENCE
    if "{" in text and "}" in text:
        value += BRACES
    if "$" in text:
        value += MATH
    return min(1.0, value)


def intent(base: float, lowered: str, words: Set[str]) -> float:
    """`base` (Σ p · complexity) with bonuses for further verbs, conditions, lists, and how / why / what-if."""
    verbs = len(TASK_VERBS & words)
    value = base + min(FURTHER_VERBS_CAP, FURTHER_VERB * max(0, verbs - 1))
    if CONDITIONALS & words:
        value += CONDITIONAL
    if enumerates(lowered, words):
        value += ENUMERATION
    questions = ("how" in words) + ("why" in words) + ("what if" in lowered or "what-if" in lowered)
    return min(1.0, value * QUESTION_FACTORS[min(questions, 2)])


def enumerates(text: str, words: Set[str]) -> bool:
    """Whether the text lists things: 1. and 2., 1) and 2), bullets on lines of their own, first … then."""
    return (
        ("1." in text and "2." in text)
        or ("1)" in text and "2)" in text)
        or "\n- " in text
        or "\n* " in text
        or ("first" in words and not ORDINALS.isdisjoint(words))
    )


def expected_complexity(probabilities: Mapping[str, float]) -> float:
    """Σ p · COMPLEXITY[category] over the categories that are not ruled out (p ≥ RULED_OUT), p summing to 1 there."""
    likely = [(p, COMPLEXITY[name]) for name, p in probabilities.items() if p >= RULED_OUT]
    return fsum([p * c for p, c in likely]) / fsum([p for p, _ in likely])


def system_prompt(texts: Sequence[str]) -> float:
    """.3 for each strong phrase; length does not count, agents' system prompts are long whatever is asked."""
    if not texts:
        return 0.0
    value = 0.0
    lowered = "\n".join([excerpt(part, SYSTEM_HEAD, SYSTEM_HEAD) for part in texts[:SYSTEM_PARTS]]).lower()
    for phrase in STRONG_PHRASES:
        if any(form in lowered for form in phrase):
            value += STRONG_PHRASE
    return min(1.0, value)


def hints(preferences: Preferences) -> float:
    """A tier as (tier − 1) / 2, quality .8, speed .1, none .5. A tier is the plainest hint and wins."""
    if preferences.tier is not None:
        return (preferences.tier - 1) / 2
    if preferences.prefer_quality:
        return 0.8
    return 0.1 if preferences.prefer_speed else 0.5


def about_conversation(conversation: Conversation) -> dict[str, float]:
    """The five signals that do not depend on the last user turn's words."""
    full = FULL_TOKENS * CHARS_PER_TOKEN
    return {
        "token_volume": min(1.0, volume(conversation, full) / full),
        "message_count": min(1.0, len(conversation.turns) / FULL_TURNS),
        "system_prompt": system_prompt(conversation.system),
        "tools": TOOLS_ATTACHED if conversation.tools else 0.0,
        "hints": hints(conversation.preferences),
    }
