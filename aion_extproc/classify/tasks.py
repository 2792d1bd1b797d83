"""What kind of work a prompt asks for: the text model's judgement, and rules about tools."""

from __future__ import annotations

from collections.abc import Mapping, Set
from math import exp
from typing import Final

from aion_extproc.classify.terms import stems
from aion_extproc.wire.conversation import Conversation

TASKS: Final = (
    "extraction",
    "classification",
    "summarisation",
    "rewriting",
    "translation",
    "reasoning",
    "code",
    "agentic",
    "chat",
)

RECENT_TURNS = 8  # tool calls in the last so many turns make it an agent's conversation
RULE: Final = 1.0  # log odds that a task's own word adds to what the text model thinks
_WORDS: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("translation", stems("translate", "translation", "traduce", "traduis", "traduire", "traduza", "übersetze")),
    ("summarisation", stems("summarize", "summary", "summarise", "tldr", "condense", "résume", "gist", "recap")),
    ("rewriting", stems("rewrite", "rephrase", "reword", "paraphrase", "proofread", "grammar", "shorten", "polish")),
    ("extraction", stems("extract", "extraction", "parse")),
    ("classification", stems("classify", "classification", "categorize", "categorise", "sentiment", "spam", "label")),
    ("reasoning", stems("prove", "proof", "derive", "theorem", "compare", "calculate", "probability", "implications")),
    ("code", stems("python", "javascript", "typescript", "java", "rust", "golang", "sql", "regex", "bash", "function")),
)
_RULE_FACTOR: Final = exp(RULE)
_AT_WORK: Final = ("code", "agentic")


def task_of(probabilities: Mapping[str, float], words: Set[str], subject: str, conversation: Conversation) -> str:
    """One of TASKS: the likeliest for the words, where "agentic" needs tools, and a task's own verb counts for it.

    Where tools are called, every task but chat is a step of an agent; where they are only attached, work on code is.
    `subject`: the text that the words are of; nothing said is chat.
    """
    if not subject:
        return "chat"
    likely = dict(probabilities)
    for name, known in _WORDS:
        if not known.isdisjoint(words):
            likely[name] *= _RULE_FACTOR
    work = sum(likely.pop(name) for name in _AT_WORK)
    best = max(likely, key=likely.__getitem__)
    if conversation.tools:
        return "agentic" if work > likely[best] else best
    recent = conversation.turns[-RECENT_TURNS:]
    if any(turn.tool_calls or turn.tool_results for turn in recent):
        return "agentic"
    return "code" if work > likely[best] else best
