"""llama.cpp's llama-server. https://github.com/ggml-org/llama.cpp/tree/master/tools/server

/v1/messages and its count_tokens since pull request 17570 (December 2025). Embeddings need --embeddings. 8081 rather
than its own default 8080, which is the gateway's.
"""

from __future__ import annotations

from aion_extproc.providers.base import Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

KIND = Kind(
    name="llama.cpp",
    origin="http://127.0.0.1:8081",
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
    chat=lambda _: ChatTarget(reasoning="reasoning_content", user=False),
    messages=lambda _: MessagesTarget(thinking="budget", effort=False, json_schema=False, cache_control=False),
    local=True,
    health_path="/health",
)
