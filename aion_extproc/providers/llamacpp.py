"""llama.cpp's llama-server. /v1/messages since pull request 17570 (December 2025)

8081 rather than its own default 8080, which is the gateway's.
"""

from __future__ import annotations

from aion_extproc.providers.base import Kind
from aion_extproc.wire.format import Format

KIND = Kind(
    name="llama.cpp",
    origin="http://127.0.0.1:8081",
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: ""},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    local=True,
)
