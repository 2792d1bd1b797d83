"""Trains the classifier's model and writes it: `aion train --data graded.jsonl --out model.json`.

Needs the extra `train` (scikit-learn); the service never imports it. The result depends on the data and scikit-learn's
version alone: same data, same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

import sklearn  # type: ignore[import-untyped]

from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.gain import GainModel
from aion_extproc.classify.model import VERSION, Model
from aion_extproc.classify.questions import FEATURES
from aion_extproc.classify.text_model import TextModel
from aion_extproc.classify.training import gain, report, text
from aion_extproc.evaluation.data import Row

SPLITS: Final = (
    "tiers, tasks and paraphrases: texts of an author whose others were not trained on; gain: five folds, each of "
    "whole groups that were left out"
)
WEAKNESSES: Final = (
    "reads words, not meaning: a short request of unknown words is taken for an easy one",
    "labels say what a request asks for; no model's answer was measured for them, only for questions with options",
    "the authors of the labelled texts are language models, also where it is not English",
    "gain is learned from exam questions in English, of one strong and one weak model",
)


def train(rows: Sequence[Row], digest: str, source: str) -> tuple[bytes, dict[str, Any]]:
    """The artifact, and the model card that is in it. `digest`: SHA-256 of the graded answers; `source`: what they are
    and under which licence. ValueError: too few groups."""
    questions = gain.Questions(rows)
    gain_model, found = gain.train(questions)
    text_model = text.train()
    classifier = Classifier(Model(TextModel.of(text_model), GainModel.of(gain_model)))
    card = {
        "scikit_learn": sklearn.__version__,
        "labelled_texts": {head: len(load()) for head, load in text.HEADS.items()},
        "labelled_licence": "Apache-2.0, written for aion-extproc",
        "graded": {
            "source": source,
            "sha256": digest,
            "rows": len(questions.gain),
            "groups": len(set(questions.groups)),
            "left_out": sorted(gain.LEFT_OUT),
            "strong": questions.strong,
            "weak": questions.weak,
        },
        "splits": SPLITS,
        "scores": {**report.scores(classifier), "gain_apgr": None if found is None else round(found, 3)},
        "weaknesses": WEAKNESSES,
    }
    return dump(card, text_model, gain_model), card


def dump(card: dict[str, Any], text_model: dict[str, Any], gain_model: dict[str, Any]) -> bytes:
    """The artifact's bytes: one term a line."""
    terms = ",\n".join(f"{_json(name)}:{_json(row)}" for name, row in text_model["terms"].items())
    trees = ",\n".join(_json(tree) for tree in gain_model["trees"])
    return (
        f'{{"version":{VERSION},\n"card":{_json(card)},\n'
        f'"gain":{{"features":{_json(FEATURES)},"base":{gain_model["base"]},"slope":{gain_model["slope"]},"trees":[\n'
        f'{trees}\n]}},\n"text":{{"heads":{_json(text_model["heads"])},\n"bias":{_json(text_model["bias"])},\n'
        f'"terms":{{\n{terms}\n}}}}}}\n'
    ).encode()


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
