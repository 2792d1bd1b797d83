"""OpenRouter. https://openrouter.ai/docs

Its Claude Code guide sets ANTHROPIC_BASE_URL to https://openrouter.ai/api and the key as a bearer token. Responses are
beta; embeddings: https://openrouter.ai/docs/api_reference/embeddings. Of count_tokens its pages say nothing.
"""

from __future__ import annotations

from aion_extproc.providers import anthropic
from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget

KIND = Kind(
    name="openrouter",
    origin="https://openrouter.ai",
    bases={Format.OPENAI: "/api/v1", Format.ANTHROPIC: "/api"},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES, Endpoint.EMBEDDINGS}),
    chat=lambda _: ChatTarget(
        reasoning_effort=True, reasoning="reasoning_details", cache_control=True, files=True
    ),
    messages=anthropic.messages,
    api_key_env=("OPENROUTER_API_KEY",),
    price_provider="openrouter",
    default_models=(
        DefaultModel("anthropic/claude-haiku-5.5", tier=1),
        DefaultModel("anthropic/claude-sonnet-5.5", tier=2),
        DefaultModel("anthropic/claude-opus-5.5", tier=3),
    ),
)
