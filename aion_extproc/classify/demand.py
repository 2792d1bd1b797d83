"""What the last user turn asks of a model: its intent, and a worth in [0, 1] that is mostly the tier it needs.

Half of a worth's way from tier to tier is where the model thinks both as likely: below .25 a cheap model does, above
.75 the strong one is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, fsum

from aion_extproc.classify import confirmations
from aion_extproc.classify.gain import worth as worth_of_gain
from aion_extproc.classify.instruction import read
from aion_extproc.classify.intents import CONFIRMATION, TIERS
from aion_extproc.classify.model import Model
from aion_extproc.classify.questions import choice_question, features, word_problem
from aion_extproc.wire.conversation import Turn

PLAN_WITH_CODE = 0.85  # AION's weight of a plan with code that is confirmed: its own example of tier 3
FENCED = 8.0  # how much likelier a proposal with a block of code makes it that code is asked for
PERHAPS = 0.25  # a turn that may be a confirmation is also judged by what was proposed
REASONING = 0.3  # numbers and "how many" are also in what is to be extracted from, or summed up
ORDER = 0.2  # less than .25, so that a turn that is surely of a tier stays on it
TEMPERED = 1 / 6
LEAST = 1e-30  # of a product of probabilities, so that two that exclude each other have a sum
STEPS_USUAL = 6.6  # questions.word_problem of a usual grade-school problem
STEPS_SPREAD = 0.5


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked. `worth` is the intent signal of the learned score."""

    worth: float
    reason: str
    subject: str  # the text that tells the task: the turn, or what it confirms; "" if nothing is said
    intents: Mapping[str, float]  # probability by category of intents.TIERS, 1 together
    tasks: Mapping[str, float]  # probability by task
    words: Sequence[str]  # the instruction's, as terms
    proposed: float | None = None  # AION's weight of what a confirmation says yes to


def demand(model: Model, turns: Sequence[Turn], place: int, said: str) -> Demand:
    """Of `turns[place]`, whose visible text is `said`."""
    reading = read(said)
    words, logits = reading.words, model.text.logits(reading.terms)
    found = model.text.probabilities("intent", logits)
    tasks = model.text.probabilities("task", logits)
    confirmed = found.pop(CONFIRMATION)
    rest = sum(found.values())
    intents = {name: p / rest for name, p in found.items()}
    if not said:
        return Demand(0.0, "small talk", "", intents, tasks, words)
    if confirmations.is_confirmation(said):
        return _confirmed(model, confirmations.proposal_before(turns, place), intents, tasks, words)
    question = choice_question(said)
    if question is not None:
        gain = model.gain.gain(features(question))
        return Demand(worth_of_gain(gain), f"question, gain {gain:.2f}", said, intents, tasks, words)
    best = max(intents, key=intents.__getitem__)
    by_tier = model.text.probabilities("tier", logits)
    steps = word_problem(reading.instruction)
    if steps is not None and tasks["reasoning"] >= REASONING and by_tier["3"] < 0.5:
        worth = 0.2 + 0.6 / (1.0 + exp((STEPS_USUAL - steps) / STEPS_SPREAD))
        return Demand(worth, "word problem", said, intents, tasks, words)
    by_intent = [sum(p for name, p in intents.items() if TIERS[name] == tier) for tier in (1, 2, 3)]
    worth = expected(by_intent, list(by_tier.values()))
    if confirmed >= PERHAPS and (proposal := confirmations.proposal_before(turns, place)):
        # "Yes, but for the web client, too": what was proposed, and what is said of it.
        agreed = _confirmed(model, proposal, intents, tasks, words)
        worth = confirmed * agreed.worth + (1.0 - confirmed) * worth
        if confirmed > max(found.values()):
            return replace(agreed, worth=max(agreed.worth, worth))
    return Demand(worth, best.replace("_", " "), said, intents, tasks, words)


def _confirmed(
    model: Model, proposal: str, intents: Mapping[str, float], tasks: Mapping[str, float], words: Sequence[str]
) -> Demand:
    if not proposal:
        return Demand(0.0, "confirms small talk", "", intents, tasks, words, 0.0)
    weight, sign = confirmations.proposal_weight(proposal)
    logits = model.text.logits(confirmations.proposal_terms(proposal, weight))
    by_tier = model.text.probabilities("proposal", logits)
    worth = expected(list(by_tier.values()), list(by_tier.values()))
    if weight >= PLAN_WITH_CODE:
        worth = max(worth, PLAN_WITH_CODE)
    if not weight:
        sign = "small talk" if worth < 0.25 else "work"
    tasks = model.text.probabilities("task", model.text.logits(read(proposal).terms))
    if "```" in proposal:
        tasks["code"] *= FENCED
    return Demand(worth, f"confirms {sign}", proposal, intents, tasks, words, weight)


def expected(one: Sequence[float], other: Sequence[float]) -> float:
    """(tier − 1) / 2 in expectation, of the product of two judgements of the tiers' probabilities.

    A product is sharper than either: the tier that is the likeliest to both decides. A fifth of the worth is the same
    expectation at a temperature, which orders what would otherwise all be at 0, .5 and 1 and moves none across.
    """
    both = [a * b + LEAST for a, b in zip(one, other, strict=True)]
    soft: list[float] = [p**TEMPERED for p in both]
    sharp = (0.5 * both[1] + both[2]) / fsum(both)
    return (1.0 - ORDER) * sharp + ORDER * (0.5 * soft[1] + soft[2]) / fsum(soft)
