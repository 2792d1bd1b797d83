"""The labelled texts of the package, as examples for the text model's heads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from zlib import crc32

from aion_extproc.classify.confirmations import proposal_terms, proposal_weight
from aion_extproc.classify.instruction import read
from aion_extproc.classify.intents import CONFIRMATION, TIERS
from aion_extproc.classify.training.scene_texts import PASTED
from aion_extproc.classify.training.scenes import Turn, load

FOLDER: Final = Path(str(files(__package__)))
TURNS: Final = (
    *("turns.jsonl", "turns_more.jsonl", "turns_languages.jsonl", "turns_earlier.jsonl", "turns_voices.jsonl"),
    *("turns_desks.jsonl", "turns_wide.jsonl", "turns_brief.jsonl", "turns_stubs.jsonl", "confirmations.jsonl"),
)
PARAPHRASES: Final = ("paraphrases.jsonl", "paraphrases_earlier.jsonl")
TASKS: Final = (
    *("tasks.jsonl", "tasks_more.jsonl", "tasks_material.jsonl", "tasks_earlier.jsonl", "tasks_apps.jsonl"),
    "tasks_mixed.jsonl",
)
GROUPS: Final = (
    *("paraphrase_groups.jsonl", "paraphrase_forms.jsonl", "paraphrase_verbs.jsonl"),
    *("languages_tongues.jsonl", "languages_idioms.jsonl", "languages_polyglot.jsonl"),
)
_CATEGORY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "knowledge": "lookup",
        "small_talk": "small_talk",
        "logic_edit": "edit",
        "new_function": "code",
        "unit_test": "code",
        "explain_code": "explain",
        "debug_trace": "debug",
        "root_cause": "debug",
        "review": "analysis",
        "docs": "writing",
    }
)
_TALK: Final = {("knowledge", 2): "explain", ("knowledge", 3): "proof", ("small_talk", 2): "writing"}
_OF_TIER: Final = {1: "mechanical", 2: "edit", 3: "design"}  # for kinds that have no category at their tier
PROPOSAL_WEIGHT: Final = 4.0  # proposals are few, and the turns beside them only teach them words
PASTES: Final = 6  # one in so many examples comes with something pasted below, too


class Example(NamedTuple):
    """A text's terms, its label in one head, and its author ("prompts", or the file's name)."""

    text: str
    terms: tuple[str, ...]
    label: str
    author: str
    weight: float = 1.0


def category(kind: str, tier: int) -> str:
    """The intent category of an agent's turn."""
    if kind == CONFIRMATION:
        return CONFIRMATION
    found = _TALK.get((kind, tier)) or _CATEGORY.get(kind, _OF_TIER[tier])
    return found if TIERS[found] == tier else _OF_TIER[tier]


def prompts() -> list[Example]:
    """The short prompts, by intent."""
    return [_example(row["prompt"], row["category"], "prompts") for row in _rows("prompts.jsonl")]


def turns() -> list[tuple[str, Turn]]:
    """The agents' turns, each with its file's name."""
    return [(name, turn) for name in TURNS for turn in load(FOLDER / name)]


def intents() -> list[Example]:
    """Prompts, turns and paraphrases, by intent; some of them also with something pasted below."""
    found = prompts()
    found += [_example(turn.said, category(turn.kind, turn.tier), name) for name, turn in turns()]
    found += [_example(said, category(row["kind"], row["tier"]), name) for name, row, said in _groups()]
    found = _not_unseen(found)
    return found + [_pasted(example) for example in found if _takes_paste(example)]


def _takes_paste(example: Example) -> bool:
    """One in PASTES of what is said in one line and not only as a courtesy."""
    talk = example.label in (CONFIRMATION, "small_talk")
    return not talk and "\n" not in example.text and crc32(example.text.encode()) % PASTES == 0


def _pasted(example: Example) -> Example:
    """With a log, trace or code below: what is pasted does not change what is asked."""
    below = PASTED[crc32(example.text.encode()) // PASTES % len(PASTED)]
    return _example(f"{example.text}\n\n{below}", example.label, example.author)


def tiers() -> list[Example]:
    """Prompts, turns that are no confirmations, and paraphrases, by tier."""
    found = [
        Example(example.text, example.terms, str(TIERS[example.label]), example.author)
        for example in intents()
        if example.label != CONFIRMATION
    ]
    pairs = [(name, row) for name in PARAPHRASES for row in _rows(name)]
    return found + _not_unseen([_example(row[side], str(row["tier"]), name) for name, row in pairs for side in "ab"])


def tasks() -> list[Example]:
    """Task prompts, turns that are no confirmations, and paraphrases, by task."""
    found = [_example(row["prompt"], row["task"], name) for name in TASKS for row in _rows(name)]
    found += [_example(said, row["task"], name) for name, row, said in _groups() if row["kind"] != CONFIRMATION]
    found += [_example(turn.said, turn.task, name) for name, turn in turns() if turn.kind != CONFIRMATION]
    return _not_unseen(found)


def proposals() -> list[Example]:
    """What was proposed before a confirmation, by tier; and, with less weight, what was asked in turns."""
    found = []
    for name, turn in turns():
        if turn.kind == CONFIRMATION:
            found.append(_proposal(turn.proposal, turn.tier, name, PROPOSAL_WEIGHT))
        else:
            found.append(_proposal(turn.said, turn.tier, name, 1.0))
    return found


def _proposal(text: str, tier: int, author: str, weight: float) -> Example:
    return Example(text, tuple(proposal_terms(text, proposal_weight(text)[0])), str(tier), author, weight)


def _groups() -> list[tuple[str, dict[str, Any], str]]:
    """Each wording of the paraphrases in groups, with its file's name and its group."""
    return [(name, row, said) for name in GROUPS for row in _rows(name) for said in row["said"]]


def _not_unseen(found: list[Example]) -> list[Example]:
    """Without what another author also wrote into the unseen part: short requests are the same everywhere.

    A confirmation's words are everybody's; what it says yes to is what is judged.
    """
    unseen = {row["said"] for row in _rows("unseen/turns.jsonl")}
    unseen |= {row["prompt"] for row in _rows("unseen/tasks.jsonl")}
    unseen |= {row[side] for row in _rows("unseen/paraphrases.jsonl") for side in "ab"}
    folded = {text.strip().lower() for text in unseen}
    return [e for e in found if e.label == CONFIRMATION or e.text.strip().lower() not in folded]


def _example(text: str, label: str, author: str) -> Example:
    return Example(text, tuple(read(text).terms), label, author)


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines() if line]
