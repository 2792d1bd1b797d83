"""Moonshot AI (Kimi). https://platform.kimi.ai/docs/api/overview"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.format import Format

KIND = Kind(
    name="moonshot",
    origin="https://api.moonshot.ai",
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: "/anthropic"},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    api_key_env=("MOONSHOT_API_KEY",),
    price_provider="moonshotai",
    # It sells no small model: what would be tier 1 goes to tier 2.
    default_models=(
        DefaultModel("kimi-k2.6", tier=2),
        DefaultModel("kimi-k3.1-pro", tier=3),
    ),
)
