"""vLLM. https://docs.vllm.ai (vllm.entrypoints.anthropic: /v1/messages since 0.11)

Its --api-key is checked as a bearer token on every path.
"""

from __future__ import annotations

from aion_extproc.providers.base import Kind
from aion_extproc.wire.format import Format

KIND = Kind(
    name="vllm",
    origin="http://127.0.0.1:8000",
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: ""},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    local=True,
)
