"""Floors: what a request plainly asks for, where a weighted sum cannot say it.

The seven weights leave a short prompt without hints at .25 + .35 + .075 = .675, even with the keyword and intent
signals at their maximum: "refactor this package" could never reach tier 3. A floor is a general rule, never one
sentence; it raises a score, is named in the reason, and moves with the user's hints as the sum does.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from aion_extproc.classify.signals import WEIGHTS
from aion_extproc.classify.terms import stems

HARD = 0.75  # clearly tier 3 at the default thresholds; a hint of speed still brings it to tier 2
WORK = 0.36  # just tier 2; a hint of speed brings it to tier 1
REACH = 8  # terms after the verb in which its object stands

# Verbs whose object is a body of code…
_ACTS: Final = stems(
    *("refactor", "rewrite", "restructure", "redesign", "rearchitect", "architect", "migrate", "port", "modernize"),
    *("modernise", "modularize", "modularise", "overhaul", "reorganize", "reorganise", "decouple", "rework", "design"),
)
# …and those that are wide only with "entire", "across" and the like.
_LIGHT_ACTS: Final = stems(
    *("add", "build", "change", "convert", "implement", "introduce", "make", "move", "remove", "rename", "replace"),
    *("split", "unify", "update", "upgrade", "consolidate", "extract"),
)
_QUANTIFIERS: Final = stems("across", "all", "entire", "every", "everywhere", "throughout", "whole")
_OBJECTS: Final = stems(
    *("app", "application", "architecture", "backend", "cluster", "codebase", "database", "engine", "framework"),
    *("frontend", "infrastructure", "layer", "library", "microservice", "module", "modules", "monolith", "monorepo"),
    *("package", "packages", "pipeline", "platform", "project", "projects", "repo", "repository", "schema", "service"),
    *("stack", "subsystem", "system", "systems", "workspace"),
)
_NOT: Final = stems("don", "not", "never", "without", "avoid", "dont")
HARD_CATEGORIES: Final = frozenset({"design", "proof"})
EASY_CATEGORIES: Final = frozenset({"small_talk", "lookup", "mechanical", "text", "writing"})
SURE = 0.50  # more likely than not: the intent model alone says hard
LIKELY = 0.25  # it is enough when the words say so too
AT_WORK = 0.60  # just above 7 / 12, the share of a prompt of which the model knows no word


def names_wide_change(words: Sequence[str], present: Set[str]) -> bool:
    """Whether a verb such as "refactor" has a whole package, service, codebase … as its object."""
    acts = _ACTS & present
    light = _LIGHT_ACTS & present if _QUANTIFIERS & present else frozenset()
    if not (acts or light) or not _OBJECTS & present:
        return False
    for place, word in enumerate(words):
        if word not in acts and word not in light:
            continue
        if not _NOT.isdisjoint(words[max(0, place - 3) : place]):
            continue
        object_ = words[place + 1 : place + 1 + REACH]
        if not _OBJECTS.isdisjoint(object_) and (word in acts or not _QUANTIFIERS.isdisjoint(object_)):
            return True
    return False


def demand(words: Sequence[str], present: Set[str], hard: float, easy: float, hints: float) -> tuple[float, str]:
    """Floor on the score and its name, or (0, "").

    `hard` and `easy` are the probabilities of HARD_CATEGORIES and of EASY_CATEGORIES, each together.
    """
    shift = WEIGHTS["hints"] * (hints - 0.5)
    if hard >= SURE:
        return HARD + shift, "hard intent"
    if hard >= LIKELY and names_wide_change(words, present):
        return HARD + shift, "wide change"
    if easy <= 1.0 - AT_WORK:
        return WORK + shift, "work intent"
    return 0.0, ""
