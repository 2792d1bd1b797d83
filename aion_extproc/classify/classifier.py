"""A conversation in, a score out.

What the last user turn asks is judged once (`demand.py`); the two modes form the score from it and the other signals.
`learned`: weights that were fitted to labelled turns, in which the intent decides. `seed`: AION's seven weights, and
floors above their sum.
"""

from __future__ import annotations

from math import fsum
from types import MappingProxyType

from aion_extproc.classify import floors, signals, tasks
from aion_extproc.classify.classification import Classification, Mode
from aion_extproc.classify.demand import Demand, demand
from aion_extproc.classify.features import excerpt, last_user_turn
from aion_extproc.classify.model import Model
from aion_extproc.wire.conversation import Conversation

DIGITS = 6


class Classifier:
    """Scores conversations. Immutable, without I/O or clock: one instance serves every request of a process."""

    __slots__ = ("_mode", "_model")

    def __init__(self, model: Model, mode: Mode = "learned") -> None:
        self._model = model
        self._mode = mode

    @classmethod
    def load(cls, mode: Mode = "learned") -> Classifier:
        """With the model that ships in the package."""
        return cls(Model.load(), mode)

    def using(self, mode: Mode) -> Classifier:
        """The same model in a mode."""
        return self if mode == self._mode else Classifier(self._model, mode)

    def classify(self, conversation: Conversation) -> Classification:
        """Never raises, whatever the texts hold; the same conversation gives the same result everywhere."""
        place, said = last_user_turn(conversation.turns)
        asked = demand(self._model, conversation.turns, place, said)
        present = frozenset(asked.words)
        values = signals.about_conversation(conversation)
        values["content_keywords"] = signals.content_keywords(said, present)
        if self._mode == "learned":
            values["intent"] = asked.worth
            weights, bias = signals.LEARNED, signals.LEARNED_BIAS
        else:
            base = signals.expected_complexity(asked.intents) if said else 0.0
            values["intent"] = signals.intent(base, excerpt(said).lower(), present)
            weights, bias = signals.WEIGHTS, 0.0
        ordered = {name: round(values[name], DIGITS) for name in signals.WEIGHTS}
        score = bias + fsum([weight * ordered[name] for name, weight in weights.items()])
        reason, floor = asked.reason, 0.0
        if self._mode == "seed":
            floor, sign = self._floor(asked, present, values["hints"])
            reason += f", {sign}" if floor > score and sign else ""
        return Classification(
            score=round(min(1.0, max(score, floor)), DIGITS),
            task=tasks.task_of(asked.tasks, present, asked.subject, conversation),
            signals=MappingProxyType(ordered),
            weights=weights,
            reason=reason,
            floored=floor > score,
        )

    @staticmethod
    def _floor(asked: Demand, present: frozenset[str], hints: float) -> tuple[float, str]:
        if asked.proposed is not None:
            return asked.proposed, ""
        hard = fsum([asked.intents[name] for name in floors.HARD_CATEGORIES])
        easy = fsum([asked.intents[name] for name in floors.EASY_CATEGORIES])
        return floors.demand(asked.words, present, hard, easy, hints) if asked.subject else (0.0, "")
