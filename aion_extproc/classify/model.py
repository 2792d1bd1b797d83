"""The trained parts of the classifier, as they ship: `model.json`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import orjson

from aion_extproc.classify.gain import GainModel
from aion_extproc.classify.intents import CONFIRMATION, TIERS
from aion_extproc.classify.questions import FEATURES
from aion_extproc.classify.tasks import TASKS
from aion_extproc.classify.text_model import TextModel

VERSION: Final = 3
TIER: Final = {"1", "2", "3"}
NAME: Final = "model.json"


@dataclass(frozen=True, slots=True)
class Model:
    """What was learned: of words, and of questions with options."""

    text: TextModel
    gain: GainModel

    @classmethod
    def load(cls) -> Model:
        """The one that ships with the package."""
        return cls.from_json(files(__package__).joinpath(NAME).read_bytes())

    @classmethod
    def from_json(cls, data: bytes) -> Model:
        """ValueError if it was trained for another version of the code."""
        raw = orjson.loads(data)
        heads = raw["text"]["heads"] if raw.get("version") == VERSION else {}
        wanted = {"intent": {*TIERS, CONFIRMATION}, "tier": TIER, "task": set(TASKS), "proposal": TIER}
        if {name: set(found) for name, found in heads.items()} != wanted or raw["gain"]["features"] != list(FEATURES):
            raise ValueError(f"{NAME} was trained for another version of the classifier: run aion train")
        return cls(TextModel.of(raw["text"]), GainModel.of(raw["gain"]))
