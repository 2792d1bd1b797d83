"""A conversation in, a score out: the seven signals, their weighted sum, and the floors above it."""

from __future__ import annotations

from math import fsum
from types import MappingProxyType

from aion_extproc.classify import confirmations, floors, signals, tasks
from aion_extproc.classify.classification import Classification
from aion_extproc.classify.features import excerpt, last_user_turn
from aion_extproc.classify.intent import IntentModel
from aion_extproc.classify.terms import terms
from aion_extproc.wire.conversation import Conversation

DIGITS = 6


class Classifier:
    """Scores conversations. Immutable, without I/O or clock: one instance serves every request of a process."""

    __slots__ = ("_easy", "_hard", "_model")

    def __init__(self, model: IntentModel) -> None:
        self._model = model
        self._hard = [i for i, name in enumerate(model.categories) if name in floors.HARD_CATEGORIES]
        self._easy = [i for i, name in enumerate(model.categories) if name in floors.EASY_CATEGORIES]

    @classmethod
    def load(cls) -> Classifier:
        """With the intent model that ships in the package."""
        return cls(IntentModel.load())

    def classify(self, conversation: Conversation) -> Classification:
        """Never raises, whatever the texts hold; the same conversation gives the same result everywhere."""
        place, said = last_user_turn(conversation.turns)
        text = excerpt(said)
        words = terms(text)
        present = frozenset(words)
        model = self._model
        probabilities = model.probabilities(words)
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        category = model.categories[best]

        values = signals.about_conversation(conversation)
        values["content_keywords"] = signals.content_keywords(said, present)
        base = signals.expected_complexity(model.categories, probabilities) if said else 0.0
        values["intent"] = signals.intent(base, text.lower(), present)
        ordered = {name: round(values[name], DIGITS) for name in signals.WEIGHTS}
        score = fsum([weight * ordered[name] for name, weight in signals.WEIGHTS.items()])

        if confirmations.is_confirmation(said):
            proposal = confirmations.proposal_before(conversation.turns, place)
            floor, sign = confirmations.proposal_weight(proposal)
            reason = f"confirms {sign}"
            task = "chat"
            if floor:
                shown = terms(excerpt(proposal))
                task = tasks.guess_task(shown, category, 0.0)
        else:
            hard = fsum([probabilities[i] for i in self._hard])
            easy = fsum([probabilities[i] for i in self._easy])
            floor, sign = floors.demand(words, present, hard, easy, values["hints"]) if said else (0.0, "")
            reason = f"{category.replace('_', ' ')}" + (f", {sign}" if floor > score else "")
            task = tasks.guess_task(words, category, probabilities[best]) if said else "chat"
        return Classification(
            score=round(min(1.0, max(score, floor)), DIGITS),
            task=tasks.with_tools(task, conversation),
            signals=MappingProxyType(ordered),
            reason=reason,
            floored=floor > score,
        )
