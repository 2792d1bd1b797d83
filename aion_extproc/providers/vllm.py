"""vLLM. https://docs.vllm.ai; /v1/messages since 0.11, /v1/messages/count_tokens later
(https://github.com/vllm-project/vllm/blob/main/vllm/entrypoints/anthropic/api_router.py and protocol.py: what the
latter does not name is ignored, thinking and cache_control among it).

Its --api-key is checked as a bearer token on every path.
"""

from __future__ import annotations

from aion_extproc.providers.base import Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

KIND = Kind(
    name="vllm",
    origin="http://127.0.0.1:8000",
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: ""},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    endpoints=frozenset(
        {
            Endpoint.CHAT,
            Endpoint.MESSAGES,
            Endpoint.COUNT_TOKENS,
            Endpoint.COMPLETIONS,
            Endpoint.EMBEDDINGS,
            Endpoint.RESPONSES,
        }
    ),
    chat=lambda _: ChatTarget(reasoning_effort=True, reasoning="reasoning"),
    messages=lambda _: MessagesTarget(thinking="", cache_control=False),
    local=True,
    health_path="/health",
)
