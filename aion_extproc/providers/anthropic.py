"""Anthropic. https://docs.anthropic.com/en/api/messages

Its OpenAI-compatible endpoint drops fields, so it counts as speaking Anthropic only.
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.format import Format

KIND = Kind(
    name="anthropic",
    origin="https://api.anthropic.com",
    bases={Format.ANTHROPIC: ""},
    auth={Format.ANTHROPIC: "x-api-key"},
    api_key_env=("ANTHROPIC_API_KEY",),
    price_provider="anthropic",
    default_models=(
        DefaultModel("claude-haiku-5-5", tier=1),
        DefaultModel("claude-sonnet-5-5", tier=2),
        DefaultModel("claude-opus-5-5", tier=3),
    ),
)
