"""The mix of 1,000 prompts: ten categories, in the numbers of AION's benchmark, generated from a seed.

A prompt is made of one of the category's sixty and more templates (`prompts/<category>.txt`), its slots filled. Every
template is used before one comes again, and nothing that is asked is asked twice. A confirmation has what it confirms
before it: something the user asked for and what the assistant proposed.

How long its answer will be is assumed: a number of tokens between the two that `ANSWERS` has for the category, drawn
with the prompt, so that it does not depend on which model answers. A confirmation is answered like what it confirms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson

from aion_extproc.bench.wording import filled, lines, snippets, spread
from aion_extproc.wire.format import Format

COUNTS: Final[Mapping[str, int]] = {
    "greetings": 100,
    "factual": 120,
    "simple_code": 100,
    "explanation": 100,
    "code_generation": 120,
    "debug": 100,
    "review": 80,
    "analysis": 80,
    "architecture": 100,
    "confirmations": 100,
}
# Tokens of an answer, at least and at most.
ANSWERS: Final[Mapping[str, tuple[int, int]]] = {
    "greetings": (10, 50),
    "factual": (15, 120),
    "simple_code": (30, 200),
    "explanation": (250, 700),
    "code_generation": (300, 1_000),
    "debug": (250, 800),
    "review": (200, 700),
    "analysis": (300, 900),
    "architecture": (900, 2_500),
}
MAX_TOKENS: Final = 8_192
_MOST_TRIES = 100


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation whose last turn is the user's."""

    category: str
    turns: tuple[tuple[str, str], ...]  # (role, text): the user's and the assistant's by turns
    answer_tokens: int  # assumed

    def body(self, format: Format, model: str = "aion-auto") -> bytes:
        """The request as a client sends it."""
        messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in self.turns]
        limit = "max_tokens" if format is Format.ANTHROPIC else "max_completion_tokens"
        return orjson.dumps({"model": model, limit: MAX_TOKENS, "messages": messages})


def generate(seed: int) -> tuple[Prompt, ...]:
    """All categories' prompts, shuffled. The same seed gives the same prompts."""
    prompts: list[Prompt] = []
    for category, count in COUNTS.items():
        # Of its own seed: what is changed in one category leaves the others as they are.
        rng = Random(f"{category}/{seed}")
        prompts += _confirmations(count, rng) if category == "confirmations" else _asked(category, count, rng)
    Random(f"order/{seed}").shuffle(prompts)
    return tuple(prompts)


def _asked(category: str, count: int, rng: Random) -> Iterator[Prompt]:
    said: set[str] = set()
    for template in spread(lines(category), count, rng):
        text = _new(category, template, said, rng)
        yield Prompt(category, (("user", text),), rng.randint(*ANSWERS[category]))


def _new(category: str, template: str, said: set[str], rng: Random) -> str:
    """A text that was not said yet, of another template where this one has no more."""
    for _ in range(_MOST_TRIES):
        text = filled(template, rng)
        if text not in said:
            said.add(text)
            return text
        template = rng.choice(lines(category))
    raise AssertionError(f"too few texts in {category}")


def _confirmations(count: int, rng: Random) -> Iterator[Prompt]:
    phrases = spread(lines("confirm_phrases"), count, rng)
    for phrase, context in zip(phrases, spread(lines("confirm_contexts"), count, rng), strict=True):
        # Request and proposal are filled together: what they speak of is the same.
        request, _, proposal = filled(context, rng).partition(" => ")
        proposed, like = _proposal(proposal, rng)
        yield Prompt(
            "confirmations",
            (("user", request), ("assistant", proposed), ("user", phrase)),
            rng.randint(*ANSWERS[like]),
        )


def _proposal(text: str, rng: Random) -> tuple[str, str]:
    """The proposal with its parts, and the category whose answers are as long as what follows."""
    like = "architecture" if "@plan@" in text else "code_generation" if "@code@" in text else "greetings"
    if "@plan@" in text:
        steps = rng.sample(lines("plan_steps"), rng.randint(3, 6))
        plan = "\n".join(f"{number}. {filled(step, rng)}." for number, step in enumerate(steps, 1))
        text = text.replace("@plan@", plan)
    blocks = [f"```\n{code}\n```" for code in rng.sample(snippets("code"), 2)]
    return text.replace("@codes@", "\n\n".join(blocks)).replace("@code@", blocks[0]), like
