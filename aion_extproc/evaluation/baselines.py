"""What is compared: the classifier's score, and rankings that need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import maxsize

import numpy as np

from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.features import volume
from aion_extproc.evaluation.curve import Floats
from aion_extproc.wire.conversation import Conversation

OURS = "aion"


def routing_scores(conversations: Sequence[Conversation], classifier: Classifier) -> Floats:
    """(n,) the scores that route."""
    return np.array([classifier.classify(conversation).score for conversation in conversations])


def scores(conversations: Sequence[Conversation], gain: Floats, classifier: Classifier) -> Mapping[str, Floats]:
    """(n,) scores by the ranking's name. `gain`: quality of the strong model minus that of the weak one.

    `aion`: the score that routes. `seed`: AION's fixed weights. `length`: characters of the turns. `keywords`: the
    content keywords signal alone. `random`: the same score for all, which measures chance exactly (curve.py).
    `oracle`: the gain itself, that is the most that any ranking by call can recover.
    """
    found = [classifier.classify(conversation) for conversation in conversations]
    return {
        OURS: np.array([result.score for result in found]),
        "seed": routing_scores(conversations, classifier.using("seed")),
        "length": np.array([float(volume(conversation, maxsize)) for conversation in conversations]),
        "keywords": np.array([result.signals["content_keywords"] for result in found]),
        "random": np.zeros(len(found)),
        "oracle": gain,
    }
