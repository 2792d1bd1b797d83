"""Which models a key may use."""

from __future__ import annotations

import pytest

from aion_extproc.catalog.allowed import allowed
from aion_extproc.catalog.model import Model


def model(id_: str, provider: str = "openai", tier: int = 1) -> Model:
    return Model(id_, provider, tier, None, None, False, frozenset())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("gpt-5.4-mini", True),
        ("openai/gpt-5.4-mini", True),
        ("gpt-5*", True),
        ("*mini", True),
        ("openai/*", True),
        ("*", True),
        ("gpt-5.4-mini?", False),
        ("gpt-5.4", False),
        ("GPT-5.4-MINI", False),
        ("anthropic/*", False),
        ("anthropic/gpt-5.4-mini", False),
        ("gpt-5.4-mini/openai", False),
        ("openai", False),
        ("gpt-5x4-mini", False),
    ],
)
def test_patterns_are_of_the_id_or_of_provider_and_id(pattern: str, expected: bool) -> None:
    assert allowed(model("gpt-5.4-mini"), (pattern,), None) is expected
    assert allowed(model("gpt-5.4-mini"), ("other", pattern), None) is expected


def test_an_id_with_slashes_and_brackets_of_its_own() -> None:
    odd = model("meta/llama[70b]", "openrouter")
    for pattern in ("meta/llama[70b]", "openrouter/meta/llama[70b]", "meta/*", "openrouter/meta/*"):
        assert allowed(odd, (pattern,), None)
    assert not allowed(odd, ("meta",), None)


@pytest.mark.parametrize("tier", [1, 2, 3])
def test_tiers(tier: int) -> None:
    assert allowed(model("m", tier=tier), None, None)
    assert allowed(model("m", tier=tier), None, (1, 2)) is (tier != 3)
    assert allowed(model("m", tier=tier), ("m",), (1, 2)) is (tier != 3)
    assert not allowed(model("m", tier=tier), ("n",), (1, 2, 3))


def test_a_model_without_a_tier_must_be_named_where_tiers_are() -> None:
    embedding = model("embed-1", tier=0)
    assert allowed(embedding, None, None)
    assert not allowed(embedding, None, (1, 2, 3))
    assert allowed(embedding, ("embed-*",), (1,))
    assert not allowed(embedding, ("gpt-*",), (1,))


def test_no_pattern_takes_long() -> None:
    assert not allowed(model("a" * 256), ("*a" * 100 + "b",), None)
