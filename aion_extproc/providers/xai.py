"""xAI. https://docs.x.ai/developers/rest-api-reference/inference

Its /v1/messages is "fully deprecated" by that page, so only the OpenAI format is used.
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.format import Format

KIND = Kind(
    name="xai",
    origin="https://api.x.ai",
    bases={Format.OPENAI: "/v1"},
    auth={Format.OPENAI: "bearer"},
    api_key_env=("XAI_API_KEY",),
    price_provider="x-ai",
    # The cheap "fast" models were retired in May 2026: https://docs.x.ai/docs/migration/may-15-retirement.
    # What would be tier 1 goes to tier 2.
    default_models=(
        DefaultModel("grok-4.3", tier=2),
        DefaultModel("grok-4.7", tier=3),
    ),
)
