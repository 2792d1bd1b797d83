"""What the benchmarks cost: always the strong model, each request decided by itself, and with session affinity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import orjson

from aion_extproc.accounting.usage import Usage
from aion_extproc.bench import mix, session
from aion_extproc.bench.play import AUTO, STRONG, Played, Player, bench_policy
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.classify.classifier import Classifier
from aion_extproc.config.schema import Settings
from aion_extproc.wire.format import Format
from aion_extproc.wire.reading import estimate_input_tokens
from aion_extproc.wire.request import parse

TIERS: Final = (1, 2, 3)
ALWAYS_STRONG: Final = "always strong"
ALONE: Final = "routed, each by itself"
AFFINITY: Final = "routed, session affinity"


@dataclass(frozen=True)
class Run:
    """All requests under one rule, in their order."""

    played: Sequence[Played]

    @cached_property
    def cost_nano(self) -> int:
        """Prompt caches counted."""
        return sum(one.cost_nano for one in self.played)

    @cached_property
    def uncached_nano(self) -> int:
        """The same requests at the same models, without prompt caches."""
        return sum(one.uncached_nano for one in self.played)

    @cached_property
    def tier_shares(self) -> Mapping[int, float]:
        """Of the models that served."""
        counts = Counter(one.tier for one in self.played)
        return {tier: counts[tier] / len(self.played) for tier in TIERS}

    @cached_property
    def switches(self) -> int:
        """How often a request went to another model than the one before."""
        models = [(one.provider, one.model) for one in self.played]
        return sum(a != b for a, b in pairwise(models))

    @cached_property
    def usage(self) -> Usage:
        """Of all requests together."""
        return Usage(
            input_tokens=sum(one.usage.input_tokens for one in self.played),
            output_tokens=sum(one.usage.output_tokens for one in self.played),
            cache_read_tokens=sum(one.usage.cache_read_tokens for one in self.played),
            cache_write_tokens=sum(one.usage.cache_write_tokens for one in self.played),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark. `groups`: of each request, its category or its kind of task."""

    name: str
    seed: int
    format: Format
    groups: Sequence[str]
    runs: Mapping[str, Run]

    def by_group(self) -> Mapping[str, Mapping[int, int]]:
        """How many requests of each group the classifier, asked for each by itself, puts on which tier."""
        found: dict[str, Counter[int]] = {}
        for group, played in zip(self.groups, self.runs[ALONE].played, strict=True):
            found.setdefault(group, Counter())[played.wanted] += 1
        return {group: {tier: counts[tier] for tier in TIERS} for group, counts in sorted(found.items())}


def run_mix(settings: Settings, catalog: Catalog, classifier: Classifier, seed: int) -> Report:
    """The 1,000 prompts, each a conversation of its own: there is nothing to be kept or cached."""
    prompts, format = mix.generate(seed), native_format(catalog)
    runs = {}
    for name, model in ((ALWAYS_STRONG, STRONG), (ALONE, AUTO)):
        player = Player(bench_policy(settings, catalog, classifier, sessions=False), format)
        runs[name] = Run([player.play(prompt.body(format, model), prompt.answer_tokens) for prompt in prompts])
    return Report("mix", seed, format, [prompt.category for prompt in prompts], runs)


def run_session(settings: Settings, catalog: Catalog, classifier: Classifier, seed: int) -> Report:
    """The 200 steps."""
    played_session, format = session.generate(seed), native_format(catalog)
    answers = [_answer_tokens(played_session, step, format) for step in played_session.steps]
    runs = {}
    for name, model, sessions in ((ALWAYS_STRONG, STRONG, False), (ALONE, AUTO, False), (AFFINITY, AUTO, True)):
        player = Player(bench_policy(settings, catalog, classifier, sessions=sessions), format)
        played = []
        steps = zip(played_session.steps, played_session.bodies(format, model), answers, strict=True)
        for step, body, answer_tokens in steps:
            player.now += step.pause
            played.append(player.play(body, answer_tokens))
        runs[name] = Run(played)
    return Report("session", seed, format, [step.kind for step in played_session.steps], runs)


def native_format(catalog: Catalog) -> Format:
    """The API that most of the models with a tier speak; Anthropic's where that is as good."""
    speaking = Counter(format for model in catalog.models if model.tier for format in model.formats)
    return max((Format.ANTHROPIC, Format.OPENAI), key=lambda format: speaking[format])


def _answer_tokens(played: session.Session, step: session.Step, format: Format) -> int:
    """The step's answer, counted as input is: as the only message of a request."""
    body = orjson.dumps({"model": AUTO, "messages": [played.answer(step, format)]})
    return estimate_input_tokens(parse(body, format))
