"""Chains that the configuration pins: for some requests these models in this order, each within its limits.

A limit is looked at when the request is decided, so it keeps a model out; it does not cut an answer short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aion_extproc.catalog.model import Model


@dataclass(frozen=True, slots=True)
class PinnedStep:
    """A model to try, at whichever of its providers is best."""

    models: tuple[Model, ...]  # none where its providers are switched off
    max_cost_nano: int | None = None  # for the request as it is expected to be
    max_first_byte: float | None = None  # seconds, as measured lately


@dataclass(frozen=True, slots=True)
class PinnedChain:
    """`asked` and `tier` say for which requests it is; None fits any."""

    number: int  # its place in the file, from 1
    asked: str | None
    tier: int | None
    steps: tuple[PinnedStep, ...]


def pinned(chains: Sequence[PinnedChain], asked: str, tier: int | None) -> PinnedChain | None:
    """The first chain for such a request. `tier`: the one it wants; None where it was not asked to be in one."""
    for chain in chains:
        if chain.asked in (None, asked) and chain.tier in (None, tier):
            return chain
    return None
