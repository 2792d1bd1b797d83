"""What went wrong with a configuration: every problem at once, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem. `line` counts from 1; 0 means that no line can be named."""

    line: int
    key: str  # dotted, "providers.openai.models[0].id"; "" for the whole file
    message: str  # what is wrong and what to do; never a secret

    def at(self, source: str) -> str:
        """`aion.yaml:12: providers.openai.modls: unknown key; did you mean "models"?`"""
        place = f"{source}:{self.line}" if self.line else source
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(Exception):
    """A configuration that cannot be used. `str` is one line a problem, in the order of the file."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(problem.at(source) for problem in self.problems))
