"""The hand-written texts of `prompts/`, and how their slots are filled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from random import Random

_SLOT = re.compile(r"\{([a-z_]+)\}")


@cache
def lines(name: str) -> tuple[str, ...]:
    """The texts of `prompts/<name>.txt`: one a line, `\\n` in it is a line break; a line that begins with "# " is a
    comment."""
    return tuple(line.replace("\\n", "\n") for line in _text(name).splitlines() if line and not line.startswith("# "))


@cache
def slots() -> Mapping[str, tuple[str, ...]]:
    """What may stand for `{name}` in a text, by name."""
    named = (line.split(": ", 1) for line in _text("slots").splitlines() if line and not line.startswith("# "))
    return {name: tuple(values.split(" | ")) for name, values in named}


@cache
def snippets(kind: str) -> tuple[str, ...]:
    """Pieces of `code`, `trace` (errors) or `diff`, of several lines each."""
    parts = _text("snippets").split("### ")[1:]
    return tuple(body.rstrip("\n") for head, _, body in (part.partition("\n") for part in parts) if head == kind)


def filled(text: str, rng: Random) -> str:
    """The text with a value for each slot; a slot that is there twice gets the same one. What is no slot stays."""
    chosen: dict[str, str] = {}

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in chosen:
            values = snippets(name) if name in ("code", "trace", "diff") else slots().get(name, (found[0],))
            chosen[name] = rng.choice(values)
        return chosen[name]

    return _SLOT.sub(value, text)


def spread(texts: Sequence[str], count: int, rng: Random) -> list[str]:
    """So many of the texts in a random order, each as often as any other, or once more."""
    found: list[str] = []
    while len(found) < count:
        found += rng.sample(texts, min(len(texts), count - len(found)))
    return found


def _text(name: str) -> str:
    return files(__package__).joinpath("prompts", f"{name}.txt").read_text("utf-8")
