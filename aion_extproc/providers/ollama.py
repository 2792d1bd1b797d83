"""Ollama. https://docs.ollama.com/api/openai-compatibility and /api/anthropic-compatibility"""

from __future__ import annotations

from aion_extproc.providers.base import Kind
from aion_extproc.wire.format import Format

KIND = Kind(
    name="ollama",
    origin="http://127.0.0.1:11434",
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: ""},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    local=True,
)
