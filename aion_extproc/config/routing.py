"""The routing section: how a model is chosen, which chains are pinned, what is remembered of a conversation."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from aion_extproc.catalog.catalog import VIRTUAL_MODELS
from aion_extproc.catalog.model import Mode
from aion_extproc.classify.classification import Mode as ClassifierMode
from aion_extproc.classify.tasks import TASKS
from aion_extproc.config.values import Amount, Duration, DurationOrZero, HeaderText, Name, Section, fault
from aion_extproc.routing.decision import MAX_ATTEMPTS

_SHOWN = 8  # names listed where none is like the unknown one


class Classifier(Section):
    """score < tier1_threshold → tier 1, ≤ tier2_threshold → tier 2, above → tier 3."""

    mode: ClassifierMode = "learned"
    tier1_threshold: Annotated[float, Field(ge=0, le=1)] = 0.35
    tier2_threshold: Annotated[float, Field(ge=0, le=1)] = 0.70

    @model_validator(mode="after")
    def _ordered(self) -> Classifier:
        if self.tier1_threshold > self.tier2_threshold:
            raise fault("must not be above tier2_threshold", "tier1_threshold")
        return self


class TaskSettings(Section):
    """The tiers that a task's requests for aion-auto may have."""

    min_tier: Annotated[int, Field(ge=1, le=3)] = 1
    max_tier: Annotated[int, Field(ge=1, le=3)] = 3

    @model_validator(mode="after")
    def _ordered(self) -> TaskSettings:
        if self.min_tier > self.max_tier:
            raise fault("must not be above max_tier", "min_tier")
        return self


class ChainMatch(Section):
    """Which requests a chain is for: all that is given must fit."""

    model: HeaderText | None = None  # what the client asks for, as it writes it
    tier: Annotated[int, Field(ge=1, le=3)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ChainMatch:
        if self.model is None and self.tier is None:
            raise fault("needs a model, a tier or both")
        if self.tier is not None and self.model not in (None, "aion-auto"):
            raise fault("only requests for aion-auto have a tier of their own; remove it", "tier")
        return self


class ChainStep(Section):
    """A model to try, and what it may cost and how long it may take to begin."""

    model: HeaderText
    provider: Name | None = None  # None: whichever has the model
    max_cost_usd: Amount | None = None
    max_first_byte: Duration | None = None


class ChainSettings(Section):
    """The models that some requests go to, in place of what the strategy would choose."""

    match: ChainMatch
    steps: tuple[ChainStep, ...]

    @field_validator("steps", mode="after")
    @classmethod
    def _few(cls, value: tuple[ChainStep, ...]) -> tuple[ChainStep, ...]:
        if not 1 <= len(value) <= MAX_ATTEMPTS:
            raise fault(f"must have 1 to {MAX_ATTEMPTS} steps")
        seen = set()
        for index, step in enumerate(value):
            place = (step.provider, step.model)
            if place in seen:
                raise fault("this step is there twice; drop one", index, "model")
            seen.add(place)
        return value


class SessionSettings(Section):
    """What a conversation keeps from one turn to the next."""

    hysteresis: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    cache_lifetime: DurationOrZero = 300.0  # Anthropic's and OpenAI's: five minutes since it was last read
    regeneration: DurationOrZero = 60.0
    expire_after: Duration = 3600.0


class Routing(Section):
    """How a model is chosen among those of a tier."""

    strategy: Literal["cheapest", "fallback"] = "cheapest"
    classifier: Classifier = Classifier()
    tasks: dict[str, TaskSettings] = Field(default_factory=dict)
    fallback_enabled: bool = True
    prefer_native: bool = True  # within a tier, models that speak the client's format come first
    chains: tuple[ChainSettings, ...] = ()
    baseline: HeaderText | None = None  # "id" or "provider/id": what everything would have cost there is in the ledger
    sessions: SessionSettings = SessionSettings()

    @field_validator("tasks", mode="after")
    @classmethod
    def _known_tasks(cls, value: dict[str, TaskSettings]) -> dict[str, TaskSettings]:
        for task in value:
            if task not in TASKS:
                raise fault(_unknown("task", task, TASKS), task)
        return value


def check_chains(chains: Sequence[ChainSettings], known: Mapping[str, Mapping[str, Mode]]) -> None:
    """That the chains name models that there are. `known`: provider → id → mode, those switched off included."""
    modes = {id: mode for models in known.values() for id, mode in models.items()}
    named = [*VIRTUAL_MODELS, *modes, *(f"{name}/{id}" for name, models in known.items() for id in models)]
    for number, chain in enumerate(chains):
        at = ("routing", "chains", number)
        asked = chain.match.model
        if asked is not None and asked not in named:
            raise fault(_unknown("model", asked, named), *at, "match", "model")
        for index, step in enumerate(chain.steps):
            here = (*at, "steps", index)
            if step.provider is not None and step.provider not in known:
                raise fault(_unknown("provider", step.provider, known), *here, "provider")
            there = modes if step.provider is None else known[step.provider]
            if step.model not in there:
                where = "" if step.provider is None else f" of {step.provider}"
                raise fault(_unknown(f"model{where}", step.model, there), *here, "model")
            if there[step.model] != "chat":
                raise fault("only chat models stand in for one another", *here, "model")


def check_baseline(baseline: str | None, known: Mapping[str, Mapping[str, Mode]]) -> None:
    """That it is one model. `known`: provider → id → mode, of the enabled providers."""
    if baseline is None:
        return
    having = [f"{name}/{id}" for name, models in known.items() for id in models if baseline in (id, f"{name}/{id}")]
    if not having:
        ids = {id for models in known.values() for id in models}
        raise fault(_unknown("enabled model", baseline, sorted(ids)), "routing", "baseline")
    if len(having) > 1:
        raise fault(f"several providers have it; say which: {', '.join(having)}", "routing", "baseline")


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    shown = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    return f'no {what} is called "{name}"; ' + (f'did you mean "{near[0]}"?' if near else f"there are {shown}")
