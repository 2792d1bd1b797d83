"""Together AI. https://docs.together.ai/docs/inference/openai-compatibility and …/inference/chat/reasoning"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget


def chat(model: str) -> ChatTarget:
    # Thinking comes in the member `reasoning`; whether it may be given back there could not be verified.
    return ChatTarget(reasoning_effort="gpt-oss" in model)


KIND = Kind(
    name="together",
    origin="https://api.together.ai",
    bases={Format.OPENAI: "/v1"},
    auth={Format.OPENAI: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS}),
    chat=chat,
    api_key_env=("TOGETHER_API_KEY",),
    price_provider="together",
    default_models=(
        DefaultModel("Qwen/Qwen3.5-9B", tier=1),
        DefaultModel("openai/gpt-oss-120b", tier=2),
        DefaultModel("deepseek-ai/DeepSeek-V4-Pro-0813", tier=3),
    ),
)
