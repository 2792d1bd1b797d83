"""How well the classifier does on the unseen turns, tasks and paraphrases: the figures of docs/classifier.md.

    python -m aion_extproc.classify.training.report
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import orjson
from sklearn.metrics import f1_score  # type: ignore[import-untyped]

from aion_extproc.classify.classification import Classification, Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.training.examples import FOLDER
from aion_extproc.classify.training.scenes import body, load, scene_body
from aion_extproc.wire.format import Format
from aion_extproc.wire.reading import conversation
from aion_extproc.wire.request import parse

UNSEEN = FOLDER / "unseen"


def turns(classifier: Classifier) -> Counter[tuple[int, int]]:
    """How many unseen turns, in their scenes, of which tier came to which tier, by (right, found)."""
    thresholds = Thresholds()
    return Counter(
        (turn.tier, thresholds.tier(_ask(classifier, *body(turn, 0)).score)) for turn in load(UNSEEN / "turns.jsonl")
    )


def tasks(classifier: Classifier) -> float:
    """Macro-F1 of the tasks of the unseen prompts."""
    rows = _rows("tasks.jsonl")
    found = []
    for row in rows:
        sent = scene_body(
            row.get("scene", "bare"), row["prompt"], at_work=row["task"] == "agentic", key=f"{row['id']}/0"
        )
        found.append(_ask(classifier, *sent).task)
    return float(f1_score([row["task"] for row in rows], found, average="macro"))


def paraphrases(classifier: Classifier) -> float:
    """The share of unseen pairs, as bare prompts, whose two wordings have the same tier."""
    thresholds, rows = Thresholds(), _rows("paraphrases.jsonl")

    def tier(said: str) -> int:
        return thresholds.tier(_ask(classifier, *scene_body("bare", said, at_work=False, key="")).score)

    return sum(tier(row["a"]) == tier(row["b"]) for row in rows) / len(rows)


def scores(classifier: Classifier) -> dict[str, float]:
    """On the unseen part: shares from 0 to 1, and how many turns of tier 3 came to tier 1."""
    found = turns(classifier)
    right = sum(count for (tier, other), count in found.items() if tier == other)
    return {
        "turns_on_their_tier": round(right / found.total(), 3),
        "turns_of_tier_3_on_tier_1": found[3, 1],
        "tasks_macro_f1": round(tasks(classifier), 3),
        "paraphrases_on_one_tier": round(paraphrases(classifier), 3),
    }


def main() -> None:
    for mode in ("seed", "learned"):
        classifier = Classifier.load(mode)
        print(mode, scores(classifier))
        wrong = [f"{a} as {b}: {count}" for (a, b), count in sorted(turns(classifier).items()) if a != b]
        print(f"  turns of tier {', '.join(wrong)}")


def _ask(classifier: Classifier, format: Format, sent: dict[str, Any]) -> Classification:
    return classifier.classify(conversation(parse(orjson.dumps(sent), format)))


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (UNSEEN / name).read_text("utf-8").splitlines() if line]


if __name__ == "__main__":
    main()
