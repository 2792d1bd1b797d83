"""MiniMax. https://platform.minimax.io/docs/api-reference/text-anthropic-api"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.format import Format

KIND = Kind(
    name="minimax",
    origin="https://api.minimax.io",
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: "/anthropic"},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "x-api-key"},
    api_key_env=("MINIMAX_API_KEY",),
    price_provider="minimax",
    default_models=(
        DefaultModel("MiniMax-M3.1-Flash", tier=1),
        DefaultModel("MiniMax-M2.7", tier=2),
        DefaultModel("MiniMax-M3", tier=3),
    ),
)
