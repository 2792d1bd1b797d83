"""How well an intent model does on prompts it was not trained on: the figures of docs/classifier.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aion_extproc.classify.classification import Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.intent import IntentModel
from aion_extproc.classify.terms import terms
from aion_extproc.classify.training.train import Example
from aion_extproc.wire.conversation import Conversation, Turn

# The tiers that are right for a bare prompt of each category. A haiku may stay at tier 1, an essay may not.
RIGHT_TIERS = {
    "small_talk": {1},
    "lookup": {1},
    "mechanical": {1},
    "text": {1},
    "writing": {1, 2},
    "explain": {2},
    "edit": {2},
    "analysis": {2},
    "debug": {2},
    "code": {2},
    "design": {3},
    "proof": {3},
}


def print_report(model: IntentModel, examples: Sequence[Example]) -> None:
    """Accuracy by category, and the tiers that whole bare prompts come to at the default thresholds."""
    classifier, thresholds = Classifier(model), Thresholds()
    tiers: dict[str, Counter[int]] = {name: Counter() for name in RIGHT_TIERS}
    hits: Counter[str] = Counter()
    for prompt, category in examples:
        probabilities = model.probabilities(terms(prompt))
        best = model.categories[max(range(len(probabilities)), key=probabilities.__getitem__)]
        hits[category] += best == category
        scored = classifier.classify(Conversation((Turn("user", (prompt,)),)))
        tiers[category][thresholds.tier(scored.score)] += 1
    print(f"{'category':<12}{'prompts':>8}{'right category':>16}{'tier 1':>8}{'tier 2':>8}{'tier 3':>8}")
    right = 0
    for name, seen in tiers.items():
        count = seen.total()
        right += sum(seen[tier] for tier in RIGHT_TIERS[name])
        share = hits[name] / count if count else 0.0
        print(f"{name:<12}{count:>8}{share:>16.2f}{seen[1]:>8}{seen[2]:>8}{seen[3]:>8}")
    total = len(examples)
    below = sum(n for name, seen in tiers.items() for t, n in seen.items() if t < min(RIGHT_TIERS[name]))
    above = sum(n for name, seen in tiers.items() for t, n in seen.items() if t > max(RIGHT_TIERS[name]))
    print(f"\n{total} prompts: right category {hits.total() / total:.3f}, right tier {right / total:.3f}")
    print(f"too low {below / total:.3f}, too high {above / total:.3f}")
