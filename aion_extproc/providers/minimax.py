"""MiniMax. https://platform.minimax.io/docs/api-reference/text-anthropic-api

Its OpenAI format has the thinking of most models inside the content, in <think> tags; only M3.1-Flash gives it apart.
Which parameters it ignores could not be verified model by model.
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget


def chat(model: str) -> ChatTarget:
    apart = "M3.1-Flash" in model
    return ChatTarget(reasoning="reasoning_content" if apart else "", json_schema=False)


KIND = Kind(
    name="minimax",
    origin="https://api.minimax.io",
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: "/anthropic"},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "x-api-key"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES}),
    chat=chat,
    messages=lambda _: MessagesTarget(thinking="budget", effort=False, json_schema=False),
    api_key_env=("MINIMAX_API_KEY",),
    price_provider="minimax",
    default_models=(
        DefaultModel("MiniMax-M3.1-Flash", tier=1),
        DefaultModel("MiniMax-M2.7", tier=2),
        DefaultModel("MiniMax-M3", tier=3),
    ),
)
