"""Gateways whose only provider speaks the format that the client does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from aion_extproc.wire.format import Format
from tests.support.configs import ANTHROPIC_KEY, FORGETFUL, OPENAI_KEY
from tests.support.gateway import Gateway, running
from tests.support.scripted import Scripted

# Real names, for what a model takes goes by its name. The price of a million input tokens is next to each.
CLAUDE = {"claude-haiku-4-5": (1, 1), "claude-opus-4-5": (2, 5), "claude-opus-5-5": (3, 10)}
GPT = {"gpt-4.1-mini": (1, 0.5), "gpt-5-mini": (2, 1), "o4-mini": (2, 2), "gpt-5.4": (2, 3), "gpt-6": (3, 8)}
# Models whose breaker a test may trip. Nobody else is sent there.
FAILING = ("fails-429", "fails-503")


def _models(models: Mapping[str, tuple[int, float]], vendor: str) -> list[dict[str, Any]]:
    priced = {**models, **{f"{vendor}-{name}": (3, 50) for name in FAILING}}
    return [
        {
            "id": name,
            "tier": tier,
            "input_price_per_1m": price,
            "output_price_per_1m": price * 4,
            "cache_read_price_per_1m": price / 10,
            "cache_write_price_per_1m": price * 1.25,
        }
        for name, (tier, price) in priced.items()
    ]


@pytest.fixture(scope="session")
def shared_claude() -> Iterator[Scripted]:
    with Scripted(Format.ANTHROPIC, ANTHROPIC_KEY) as provider:
        yield provider


@pytest.fixture(scope="session")
def shared_gpt() -> Iterator[Scripted]:
    with Scripted(Format.OPENAI, OPENAI_KEY) as provider:
        yield provider


@pytest.fixture
def claude(shared_claude: Scripted) -> Iterator[Scripted]:
    """Speaks Anthropic's format only. What it was sent must have been as Anthropic publishes it."""
    yield from _checked(shared_claude)


@pytest.fixture
def gpt(shared_gpt: Scripted) -> Iterator[Scripted]:
    """Speaks chat completions only, as OpenAI publishes them."""
    yield from _checked(shared_gpt)


def _checked(provider: Scripted) -> Iterator[Scripted]:
    provider.reset()
    yield provider
    problems = list(provider.problems)
    provider.reset()
    assert not problems, "The provider would have refused what it was sent:\n" + "\n".join(problems)


@pytest.fixture(scope="session")
def shared_claude_gateway(shared_claude: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    only = {"api_key": ANTHROPIC_KEY, "base_url": shared_claude.url, "models": _models(CLAUDE, "claude")}
    config = {"providers": {"anthropic": only}, "routing": FORGETFUL}
    with running(tmp_path_factory.mktemp("claude-only"), config) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def shared_gpt_gateway(shared_gpt: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    only = {"api_key": OPENAI_KEY, "base_url": f"{shared_gpt.url}/v1", "models": _models(GPT, "gpt-4.1")}
    config = {"providers": {"openai": only}, "routing": FORGETFUL}
    with running(tmp_path_factory.mktemp("gpt-only"), config) as gateway:
        yield gateway


@pytest.fixture
def claude_gateway(shared_claude_gateway: Gateway, claude: Scripted) -> Gateway:
    """There are only Anthropic's models behind it."""
    return shared_claude_gateway


@pytest.fixture
def gpt_gateway(shared_gpt_gateway: Gateway, gpt: Scripted) -> Gateway:
    """There are only chat completions behind it."""
    return shared_gpt_gateway
