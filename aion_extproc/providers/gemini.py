"""Google Gemini by its OpenAI-compatible endpoint. https://ai.google.dev/gemini-api/docs/openai

That page shows images as data URLs only, and says nothing of parallel_tool_calls and user.
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget

KIND = Kind(
    name="gemini",
    origin="https://generativelanguage.googleapis.com",
    bases={Format.OPENAI: "/v1beta/openai"},
    auth={Format.OPENAI: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.EMBEDDINGS}),
    chat=lambda _: ChatTarget(reasoning_effort=True, image_urls=False, parallel_tool_calls=False, user=False),
    api_key_env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    price_provider="google",
    default_models=(
        DefaultModel("gemini-3.5-flash-lite", tier=1),
        DefaultModel("gemini-3.8-flash", tier=2),
        DefaultModel("gemini-4-argon", tier=3),
    ),
)
