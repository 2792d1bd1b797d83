"""Which models a key may use."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Protocol


class Offered(Protocol):
    """A model at one provider, such as catalog.model.Model."""

    @property
    def id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def tier(self) -> int: ...  # 0: none, it is only reached by name


def allowed(model: Offered, models: Collection[str] | None, tiers: Collection[int] | None) -> bool:
    """Whether rules with these `models` and `tiers` (None: all) let a caller use it. Both must.

    `models` are ids, "provider/id", or patterns of either ("gpt-4*", "openai/*"; upper and lower case differ). A model
    without a tier (embeddings) is in none of `tiers`: where those are given, it must be in `models`.
    """
    if models is not None and not any(_is(model, pattern) for pattern in models):
        return False
    if tiers is None or model.tier in tiers:
        return True
    return model.tier == 0 and models is not None


def _is(model: Offered, pattern: str) -> bool:
    full = f"{model.provider}/{model.id}"
    # Equality first: an id may hold a bracket, which a pattern would take for a class of characters.
    return pattern in (model.id, full) or fnmatchcase(model.id, pattern) or fnmatchcase(full, pattern)
