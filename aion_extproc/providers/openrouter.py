"""OpenRouter. https://openrouter.ai/docs

Its Claude Code guide sets ANTHROPIC_BASE_URL to https://openrouter.ai/api and the key as a bearer token.
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.format import Format

KIND = Kind(
    name="openrouter",
    origin="https://openrouter.ai",
    bases={Format.OPENAI: "/api/v1", Format.ANTHROPIC: "/api"},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    api_key_env=("OPENROUTER_API_KEY",),
    price_provider="openrouter",
    default_models=(
        DefaultModel("anthropic/claude-haiku-5.5", tier=1),
        DefaultModel("anthropic/claude-sonnet-5.5", tier=2),
        DefaultModel("anthropic/claude-opus-5.5", tier=3),
    ),
)
