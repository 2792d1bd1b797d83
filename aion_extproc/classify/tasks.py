"""What kind of work a prompt asks for, by rule. When two kinds fit, the one that needs the more capable model."""

from __future__ import annotations

from collections.abc import Sequence
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

INSTRUCTION_TERMS = 60  # an instruction is looked for in so many terms at either end
RECENT_TURNS = 8  # tool calls in the last so many turns make it an agent's conversation

# In the order in which they win. Stems that other words share (import, except, commit) are
# left to the intent model.
_WORDS: Final = (
    (
        "code",
        stems(
            *(
                "code",
                "def",
                "python",
                "javascript",
                "typescript",
                "java",
                "rust",
                "golang",
                "kotlin",
                "sql",
                "regex",
                "bash",
            ),
            *("function", "compiler", "refactor", "debug", "bug", "traceback", "unittest"),
            *("pytest", "api", "endpoint", "docker", "dockerfile", "kubernetes", "git", "repo", "codebase"),
            *("lint", "linter", "null", "nullptr", "async", "html", "css", "react", "django", "npm"),
        )
        | {"```"},
    ),
    (
        "reasoning",
        stems(
            *("prove", "proof", "derive", "theorem", "lemma", "solve", "calculate", "probability"),
            *("analyze", "analyse", "compare", "evaluate", "explain", "why", "reason", "reasoning", "estimate"),
            *("strategy", "plan", "diagnose", "equation", "implications"),
        ),
    ),
    ("translation", stems("translate", "translation", "traduce", "traduis", "traduire", "traduza", "übersetze")),
    ("summarisation", stems("summarize", "summary", "summarise", "tldr", "condense", "résume")),
    (
        "rewriting",
        stems("rewrite", "rephrase", "reword", "paraphrase", "proofread", "grammar", "shorten", "simplify", "concise"),
    ),
    ("extraction", stems("extract", "extraction", "parse")),
    (
        "classification",
        stems("classify", "classification", "categorize", "categorise", "label", "sentiment", "spam", "category"),
    ),
)
_BY_CATEGORY: Final = {
    "small_talk": "chat",
    "lookup": "chat",
    "writing": "chat",
    "text": "rewriting",
    "mechanical": "code",
    "edit": "code",
    "code": "code",
    "debug": "code",
    "design": "code",
    "explain": "reasoning",
    "analysis": "reasoning",
    "proof": "reasoning",
}
UNSURE = 0.35  # below this probability the intent model's best category names no task


def guess_task(words: Sequence[str], category: str, probability: float) -> str:
    """One of TASKS for the terms of a prompt; `category` is the intent model's best, for prompts no rule knows."""
    said = frozenset(words[:INSTRUCTION_TERMS]).union(words[-INSTRUCTION_TERMS:])
    for task, names in _WORDS:
        if not names.isdisjoint(said):
            return task
    return _BY_CATEGORY[category] if probability >= UNSURE else "chat"


def with_tools(task: str, conversation: Conversation) -> str:
    """ "agentic" where tools are being called, or are attached to a task about code; else `task`."""
    if conversation.tools and task == "code":
        return "agentic"
    recent = conversation.turns[-RECENT_TURNS:]
    return "agentic" if any(turn.tool_calls or turn.tool_results for turn in recent) else task
