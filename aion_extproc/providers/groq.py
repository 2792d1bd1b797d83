"""Groq. https://console.groq.com/docs/openai and https://console.groq.com/docs/reasoning

It refuses logprobs, logit_bias, messages[].name and n other than 1 with 400 (the first page).
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget


def chat(model: str) -> ChatTarget:
    # For other models levels of effort, the member that thinking comes in and json_schema could not be verified.
    oss = "gpt-oss" in model
    return ChatTarget(
        max_tokens="max_completion_tokens",
        reasoning_effort=oss,
        reasoning="reasoning" if oss else "",
        json_schema=oss,
    )


KIND = Kind(
    name="groq",
    origin="https://api.groq.com",
    bases={Format.OPENAI: "/openai/v1"},
    auth={Format.OPENAI: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.RESPONSES}),
    chat=chat,
    api_key_env=("GROQ_API_KEY",),
    price_provider="groq",
    # None of its models is for tier 3.
    default_models=(
        DefaultModel("openai/gpt-oss-20b", tier=1),
        DefaultModel("openai/gpt-oss-120b", tier=2),
    ),
)
