"""Ollama. https://docs.ollama.com/api/openai-compatibility and /api/anthropic-compatibility

By those pages: no image URLs, no count_tokens, no tool_choice, no prompt caching; a thinking budget is taken and not
kept to. Responses are stateless.
"""

from __future__ import annotations

from aion_extproc.providers.base import Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

KIND = Kind(
    name="ollama",
    origin="http://127.0.0.1:11434",
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: ""},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    endpoints=frozenset(
        {
            Endpoint.CHAT,
            Endpoint.MESSAGES,
            Endpoint.COMPLETIONS,
            Endpoint.EMBEDDINGS,
            Endpoint.RESPONSES,
        }
    ),
    chat=lambda _: ChatTarget(
        reasoning_effort=True, reasoning="reasoning", image_urls=False, parallel_tool_calls=False, user=False
    ),
    messages=lambda _: MessagesTarget(
        thinking="budget", effort=False, json_schema=False, image_urls=False, cache_control=False
    ),
    local=True,
    health_path="/",
)
