"""Configurations that several tests start from."""

from __future__ import annotations

from typing import Any

from tests.support.upstream import Upstream

OPENAI_KEY = "sk-secret-openai-1234567890"
ANTHROPIC_KEY = "sk-ant-secret-1234567890"
# Tests that ask the same of a shared gateway again and again: what was asked before must not matter.
FORGETFUL: dict[str, Any] = {"sessions": {"regeneration": 0, "cache_lifetime": 0}}


def two_providers(upstream: Upstream, **sections: Any) -> dict[str, Any]:
    """An OpenAI and an Anthropic provider, both at the upstream, a model a tier each."""

    def model(name: str, tier: int, price: float) -> dict[str, Any]:
        return {
            "id": name,
            "tier": tier,
            "input_price_per_1m": price,
            "output_price_per_1m": price * 4,
            "cache_read_price_per_1m": price / 10,
            "cache_write_price_per_1m": price * 1.25,
            "cache_write_1h_price_per_1m": price * 2,
        }

    routing = sections.setdefault("routing", {})
    routing.setdefault("sessions", FORGETFUL["sessions"])
    return {
        "providers": {
            "openai": {
                "api_key": OPENAI_KEY,
                "base_url": f"{upstream.url}/v1",
                "models": [
                    model("gpt-small", 1, 0.5),
                    model("gpt-mid", 2, 2),
                    model("gpt-large", 3, 10),
                    model("gpt-spare", 3, 12),  # chosen only by name: for tests that make a model look ill
                ],
            },
            "anthropic": {
                "api_key": ANTHROPIC_KEY,
                "base_url": upstream.url,
                "models": [model("claude-small", 1, 1), model("claude-mid", 2, 3), model("claude-large", 3, 15)],
            },
        },
        **sections,
    }


def one_format(upstream: Upstream, kind: str) -> dict[str, Any]:
    """Only the `openai` or only the `anthropic` provider: clients of the other API need a translation."""
    config = two_providers(upstream)
    config["providers"] = {kind: config["providers"][kind]}
    return config
